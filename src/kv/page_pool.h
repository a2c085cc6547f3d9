// A fixed number of KV pages with reference counts. Pure bookkeeping: the memory behind the ids is
// kv::KvCache's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kv/free_runs.h"
#include "kv/page_id.h"
#include "kv/window_pages.h"

namespace bifocal::kv {

// Every page is in exactly one of three states, and free + cached + owned = total:
//   free    on the free list, no references
//   cached  held by the prefix tree alone: eviction can free it
//   owned   held by at least one sequence (the prefix tree may hold it too)
// A page that the tree knows, or that has several references, is never written. All operations are O(log P).
class PagePool {
 public:
  PagePool(int num_pages, int page_size, const WindowLimits& window = {});

  int num_pages() const { return static_cast<int>(pages_.size()); }
  int page_size() const { return page_size_; }
  int free_pages() const { return free_.num_pages(); }
  int cached_pages() const { return cached_pages_; }
  int owned_pages() const { return num_pages() - free_pages() - cached_pages_; }
  // What a sequence could get, after eviction.
  int available_pages() const { return free_pages() + cached_pages_; }

  // One reference to the page behind `after`, where a sequence's last page is given, or to one with room for
  // num_wanted pages; see FreeRuns. kNoPage when none is free.
  PageId allocate(PageId after = kNoPage, int64_t num_wanted = 1);
  void retain(PageId page);
  void release(PageId page);  // the last reference frees it

  // For a page that is to be copied from: one more holder of it and of its window page.
  void retain_contents(PageId page);
  void release_contents(PageId page);
  // The caller's reference moves from `held` to `kept`, which holds the same tokens.
  void replace(PageId& held, PageId kept);

  // The prefix tree's own reference: a page in the tree is `cached` while nobody else holds it.
  void add_to_tree(PageId page);
  void remove_from_tree(PageId page);

  int ref_count(PageId page) const { return at(page).references; }
  bool in_tree(PageId page) const { return at(page).in_tree; }
  bool writable(PageId page) const { return at(page).references == 1 && !at(page).in_tree; }

  // Null when no layer has a window.
  WindowPages* window() { return window_ ? &*window_ : nullptr; }
  const WindowPages* window() const { return window_ ? &*window_ : nullptr; }

 private:
  struct Page {
    int32_t references = 0;
    bool in_tree = false;
  };
  const Page& at(PageId page) const;
  Page& at(PageId page) { return const_cast<Page&>(static_cast<const PagePool*>(this)->at(page)); }
  static bool is_cached(const Page& page) { return page.in_tree && page.references == 1; }

  std::vector<Page> pages_;
  FreeRuns free_;
  int page_size_;
  int cached_pages_ = 0;
  std::optional<WindowPages> window_;
};

}  // namespace bifocal::kv
