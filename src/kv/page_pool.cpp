#include "kv/page_pool.h"

#include "base/check.h"

namespace bifocal::kv {

PagePool::PagePool(int num_pages, int page_size, const WindowLimits& window)
    : free_(num_pages), page_size_(page_size) {
  BIFOCAL_CHECK_GE(page_size, 1);
  BIFOCAL_CHECK_LE(page_size, kMaxPageSize);
  pages_.resize(static_cast<size_t>(num_pages));
  if (window.window > 0) window_.emplace(window, page_size, num_pages);
}

const PagePool::Page& PagePool::at(PageId page) const {
  BIFOCAL_CHECK_GE(page, 0);
  BIFOCAL_CHECK_LT(page, num_pages());
  return pages_[static_cast<size_t>(page)];
}

PageId PagePool::allocate(PageId after, int64_t num_wanted) {
  const PageId page = free_.take(after, num_wanted);
  if (page != kNoPage) at(page).references = 1;
  return page;
}

void PagePool::retain(PageId id) {
  Page& page = at(id);
  BIFOCAL_CHECK_GT(page.references, 0);
  if (is_cached(page)) --cached_pages_;
  ++page.references;
}

void PagePool::release(PageId id) {
  Page& page = at(id);
  BIFOCAL_CHECK_GT(page.references,
                   page.in_tree ? 1 : 0);  // the tree's own reference leaves by remove_from_tree
  if (--page.references == 0) free_.put(id);
  if (is_cached(page)) ++cached_pages_;
}

void PagePool::retain_contents(PageId page) {
  retain(page);
  if (window_) window_->retain(page);
}

void PagePool::release_contents(PageId page) {
  if (window_) window_->release(page, false);
  release(page);
}

void PagePool::replace(PageId& held, PageId kept) {
  retain(kept);
  if (window_) window_->move(held, kept);
  release(held);
  held = kept;
}

void PagePool::add_to_tree(PageId id) {
  Page& page = at(id);
  BIFOCAL_CHECK_GT(page.references, 0);
  BIFOCAL_CHECK(!page.in_tree);
  page.in_tree = true;
  if (window_) window_->add_to_tree(id);
  ++page.references;
}

void PagePool::remove_from_tree(PageId id) {
  Page& page = at(id);
  BIFOCAL_CHECK(page.in_tree);
  if (is_cached(page)) --cached_pages_;
  page.in_tree = false;
  if (window_) window_->remove_from_tree(id);
  if (--page.references == 0) free_.put(id);
}

}  // namespace bifocal::kv
