// The prefix tree against a naive one: a flat map from (namespace, whole prefix) to page.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/hash.h"
#include "kv/page_table.h"
#include "kv/prefix_tree.h"

namespace bifocal::kv {
namespace {

using Tokens = std::vector<int32_t>;
using Key = std::pair<uint64_t, Tokens>;  // a namespace and all tokens up to the end of one page

struct Entry {
  PageId page = kNoPage;
  uint64_t last_used = 0;
};

bool starts_with(const Tokens& tokens, const Tokens& prefix) {
  return tokens.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
}

class NaiveTree {
 public:
  explicit NaiveTree(const PagePool& pool) : pool_(pool), page_size_(static_cast<size_t>(pool.page_size())) {}

  struct Match {
    std::vector<PageId> pages;
    int partial_tokens = 0;
  };
  Match match(uint64_t space, const Tokens& tokens) {
    ++tick_;
    Match out;
    size_t at = touch_whole_pages(space, tokens, &out.pages);
    out.partial_tokens = best_partial(space, tokens, at);
    return out;
  }

  void insert(uint64_t space, const Tokens& tokens, const std::vector<PageId>& pages) {
    ++tick_;
    size_t at = touch_whole_pages(space, tokens, nullptr);
    if (at == tokens.size()) return;
    const size_t rest = std::min(page_size_, tokens.size() - at);
    if (static_cast<size_t>(best_partial(space, tokens, at)) == rest) return;  // covered
    std::erase_if(entries_, [&](const auto& item) {  // a partly filled page that this one continues
      const Tokens& key = item.first.second;
      return item.first.first == space && key.size() > at && key.size() < at + rest &&
             starts_with(tokens, key);
    });
    while (at < tokens.size()) {
      const size_t end = std::min(at + page_size_, tokens.size());
      entries_[{space, Tokens(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(end))}] = {
          pages[at / page_size_], tick_};
      at = end;
    }
  }

  // Frees the least recently used page that nobody holds and nothing continues; false when there is none.
  bool evict_one() {
    auto victim = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (pool_.ref_count(it->second.page) > 1 || has_continuation(it->first)) continue;
      if (victim == entries_.end() || it->second.last_used < victim->second.last_used) victim = it;
    }
    if (victim == entries_.end()) return false;
    entries_.erase(victim);
    return true;
  }

  // Every remembered page and no other is in the tree.
  void check() const {
    int in_tree = 0;
    for (PageId page = 0; page < pool_.num_pages(); ++page) in_tree += pool_.in_tree(page) ? 1 : 0;
    ASSERT_EQ(in_tree, static_cast<int>(entries_.size()));
    for (const auto& [key, entry] : entries_) ASSERT_TRUE(pool_.in_tree(entry.page));
  }

 private:
  size_t touch_whole_pages(uint64_t space, const Tokens& tokens, std::vector<PageId>* pages) {
    size_t at = 0;
    while (at + page_size_ <= tokens.size()) {
      const auto it = entries_.find(
          {space, Tokens(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(at + page_size_))});
      if (it == entries_.end()) break;
      it->second.last_used = tick_;
      if (pages != nullptr) pages->push_back(it->second.page);
      at += page_size_;
    }
    return at;
  }

  int best_partial(uint64_t space, const Tokens& tokens, size_t at) const {
    size_t best = 0;
    const Tokens prefix(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(at));
    for (const auto& [key, entry] : entries_) {
      if (key.first != space || key.second.size() <= at || key.second.size() > at + page_size_) continue;
      if (!starts_with(key.second, prefix)) continue;
      size_t same = 0;
      while (at + same < std::min(tokens.size(), key.second.size()) &&
             tokens[at + same] == key.second[at + same]) {
        ++same;
      }
      best = std::max(best, same);
    }
    return static_cast<int>(best);
  }

  bool has_continuation(const Key& key) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const auto& other) {
      return other.first.first == key.first && other.first.second.size() > key.second.size() &&
             starts_with(other.first.second, key.second);
    });
  }

  const PagePool& pool_;
  size_t page_size_;
  std::map<Key, Entry> entries_;
  uint64_t tick_ = 0;
};

// Requests that come, share, write, finish and are evicted, at random; both trees see the same.
class World {
 public:
  World(uint64_t seed, int page_size)
      : random_(seed), page_size_(page_size), pool_(8 + static_cast<int>(random_.below(40)), page_size) {}

  void step() {
    switch (random_.below(4)) {
      case 0:
      case 1:
        arrive();
        break;
      case 2:
        if (!running_.empty()) remember(random_.below(running_.size()));
        break;
      case 3:
        evict(static_cast<int>(random_.below(4)));
        break;
    }
    if (testing::Test::HasFatalFailure()) return;
    tree_.check_invariants();
    naive_.check();
    int held = 0;
    for (PageId page = 0; page < pool_.num_pages(); ++page) held += pool_.ref_count(page) > 0 ? 1 : 0;
    ASSERT_EQ(pool_.free_pages() + held, pool_.num_pages());
    ASSERT_EQ(pool_.free_pages() + pool_.cached_pages() + pool_.owned_pages(), pool_.num_pages());
  }

  void finish() {
    running_.clear();
    ASSERT_EQ(pool_.owned_pages(), 0);
    tree_.clear();
    ASSERT_EQ(pool_.free_pages(), pool_.num_pages());
  }

 private:
  struct Sequence {
    uint64_t space;
    Tokens tokens;
    PageTable table;
  };

  Tokens random_tokens() {  // a tiny alphabet, so that prefixes collide often
    Tokens tokens(1 + random_.below(static_cast<uint64_t>(5 * page_size_)));
    const uint64_t alphabet = 1 + random_.below(3);
    for (auto& token : tokens) token = static_cast<int32_t>(random_.below(alphabet));
    return tokens;
  }

  void arrive() {
    Sequence s{random_.below(2), random_tokens(), PageTable(pool_)};
    const PrefixMatch match = tree_.match(s.space, s.tokens);
    check_match(s, match);
    if (testing::Test::HasFatalFailure()) return;
    s.table.share(match.pages);
    const int64_t needed = pages_for(static_cast<int64_t>(s.tokens.size()), page_size_) - s.table.num_pages();
    const int missing = static_cast<int>(needed) - pool_.free_pages();
    if (missing > 0) evict(missing);
    if (missing > 0 && pool_.free_pages() < needed) {
      ASSERT_EQ(pool_.cached_pages(), 0);  // "cached" is exactly what eviction can free
      return;
    }
    ASSERT_TRUE(s.table.grow(static_cast<int64_t>(s.tokens.size())));
    write(s, match.pages.size());
    running_.push_back(std::move(s));
  }

  void check_match(const Sequence& s, const PrefixMatch& match) {
    const auto expected = naive_.match(s.space, s.tokens);
    ASSERT_EQ(match.pages, expected.pages);
    ASSERT_EQ(match.partial_tokens, expected.partial_tokens);
    ASSERT_EQ(match.partial_page == kNoPage, match.partial_tokens == 0);
    for (size_t i = 0; i < match.pages.size(); ++i) {
      check_content(match.pages[i], s, (i + 1) * static_cast<size_t>(page_size_));
    }
    if (match.partial_page == kNoPage) return;
    check_content(
        match.partial_page, s,
        match.pages.size() * static_cast<size_t>(page_size_) + static_cast<size_t>(match.partial_tokens));
  }

  // The page was written for this namespace behind the first num_tokens tokens of the sequence.
  void check_content(PageId page, const Sequence& s, size_t num_tokens) {
    const auto& [space, written] = content_.at(page);
    ASSERT_EQ(space, s.space);
    ASSERT_GE(written.size(), num_tokens);
    ASSERT_TRUE(
        std::equal(written.begin(), written.begin() + static_cast<ptrdiff_t>(num_tokens), s.tokens.begin()));
  }

  void write(const Sequence& s, size_t from_page) {
    for (size_t i = from_page; i < s.table.pages().size(); ++i) {
      ASSERT_TRUE(pool_.writable(s.table.pages()[i]));
      const size_t end = std::min(s.tokens.size(), (i + 1) * static_cast<size_t>(page_size_));
      content_[s.table.pages()[i]] = {s.space, head(s.tokens, end)};
    }
  }

  // A request finishes, or reaches a chunk boundary.
  void remember(size_t i) {
    Sequence& s = running_[i];
    const bool done = random_.below(2) == 0;
    const size_t page = static_cast<size_t>(page_size_);
    const Tokens tokens = head(s.tokens, done ? s.tokens.size() : s.tokens.size() / page * page);
    const auto pages = s.table.pages().first((tokens.size() + page - 1) / page);
    tree_.insert(s.space, tokens, pages);
    naive_.insert(s.space, tokens, {pages.begin(), pages.end()});
    for (size_t p = 0; p < s.table.pages().size(); ++p) {  // whatever was swapped holds the same tokens
      check_content(s.table.pages()[p], s, std::min(s.tokens.size(), (p + 1) * page));
    }
    if (done) running_.erase(running_.begin() + static_cast<ptrdiff_t>(i));
  }

  void evict(int count) {
    const int freed = tree_.evict(count);
    for (int i = 0; i < freed; ++i) ASSERT_TRUE(naive_.evict_one());
    if (freed < count) {
      ASSERT_FALSE(naive_.evict_one());
    }
  }

  static Tokens head(const Tokens& tokens, size_t count) {
    return {tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(count)};
  }

  SplitMix64 random_;
  int page_size_;
  PagePool pool_;
  PrefixTree tree_{pool_};
  NaiveTree naive_{pool_};
  std::vector<Sequence> running_;
  std::map<PageId, Key> content_;  // what was written to each page, with everything before it
};

class PrefixTreeModel : public testing::TestWithParam<int> {};

TEST_P(PrefixTreeModel, AgreesWithTheNaiveTree) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE("page size " + std::to_string(GetParam()) + ", seed " + std::to_string(seed));
    World world(seed, GetParam());
    for (int i = 0; i < 1000; ++i) {
      world.step();
      if (HasFatalFailure()) return;
    }
    world.finish();
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(PageSizes, PrefixTreeModel, testing::Values(1, 2, 3, 4, 7, 16),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace bifocal::kv
