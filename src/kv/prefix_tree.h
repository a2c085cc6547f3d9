// Which pages hold the keys and values of which tokens: a radix tree over token ids, for reuse between
// requests.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "kv/page_pool.h"

namespace bifocal::kv {

// The longest cached prefix. The pages are not retained yet: share them before anything can evict.
struct PrefixMatch {
  std::vector<PageId> pages;      // whole pages, to be shared
  PageId partial_page = kNoPage;  // its first partial_tokens tokens match too: to be copied, then continued
  int partial_tokens = 0;         // 0 .. page_size - 1; 0 when partial_page is kNoPage
};

// Edges hold runs of tokens in whole pages; only a leaf may end in a partly filled page. Tokens are compared,
// hashes are never trusted, and nothing crosses namespaces. A page that a sequence holds (reference count
// above the tree's own) is locked, and so are its ancestors, because a sequence holds every page of its
// prefix. Eviction takes unlocked pages from the ends of the least recently used leaves.
class PrefixTree {
 public:
  // pool must outlive the tree.
  explicit PrefixTree(PagePool& pool) : pool_(pool), page_size_(static_cast<size_t>(pool.page_size())) {}
  ~PrefixTree() { clear(); }
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  // At most tokens.size() tokens; whole pages only unless inside_pages. Where layers have a window, only as
  // far as the window pages are still there that the row behind the prefix reads. Marks the whole pages as
  // used now.
  PrefixMatch match(uint64_t cache_namespace, std::span<const int32_t> tokens, bool inside_pages = true);

  // Remembers that pages[i] holds tokens [i*S, (i+1)*S); the last page may be partly filled. pages has
  // ceil(tokens/S) entries, each held by the caller. Where the tree already has a page for the same tokens,
  // it takes the place of the caller's (the references move with it), so that afterwards both share one
  // prefix.
  void insert(uint64_t cache_namespace, std::span<const int32_t> tokens, std::span<PageId> pages);

  // Frees up to num_pages pages and says how many.
  int evict(int num_pages);

  // Forgets everything. Pages that sequences hold stay theirs.
  void clear();

  int num_pages() const { return num_pages_; }
  size_t num_nodes() const { return nodes_.size(); }
  // Stops the process when the structure is broken; linear in the tree. For tests.
  void check_invariants() const;

 private:
  struct Node {
    std::vector<int32_t> tokens;  // of this node's pages
    std::vector<PageId> pages;
    std::vector<Node*> children;  // sorted by the tokens of their first page
    Node* parent = nullptr;       // null for the root of a namespace
    uint64_t last_used = 0;       // tick
    uint64_t cache_namespace = 0;
    std::list<Node>::iterator self;
  };
  // The child whose first page shares the most tokens with `tokens`, and how many.
  struct Candidate {
    Node* node = nullptr;
    size_t num_tokens = 0;
  };

  std::span<const int32_t> first_page(std::span<const int32_t> tokens) const;
  Candidate best_child(const Node& node, std::span<const int32_t> tokens) const;
  // Descends along whole pages of `tokens`, splitting the node it stops in, and marks the path as used now.
  // Returns the node that ends the path; pages along it are appended to `path`.
  Node* descend(Node* root, std::span<const int32_t> tokens, std::vector<PageId>& path);
  void shorten(const WindowPages& window, PrefixMatch* match) const;
  Node* new_node(Node* parent, uint64_t cache_namespace);
  void add_child(Node* parent, std::span<const int32_t> tokens, std::span<const PageId> pages);
  void split(Node* node, size_t num_pages);  // node keeps num_pages pages, a new child gets the rest
  void take(Node* node, std::span<const int32_t> tokens, std::span<const PageId> pages);  // append to node
  void remove_last_page(Node* node);
  void touch(Node* node);
  void erase_empty(Node* node);  // and its namespace when nothing else is in it
  bool is_leaf(const Node* node) const { return node->children.empty() && node->parent != nullptr; }

  PagePool& pool_;
  size_t page_size_;
  std::list<Node> nodes_;  // owns all: no recursion, whatever the depth
  std::map<uint64_t, Node*> roots_;
  std::set<std::pair<uint64_t, Node*>> leaves_;  // least recently used first
  uint64_t tick_ = 0;
  int num_pages_ = 0;
};

}  // namespace bifocal::kv
