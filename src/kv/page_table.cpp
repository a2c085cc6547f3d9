#include "kv/page_table.h"

#include <utility>

namespace bifocal::kv {

PageTable& PageTable::operator=(PageTable&& other) noexcept {
  if (this != &other) {
    clear();
    pool_ = other.pool_;
    pages_ = std::exchange(other.pages_, {});
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
  for (int64_t i = 0; i < missing; ++i) pages_.push_back(pool_->allocate());
  return true;
}

void PageTable::clear() {
  for (const PageId page : pages_) pool_->release(page);
  pages_.clear();
}

}  // namespace bifocal::kv
