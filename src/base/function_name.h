// Names of functions as a table or trace shows them.
#pragma once

#include <string>
#include <string_view>

namespace bifocal {

// "_ZN2ns4copyILi128EEEvPf" is "copy<128>": demangled, without return type, namespaces and parameters;
// template arguments stay as long as the whole has no more than kMaxFunctionNameBytes. What isn't mangled
// stays as it is.
std::string short_function_name(const std::string& symbol);
constexpr size_t kMaxFunctionNameBytes = 64;

}  // namespace bifocal
