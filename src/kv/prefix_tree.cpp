#include "kv/prefix_tree.h"

#include <algorithm>

#include "base/check.h"

namespace bifocal::kv {
namespace {

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t limit = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(limit), b.begin()).first - a.begin());
}

bool lexicographically_less(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

std::span<const int32_t> PrefixTree::first_page(std::span<const int32_t> tokens) const {
  return tokens.first(std::min(tokens.size(), page_size_));
}

PrefixTree::Candidate PrefixTree::best_child(const Node& node, std::span<const int32_t> tokens) const {
  // In sorted order, what shares the longest prefix with `tokens` stands next to where `tokens` would stand.
  const auto key = first_page(tokens);
  const auto at = std::lower_bound(node.children.begin(), node.children.end(), key,
                                   [this](const Node* child, auto wanted) {
                                     return lexicographically_less(first_page(child->tokens), wanted);
                                   });
  Candidate best;
  const auto consider = [&](Node* child) {
    const size_t shared = common_prefix(first_page(child->tokens), key);
    if (shared > best.num_tokens) best = {child, shared};
  };
  if (at != node.children.end()) consider(*at);
  if (at != node.children.begin()) consider(*std::prev(at));
  return best;
}

PrefixTree::Node* PrefixTree::descend(Node* root, std::span<const int32_t> tokens,
                                      std::vector<PageId>& path) {
  ++tick_;
  Node* node = root;
  while (tokens.size() >= page_size_) {
    const Candidate next = best_child(*node, tokens);
    if (next.num_tokens < page_size_) break;
    node = next.node;
    const size_t same_pages = common_prefix(node->tokens, tokens) / page_size_;
    if (same_pages * page_size_ < node->tokens.size()) split(node, same_pages);
    touch(node);
    path.insert(path.end(), node->pages.begin(), node->pages.end());
    tokens = tokens.subspan(same_pages * page_size_);
  }
  return node;
}

PrefixMatch PrefixTree::match(uint64_t cache_namespace, std::span<const int32_t> tokens, bool inside_pages) {
  PrefixMatch match;
  const auto root = roots_.find(cache_namespace);
  if (root == roots_.end()) return match;
  const Node* node = descend(root->second, tokens, match.pages);
  const Candidate partial = best_child(*node, tokens.subspan(match.pages.size() * page_size_));
  if (partial.node != nullptr && inside_pages) {
    match.partial_page = partial.node->pages.front();
    match.partial_tokens = static_cast<int>(partial.num_tokens);
  }
  if (pool_.window() != nullptr) shorten(*pool_.window(), &match);
  return match;
}

void PrefixTree::shorten(const WindowPages& window, PrefixMatch* match) const {
  const auto page_size = static_cast<int64_t>(page_size_);
  size_t usable = 0;
  size_t run_begin = 0;  // pages [run_begin, i) have window pages
  const auto continues_at = [&](int64_t position) {
    return static_cast<size_t>(window.first_page(position)) >= run_begin;
  };
  for (size_t i = 0; i < match->pages.size(); ++i) {
    if (window.of(match->pages[i]) == kNoPage) run_begin = i + 1;
    const auto position = static_cast<int64_t>(i + 1) * page_size;
    if (continues_at(position)) usable = i + 1;
  }
  if (match->partial_page != kNoPage && window.of(match->partial_page) != kNoPage &&
      continues_at(static_cast<int64_t>(match->pages.size()) * page_size + match->partial_tokens)) {
    return;
  }
  match->pages.resize(usable);
  match->partial_page = kNoPage;
  match->partial_tokens = 0;
}

void PrefixTree::insert(uint64_t cache_namespace, std::span<const int32_t> tokens, std::span<PageId> pages) {
  BIFOCAL_CHECK_EQ(pages.size(), (tokens.size() + page_size_ - 1) / page_size_);
  if (tokens.empty()) return;
  Node*& root = roots_[cache_namespace];
  if (root == nullptr) root = new_node(nullptr, cache_namespace);

  std::vector<PageId> path;
  Node* node = descend(root, tokens, path);
  for (size_t i = 0; i < path.size(); ++i) {
    if (pages[i] != path[i]) pool_.replace(pages[i], path[i]);
  }

  const auto rest = tokens.subspan(path.size() * page_size_);
  const auto rest_pages = pages.subspan(path.size());
  if (rest.empty()) return;
  const Candidate next = best_child(*node, rest);
  if (next.num_tokens == rest.size()) return;  // a cached page starts with all that is left
  if (next.node != nullptr && next.num_tokens == next.node->tokens.size()) {
    // A partly filled page that ours continues. No other child starts with its tokens, so the order stays.
    touch(next.node);
    remove_last_page(next.node);
    take(next.node, rest, rest_pages);
  } else if (is_leaf(node)) {
    take(node, rest, rest_pages);
  } else {
    add_child(node, rest, rest_pages);
  }
}

int PrefixTree::evict(int num_pages) {
  int freed = 0;
  auto it = leaves_.begin();
  while (freed < num_pages && it != leaves_.end()) {
    Node* leaf = it->second;
    while (freed < num_pages && !leaf->pages.empty() && pool_.ref_count(leaf->pages.back()) == 1) {
      remove_last_page(leaf);
      ++freed;
    }
    if (!leaf->pages.empty()) {  // locked, or enough is free
      ++it;
      continue;
    }
    const uint64_t last_used = leaf->last_used;
    erase_empty(leaf);
    it = leaves_.lower_bound({last_used, nullptr});  // a parent that became a leaf was used no earlier
  }
  return freed;
}

void PrefixTree::clear() {
  for (const Node& node : nodes_) {
    for (const PageId page : node.pages) pool_.remove_from_tree(page);
  }
  leaves_.clear();
  roots_.clear();
  nodes_.clear();
  num_pages_ = 0;
}

PrefixTree::Node* PrefixTree::new_node(Node* parent, uint64_t cache_namespace) {
  Node& node = nodes_.emplace_back();
  node.self = std::prev(nodes_.end());
  node.parent = parent;
  node.cache_namespace = cache_namespace;
  return &node;
}

void PrefixTree::add_child(Node* parent, std::span<const int32_t> tokens, std::span<const PageId> pages) {
  if (is_leaf(parent)) leaves_.erase({parent->last_used, parent});
  Node* child = new_node(parent, parent->cache_namespace);
  child->last_used = tick_;
  take(child, tokens, pages);
  const auto at = std::lower_bound(
      parent->children.begin(), parent->children.end(), child, [this](const Node* a, const Node* b) {
        return lexicographically_less(first_page(a->tokens), first_page(b->tokens));
      });
  parent->children.insert(at, child);
  leaves_.emplace(child->last_used, child);
}

void PrefixTree::split(Node* node, size_t num_pages) {
  const bool was_leaf = is_leaf(node);
  if (was_leaf) leaves_.erase({node->last_used, node});
  Node* tail = new_node(node, node->cache_namespace);
  tail->last_used = node->last_used;
  tail->tokens.assign(node->tokens.begin() + static_cast<ptrdiff_t>(num_pages * page_size_),
                      node->tokens.end());
  tail->pages.assign(node->pages.begin() + static_cast<ptrdiff_t>(num_pages), node->pages.end());
  node->tokens.resize(num_pages * page_size_);
  node->pages.resize(num_pages);
  tail->children.swap(node->children);
  for (Node* child : tail->children) child->parent = tail;
  node->children.push_back(tail);
  if (was_leaf) leaves_.emplace(tail->last_used, tail);
}

void PrefixTree::take(Node* node, std::span<const int32_t> tokens, std::span<const PageId> pages) {
  node->tokens.insert(node->tokens.end(), tokens.begin(), tokens.end());
  node->pages.insert(node->pages.end(), pages.begin(), pages.end());
  for (const PageId page : pages) pool_.add_to_tree(page);
  num_pages_ += static_cast<int>(pages.size());
}

void PrefixTree::remove_last_page(Node* node) {
  pool_.remove_from_tree(node->pages.back());
  node->pages.pop_back();
  node->tokens.resize(node->pages.size() * page_size_);
  --num_pages_;
}

void PrefixTree::touch(Node* node) {
  const bool leaf = is_leaf(node);
  if (leaf) leaves_.erase({node->last_used, node});
  node->last_used = tick_;
  if (leaf) leaves_.emplace(tick_, node);
}

void PrefixTree::erase_empty(Node* node) {
  leaves_.erase({node->last_used, node});
  Node* parent = node->parent;
  std::erase(parent->children, node);
  nodes_.erase(node->self);
  if (!parent->children.empty()) return;
  if (parent->parent != nullptr) {
    leaves_.emplace(parent->last_used, parent);  // its pages are next in line
  } else {
    roots_.erase(parent->cache_namespace);
    nodes_.erase(parent->self);
  }
}

void PrefixTree::check_invariants() const {
  size_t num_leaves = 0;
  int num_pages = 0;
  for (const Node& node : nodes_) {
    num_pages += static_cast<int>(node.pages.size());
    BIFOCAL_CHECK_EQ(node.pages.size(), (node.tokens.size() + page_size_ - 1) / page_size_);
    for (const PageId page : node.pages) BIFOCAL_CHECK(pool_.in_tree(page));
    if (node.parent == nullptr) {
      BIFOCAL_CHECK(node.pages.empty());
      BIFOCAL_CHECK(roots_.at(node.cache_namespace) == &node);
    } else {
      BIFOCAL_CHECK(!node.pages.empty());
      BIFOCAL_CHECK_EQ(node.parent->cache_namespace, node.cache_namespace);
      if (node.parent->parent != nullptr) BIFOCAL_CHECK_GE(node.parent->last_used, node.last_used);
    }
    if (is_leaf(&node)) {
      ++num_leaves;
      BIFOCAL_CHECK(leaves_.contains({node.last_used, const_cast<Node*>(&node)}));
    } else {
      BIFOCAL_CHECK_EQ(node.tokens.size() % page_size_, size_t{0});
    }
    // A locked page's whole prefix is locked.
    for (size_t i = 1; i < node.pages.size(); ++i) {
      if (pool_.ref_count(node.pages[i]) > 1) BIFOCAL_CHECK_GT(pool_.ref_count(node.pages[i - 1]), 1);
    }
    for (size_t i = 0; i < node.children.size(); ++i) {
      const Node* child = node.children[i];
      BIFOCAL_CHECK(child->parent == &node);
      if (node.parent != nullptr && pool_.ref_count(child->pages.front()) > 1) {
        BIFOCAL_CHECK_GT(pool_.ref_count(node.pages.back()), 1);
      }
      if (i == 0) continue;
      const auto before = first_page(node.children[i - 1]->tokens);
      const auto after = first_page(child->tokens);
      BIFOCAL_CHECK(lexicographically_less(before, after));
      BIFOCAL_CHECK_LT(common_prefix(before, after), before.size());  // no page is the start of another
    }
  }
  BIFOCAL_CHECK_EQ(num_leaves, leaves_.size());
  BIFOCAL_CHECK_EQ(num_pages, num_pages_);
}

}  // namespace bifocal::kv
