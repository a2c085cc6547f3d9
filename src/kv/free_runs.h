// Free pages as runs of neighbours, so that a sequence gets pages that lie one after another: memory is read
// faster in long runs, and found faster by the processor's prefetcher. Deterministic. Taking and giving back
// are O(log R) in the number of runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "kv/page_id.h"

namespace bifocal::kv {

class FreeRuns {
 public:
  explicit FreeRuns(int num_pages);  // all free

  int num_pages() const { return num_free_; }
  int num_runs() const { return static_cast<int>(by_length_.size()); }
  bool contains(PageId page) const { return other_end_[index(page)] != kNoPage; }

  // The page behind `after`, a page that is not free or kNoPage, if that is free. Otherwise one of the
  // longest run, of the lowest such, for the first of num_wanted pages: it leaves half of what they leave of
  // the run to the pages in front of it, whose sequence may grow too, and half to those that come behind.
  // kNoPage when none is free.
  PageId take(PageId after, int64_t num_wanted);
  void put(PageId page);  // one that is not free

 private:
  static size_t index(PageId page) { return static_cast<size_t>(page); }
  void add(PageId first, PageId last);
  void remove(PageId first, PageId last);

  // By page: of the first and last of a run the last and the first, kNoPage of one that is not free, anything
  // else of the others; and kNoPage behind the last.
  std::vector<PageId> other_end_;
  std::set<std::pair<int32_t, PageId>> by_length_;  // (-pages, first page)
  int num_free_;
};

}  // namespace bifocal::kv
