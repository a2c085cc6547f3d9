#include "kv/window_pages.h"

#include "base/check.h"

namespace bifocal::kv {

WindowPages::WindowPages(const WindowLimits& limits, int page_size, int num_ids)
    : window_(limits.window),
      page_size_(page_size),
      slots_(static_cast<size_t>(limits.num_pages)),
      beside_(static_cast<size_t>(num_ids), kNoPage),
      in_tree_(static_cast<size_t>(num_ids), 0) {
  BIFOCAL_CHECK_GE(limits.window, 1);
  BIFOCAL_CHECK_GE(limits.num_pages, 1);
  free_.reserve(slots_.size());
  for (PageId page = limits.num_pages; page-- > 0;) free_.push_back(page);
}

WindowPages::Slot& WindowPages::slot(PageId page) {
  const PageId window_page = of(page);
  BIFOCAL_CHECK_NE(window_page, kNoPage);
  return slots_[index(window_page)];
}

int WindowPages::ref_count(PageId page) const {
  return of(page) == kNoPage ? 0 : slots_[index(of(page))].holders;
}

void WindowPages::put(PageId window_page, PageId page) {
  beside_[index(page)] = window_page;
  slots_[index(window_page)].page = page;
}

void WindowPages::free(PageId page) {
  Slot& freed = slot(page);
  free_.push_back(of(page));
  beside_[index(page)] = kNoPage;
  freed = Slot{};
}

void WindowPages::allocate(PageId page) {
  BIFOCAL_CHECK_EQ(of(page), kNoPage);
  if (free_.empty()) {
    BIFOCAL_CHECK(!cached_.empty());
    const PageId evicted = slots_[index(cached_.front())].page;
    cached_.pop_front();
    free(evicted);
  }
  put(free_.back(), page);
  free_.pop_back();
  slot(page).holders = 1;
}

void WindowPages::retain(PageId page) {
  Slot& held = slot(page);
  if (held.holders++ == 0) cached_.erase(held.place);
  held.reused = true;
}

void WindowPages::release(PageId page, bool slid) {
  Slot& released = slot(page);
  BIFOCAL_CHECK_GT(released.holders, 0);
  if (--released.holders > 0) return;
  if (in_tree_[index(page)] == 0) return free(page);
  released.place = cached_.insert(slid && !released.reused ? cached_.begin() : cached_.end(), of(page));
}

void WindowPages::move(PageId from, PageId to) {
  if (of(from) == kNoPage) return;
  if (of(to) != kNoPage) {
    retain(to);
    release(from, false);
    return;
  }
  Slot& moved = slot(from);
  BIFOCAL_CHECK_EQ(moved.holders, 1);
  moved.reused = true;  // its tokens were computed before
  put(of(from), to);
  beside_[index(from)] = kNoPage;
}

void WindowPages::add_to_tree(PageId page) {
  in_tree_[index(page)] = 1;
}

void WindowPages::remove_from_tree(PageId page) {
  in_tree_[index(page)] = 0;
  if (of(page) == kNoPage || slot(page).holders > 0) return;
  cached_.erase(slot(page).place);
  free(page);
}

}  // namespace bifocal::kv
