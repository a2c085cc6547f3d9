#include "base/function_name.h"

#include <cxxabi.h>

#include <cctype>
#include <cstdlib>
#include <memory>

namespace bifocal {
namespace {

void erase_all(std::string& text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) {
    text.erase(at, part.size());
  }
}

bool is_of_a_name(char c) {
  return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// "a::b<c::d>::e" is "b<d>::e".
void erase_namespaces(std::string& text) {
  size_t from = 0;
  for (size_t at = text.find("::"); at != std::string::npos; at = text.find("::", from)) {
    size_t begin = at;
    while (begin > 0 && is_of_a_name(text[begin - 1])) --begin;
    from = begin < at ? begin : at + 2;
    if (begin < at) text.erase(begin, at + 2 - begin);
  }
}

// "(int)128" is "128".
void erase_casts(std::string& text) {
  for (size_t open = text.find('('); open != std::string::npos; open = text.find('(', open + 1)) {
    const size_t close = text.find(')', open);
    if (close == std::string::npos || close + 1 == text.size()) return;
    const char next = text[close + 1];
    if (next == '-' || std::isdigit(static_cast<unsigned char>(next)) != 0) {
      text.erase(open, close + 1 - open);
    }
  }
}

}  // namespace

std::string short_function_name(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> demangled(
      abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), std::free);
  if (status != 0) return symbol;
  std::string text = demangled.get();
  erase_all(text, "(anonymous namespace)::");
  erase_namespaces(text);
  size_t begin = 0;                // of the name, after its return type
  size_t arguments = text.size();  // of its template
  size_t end = text.size();        // before its parameters
  int depth = 0;
  for (size_t i = 0; i < text.size() && end == text.size(); ++i) {
    const char c = text[i];
    if (c == '<' && depth++ == 0) arguments = i;
    if (c == '>') --depth;
    if (depth > 0) continue;
    if (c == ' ') begin = i + 1;
    if (c == '(') end = i;
  }
  std::string name = text.substr(begin, end - begin);
  erase_casts(name);
  if (name.size() > kMaxFunctionNameBytes && arguments > begin && arguments < end) {
    return text.substr(begin, arguments - begin) + "<...>";
  }
  return name;
}

}  // namespace bifocal
