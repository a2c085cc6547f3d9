// Memory for layers with a sliding window. Such a layer reads the last W keys only, so of a sequence's pages
// the few that its next rows can see have a window page beside them, which holds these layers' keys and
// values; the page itself holds those of the other layers. Pure bookkeeping, like PagePool, which owns it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <vector>

#include "kv/page_id.h"

namespace bifocal::kv {

struct WindowLimits {
  int window = 0;     // W, keys in sight, the current one included; 0: no layer has a window
  int num_pages = 0;  // window pages
};

// The most pages that the W keys of one row lie in. A row more takes one more page at most every S rows.
constexpr int64_t pages_in_window(int window, int page_size) {
  return pages_for(window - 1, page_size) + 1;
}

// Every window page is in exactly one of three states, and free + cached + owned = total:
//   free    it stands beside no page
//   cached  it stands beside a page of the prefix tree and is in nobody's window: whoever needs one may take
//   it owned   it is in the window of at least one sequence
// All operations are O(1).
class WindowPages {
 public:
  // num_ids: pages that there are to stand beside.
  WindowPages(const WindowLimits& limits, int page_size, int num_ids);

  int window() const { return window_; }
  int num_pages() const { return static_cast<int>(slots_.size()); }
  int free_pages() const { return static_cast<int>(free_.size()); }
  int cached_pages() const { return static_cast<int>(cached_.size()); }
  int owned_pages() const { return num_pages() - free_pages() - cached_pages(); }

  // The window page beside a page; kNoPage when there is none.
  PageId of(PageId page) const { return beside_[index(page)]; }
  // Holders of the window page beside a page.
  int ref_count(PageId page) const;
  // The first of a sequence's pages that a row at this position sees.
  int first_page(int64_t position) const {
    return static_cast<int>(std::max<int64_t>(0, position - window_ + 1) / page_size_);
  }

  // Puts a window page beside a page that has none, with one holder: a free one, or the cached one that is
  // next to go. There must be one.
  void allocate(PageId page);
  // One more holder of what stands beside the page: somebody makes use of computed keys again.
  void retain(PageId page);
  // One holder less. The last one frees it, or caches it if the prefix tree has the page. `slid`: the window
  // has gone past it. Of the cached ones, those that slid out of the only window they were ever in go first,
  // the latest first of all: a long prompt doesn't drive out the ends of others. Then the least recently
  // used.
  void release(PageId page, bool slid);
  // `to` takes the place of `from`, which holds the same tokens, in the window of from's holder.
  void move(PageId from, PageId to);

  // The prefix tree has taken the page, or has let go of it.
  void add_to_tree(PageId page);
  void remove_from_tree(PageId page);

 private:
  struct Slot {
    PageId page = kNoPage;  // that it stands beside
    int32_t holders = 0;
    bool reused = false;                // it was in several windows
    std::list<PageId>::iterator place;  // in cached_, without holders
  };
  static size_t index(PageId page) { return static_cast<size_t>(page); }
  Slot& slot(PageId page);
  void put(PageId window_page, PageId page);
  void free(PageId page);

  int window_;
  int page_size_;
  std::vector<Slot> slots_;       // by window page
  std::vector<PageId> beside_;    // by page: its window page
  std::vector<uint8_t> in_tree_;  // by page
  std::vector<PageId> free_;      // a stack
  std::list<PageId> cached_;      // window pages; the first goes first
};

}  // namespace bifocal::kv
