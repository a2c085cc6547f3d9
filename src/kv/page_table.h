// The pages of one sequence, in order. Owns one reference to each and gives them back when it goes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/page_pool.h"

namespace bifocal::kv {

class PageTable {
 public:
  // pool must outlive the table.
  explicit PageTable(PagePool& pool) : pool_(&pool) {}
  ~PageTable() { clear(); }
  PageTable(PageTable&& other) noexcept : pool_(other.pool_), pages_(std::move(other.pages_)) {
    other.pages_.clear();
  }
  PageTable& operator=(PageTable&& other) noexcept;

  std::span<const PageId> pages() const { return pages_; }
  // For PrefixTree::insert, which may put its own page in the place of one with equal content.
  std::span<PageId> pages() { return pages_; }
  int num_pages() const { return static_cast<int>(pages_.size()); }
  int64_t capacity() const { return int64_t{num_pages()} * pool_->page_size(); }  // tokens

  // Appends pages that others hold as well; each gets one more reference.
  void share(std::span<const PageId> pages);
  // Appends free pages of the pool until num_tokens fit. False, and nothing changed, when too few are free.
  bool grow(int64_t num_tokens);
  void clear();

 private:
  PagePool* pool_;
  std::vector<PageId> pages_;
};

}  // namespace bifocal::kv
