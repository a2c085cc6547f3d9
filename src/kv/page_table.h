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
  PageTable(PageTable&& other) noexcept : pool_(other.pool_) { *this = std::move(other); }
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

  // Where layers have a window, the table holds the window pages of [window_begin(), window_end()); without,
  // these do nothing.
  int window_begin() const { return window_begin_; }
  int window_end() const { return window_end_; }
  // Once, behind share(): of the shared pages those that a row at this position sees. All must be there.
  void hold_window(int64_t position);
  // Gives the pages of the first num_tokens tokens that have none a window page.
  void extend_window(int64_t num_tokens);
  // Lets go of what rows from this position on don't see.
  void slide_window(int64_t position);

 private:
  PagePool* pool_;
  std::vector<PageId> pages_;
  int window_begin_ = 0;
  int window_end_ = 0;
};

}  // namespace bifocal::kv
