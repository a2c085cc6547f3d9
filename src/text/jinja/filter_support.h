// What the filters' two files share.
#pragma once

#include <array>
#include <string_view>
#include <utility>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace bifocal::text::jinja {

struct FilterEntry {
  std::string_view name;
  FilterFunction function;
};

// Filters on texts and numbers, and on lists.
FilterFunction find_scalar_filter(std::string_view name);
FilterFunction find_list_filter(std::string_view name);

template <size_t N>
FilterFunction find_in_table(const std::array<FilterEntry, N>& table, std::string_view name) {
  for (const FilterEntry& entry : table) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace bifocal::text::jinja
