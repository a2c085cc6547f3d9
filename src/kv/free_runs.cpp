#include "kv/free_runs.h"

#include <algorithm>

#include "base/check.h"

namespace bifocal::kv {

FreeRuns::FreeRuns(int num_pages) : other_end_(static_cast<size_t>(num_pages) + 1, 0), num_free_(num_pages) {
  BIFOCAL_CHECK_GE(num_pages, 1);
  other_end_.back() = kNoPage;
  add(0, num_pages - 1);
}

void FreeRuns::add(PageId first, PageId last) {
  if (first > last) return;
  other_end_[index(first)] = last;
  other_end_[index(last)] = first;
  by_length_.emplace(first - last - 1, first);
}

void FreeRuns::remove(PageId first, PageId last) {
  const size_t erased = by_length_.erase({first - last - 1, first});
  BIFOCAL_CHECK_EQ(erased, 1U);
}

PageId FreeRuns::take(PageId after, int64_t num_wanted) {
  if (by_length_.empty()) return kNoPage;
  PageId first = by_length_.begin()->second;
  PageId taken = kNoPage;
  if (after != kNoPage && contains(after + 1)) {
    first = taken = after + 1;
  } else {
    const int64_t left = -int64_t{by_length_.begin()->first} - num_wanted;
    // Nobody is in front of page 0.
    taken = first == 0 ? 0 : first + static_cast<PageId>(std::max<int64_t>(0, left / 2));
  }
  const PageId last = other_end_[index(first)];
  remove(first, last);
  add(first, taken - 1);
  add(taken + 1, last);
  other_end_[index(taken)] = kNoPage;
  --num_free_;
  return taken;
}

void FreeRuns::put(PageId page) {
  BIFOCAL_CHECK(!contains(page));
  PageId first = page;
  PageId last = page;
  if (page > 0 && contains(page - 1)) {
    first = other_end_[index(page - 1)];
    remove(first, page - 1);
  }
  if (contains(page + 1)) {
    last = other_end_[index(page + 1)];
    remove(page + 1, last);
  }
  other_end_[index(page)] = page;
  add(first, last);
  ++num_free_;
}

}  // namespace bifocal::kv
