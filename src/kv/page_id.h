// Names of pages, and how many it takes.
#pragma once

#include <cstdint>

namespace bifocal::kv {

using PageId = int32_t;
constexpr PageId kNoPage = -1;
constexpr int kMaxPageSize = 256;  // tokens

// The pools that page ids come from.
enum class PageKind : uint8_t {
  full,    // kv::PagePool's pages
  window,  // kv::WindowPages'
};

// Pages that hold num_tokens tokens.
constexpr int64_t pages_for(int64_t num_tokens, int page_size) {
  return (num_tokens + page_size - 1) / page_size;
}

}  // namespace bifocal::kv
