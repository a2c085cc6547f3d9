#include "kv/page_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace bifocal::kv {

PageTable& PageTable::operator=(PageTable&& other) noexcept {
  if (this != &other) {
    clear();
    pool_ = other.pool_;
    pages_ = std::exchange(other.pages_, {});
    window_begin_ = std::exchange(other.window_begin_, 0);
    window_end_ = std::exchange(other.window_end_, 0);
  }
  return *this;
}

void PageTable::share(std::span<const PageId> pages) {
  for (const PageId page : pages) {
    pool_->retain(page);
    pages_.push_back(page);
  }
}

bool PageTable::grow(int64_t num_tokens) {
  const int64_t missing = pages_for(num_tokens, pool_->page_size()) - num_pages();
  if (missing > pool_->free_pages()) return false;
  for (int64_t i = 0; i < missing; ++i) {
    pages_.push_back(pool_->allocate(pages_.empty() ? kNoPage : pages_.back(), missing - i));
  }
  return true;
}

void PageTable::hold_window(int64_t position) {
  WindowPages* window = pool_->window();
  if (window == nullptr) return;
  BIFOCAL_CHECK_EQ(window_end_, 0);
  window_begin_ = std::min(window->first_page(position), num_pages());
  window_end_ = num_pages();
  for (int i = window_begin_; i < window_end_; ++i) window->retain(pages_[static_cast<size_t>(i)]);
}

void PageTable::extend_window(int64_t num_tokens) {
  WindowPages* window = pool_->window();
  if (window == nullptr) return;
  const auto end = static_cast<int>(pages_for(num_tokens, pool_->page_size()));
  for (; window_end_ < end; ++window_end_) window->allocate(pages_[static_cast<size_t>(window_end_)]);
}

void PageTable::slide_window(int64_t position) {
  WindowPages* window = pool_->window();
  if (window == nullptr) return;
  const int begin = std::min(window->first_page(position), window_end_);
  for (; window_begin_ < begin; ++window_begin_) {
    window->release(pages_[static_cast<size_t>(window_begin_)], true);
  }
}

void PageTable::clear() {
  for (; window_begin_ < window_end_; ++window_begin_) {
    pool_->window()->release(pages_[static_cast<size_t>(window_begin_)], false);
  }
  window_begin_ = window_end_ = 0;
  for (const PageId page : pages_) pool_->release(page);
  pages_.clear();
}

}  // namespace bifocal::kv
