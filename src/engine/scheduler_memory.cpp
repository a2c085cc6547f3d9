// The scheduler's dealings with pages: who gets in, who has to go, and what the prefix tree keeps.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/scheduler.h"

namespace bifocal::engine {
namespace {

// Room that a retraction makes for each remaining sequence, so that the next one is not due at once.
constexpr int64_t kHeadroomTokens = 20;
// More than this is not expected of one sequence, whatever it asks for.
constexpr int64_t kMaxExpectedTokens = 4096;

}  // namespace

// --- window pages ---

// At most, for a choice of so many tokens: those in its window, and one that the last of them is copied from.
int64_t Scheduler::window_pages_of_choice(int64_t num_tokens) const {
  if (!windows_limit_) return 0;
  return std::min(kv::pages_in_window(pool_.window()->window(), pool_.page_size()),
                  kv::pages_for(num_tokens, pool_.page_size())) +
         1;
}

int64_t Scheduler::window_pages_of(const Sequence& sequence) const {
  return sequence.num_slots() * window_pages_of_choice(sequence.prompt_len + sequence.max_new_tokens);
}

int64_t Scheduler::spare_window_pages() const {
  if (!windows_limit_) return std::numeric_limits<int32_t>::max();
  int64_t pages = pool_.window()->num_pages();
  for (const auto& [key, sequence] : running_) pages -= window_pages_of(*sequence);
  return pages;
}

// --- admission ---

void Scheduler::admit(Budget& budget) {
  while (Sequence* next = queue_.front()) {
    if (running_slots_ + next->num_slots() > options_.max_running) return;
    if (!try_admit(*next, budget)) return;
    std::unique_ptr<Sequence> admitted = queue_.pop_front();
    Sequence& sequence = *admitted;
    budget.window_pages -= window_pages_of(sequence);
    running_slots_ += sequence.num_slots();
    running_.emplace(sequence.key, std::move(admitted));
    if (!sequence.admitted_before) {
      sequence.admitted_before = true;
      sequence.cached_tokens = sequence.num_computed;
      counters_.prompt_tokens += static_cast<uint64_t>(sequence.prompt_len);
      counters_.cached_prompt_tokens += static_cast<uint64_t>(sequence.cached_tokens);
      queue_.charge_prompt(sequence.cache_namespace, sequence.prompt_len - sequence.cached_tokens);
    }
    if (!sequence.decodes()) take_chunk(sequence, budget);
  }
}

bool Scheduler::try_admit(Sequence& sequence, Budget budget) {
  if (budget.rows == 0) return false;
  budget.window_pages -= window_pages_of(sequence);
  if (budget.window_pages < (windows_limit_ && !running_.empty() ? chunk_window_pages_ : 0)) return false;
  share_prefix(sequence, true);
  bool admitted = sequence.decodes() || chunk_len(sequence, budget) > 0;
  if (admitted && !fits(sequence) && sequence.copy_source != kv::kNoPage) {
    // The page to copy from counts as taken; without it there may be just enough.
    drop_pages(sequence);
    share_prefix(sequence, false);
    admitted = chunk_len(sequence, budget) > 0;
  }
  admitted = admitted && fits(sequence);
  if (!admitted) {
    drop_pages(sequence);
    return false;
  }
  const bool grown = ensure_pages(sequence, sequence.num_tokens());
  BIFOCAL_CHECK(grown);
  return true;
}

bool Scheduler::fits(const Sequence& sequence) const {
  int64_t pages = kv::pages_for(sequence.num_tokens(), pool_.page_size()) - sequence.pages.num_pages();
  if (!running_.empty()) {  // alone, it runs as far as the pool goes
    pages += expected_growth_pages(sequence);
    for (const auto& [key, other] : running_) pages += expected_growth_pages(*other);
  }
  return pages <= pool_.available_pages();
}

int64_t Scheduler::expected_growth_pages(const Sequence& sequence) const {
  const int64_t left = std::min(sequence.max_new_tokens - sequence.num_generated(), kMaxExpectedTokens);
  const auto growth =
      static_cast<int64_t>(std::ceil(static_cast<double>(std::max<int64_t>(left, 0)) * ratio_.value()));
  const int64_t len = sequence.num_tokens();
  const int64_t final_pages = kv::pages_for(len + growth, pool_.page_size());
  return final_pages - kv::pages_for(len, pool_.page_size()) +
         sequence.num_forks * (final_pages - len / pool_.page_size());
}

void Scheduler::share_prefix(Sequence& sequence, bool inside_pages) {
  if (tree_ == nullptr) return;
  // At least the last token is computed, for its logits, and everything whose logits are wanted.
  int64_t limit = std::min(sequence.num_tokens() - 1, sequence.logits_from);
  if (!options_.reuse_outputs) limit = std::min(limit, sequence.prompt_len);
  const kv::PrefixMatch match = tree_->match(
      sequence.cache_namespace, std::span(sequence.tokens).first(static_cast<size_t>(limit)), inside_pages);
  sequence.pages.share(match.pages);
  sequence.num_computed = sequence.pages.capacity();
  if (match.partial_page != kv::kNoPage) {
    pool_.retain_contents(match.partial_page);
    sequence.copy_source = match.partial_page;
    sequence.num_computed += match.partial_tokens;
  }
  sequence.pages.hold_window(sequence.num_computed);
}

void Scheduler::drop_pages(Sequence& sequence) {
  drop_copy(sequence);
  sequence.pages.clear();
  sequence.num_computed = 0;
}

void Scheduler::drop_copy(Sequence& sequence) {
  if (sequence.copy_source != kv::kNoPage)
    pool_.release_contents(std::exchange(sequence.copy_source, kv::kNoPage));
}

// --- memory ---

bool Scheduler::ensure_pages(Sequence& sequence, int64_t num_tokens) {
  const int64_t missing = kv::pages_for(num_tokens, pool_.page_size()) - sequence.pages.num_pages();
  if (missing > pool_.available_pages()) return false;
  if (missing > pool_.free_pages()) tree_->evict(static_cast<int>(missing) - pool_.free_pages());
  return sequence.pages.grow(num_tokens);
}

bool Scheduler::make_room_for_decode(Step& step) {
  bool retracted = false;
  for (auto it = running_.begin(); it != running_.end();) {
    const SequenceKey key = it->first;
    Sequence& sequence = *it->second;
    const bool needs_room = sequence.decodes() && !ends_in_flight(sequence);
    while (needs_room && !ensure_pages(sequence, sequence.num_tokens())) {
      if (num_in_flight_ > 0) return false;
      const bool alone = running_.size() == 1;
      if (alone && sequence.copy_source == kv::kNoPage) {
        step.outgrown.push_back(key);
        end(sequence, sequence.num_computed);
        break;
      }
      // Alone with a page to copy from, it may fit once that page is computed instead.
      Sequence& victim = alone ? sequence : pick_victim();
      const bool itself = &victim == &sequence;
      retract(step, victim);
      retracted = true;
      if (itself) break;
    }
    it = running_.upper_bound(key);
  }
  if (retracted) retract_for_headroom(step);
  return true;
}

Sequence& Scheduler::pick_victim() const {
  auto victim = std::next(running_.begin());
  for (auto it = std::next(victim); it != running_.end(); ++it) {
    if (queue_.service(it->second->cache_namespace) >= queue_.service(victim->second->cache_namespace))
      victim = it;
  }
  return *victim->second;
}

void Scheduler::retract_for_headroom(Step& step) {
  const auto wanted = [this] {
    int64_t pages = 0;
    for (const auto& [key, sequence] : running_) {
      const int64_t left = sequence->max_new_tokens - sequence->num_generated();
      const int64_t len = sequence->num_tokens() + std::clamp<int64_t>(left, 0, kHeadroomTokens);
      pages += std::max<int64_t>(0, kv::pages_for(len, pool_.page_size()) - sequence->pages.num_pages());
    }
    return pages;
  };
  while (running_.size() > 1 && pool_.available_pages() < wanted()) retract(step, pick_victim());
  int64_t generated = 0;
  int64_t granted = 0;
  for (const auto& [key, sequence] : running_) {
    generated += sequence->num_generated() + kHeadroomTokens;
    granted += sequence->max_new_tokens;
  }
  ratio_.on_retraction(generated, granted);
}

void Scheduler::retract(Step& step, Sequence& sequence) {
  ++counters_.retractions;
  std::unique_ptr<Sequence> retracted = stop_running(sequence, sequence.num_computed);
  const uint64_t cache_namespace = retracted->cache_namespace;
  retracted->high_water = std::max(retracted->high_water, retracted->num_computed);
  retracted->num_computed = 0;
  if (kv::pages_for(retracted->num_tokens(), pool_.page_size()) <= pool_.num_pages()) {
    queue_.push(std::move(retracted));
  } else {  // it lived on pages that it shared; alone it has outgrown the pool
    step.outgrown.push_back(retracted->key);
  }
  queue_.leave(cache_namespace);
}

// --- leaving the running set ---

std::unique_ptr<Sequence> Scheduler::stop_running(Sequence& sequence, int64_t remembered) {
  remember(sequence, remembered);
  drop_copy(sequence);
  if (sequence.num_in_flight > 0) newest().held.push_back(std::move(sequence.pages));
  sequence.pages.clear();
  running_slots_ -= sequence.num_slots();
  return std::move(running_.extract(sequence.key).mapped());
}

void Scheduler::end(Sequence& sequence, int64_t remembered) {
  const uint64_t cache_namespace = sequence.cache_namespace;
  stop_running(sequence, remembered);
  queue_.leave(cache_namespace);
}

void Scheduler::remember(Sequence& sequence, int64_t num_tokens) {
  if (tree_ == nullptr) return;
  const int page_size = pool_.page_size();
  if (!options_.reuse_outputs) num_tokens = std::min(num_tokens, sequence.prompt_len);
  if (sequence.copy_source != kv::kNoPage) num_tokens = num_tokens / page_size * page_size;  // not copied yet
  const auto pages = sequence.pages.pages().first(static_cast<size_t>(kv::pages_for(num_tokens, page_size)));
  if (sequence.num_in_flight > 0) {  // the tree may put others in their place
    kv::PageTable& held = hold();
    for (const kv::PageId& page : pages) {
      if (!pool_.in_tree(page)) held.share(std::span(&page, 1));
    }
  }
  tree_->insert(sequence.cache_namespace, std::span(sequence.tokens).first(static_cast<size_t>(num_tokens)),
                pages);
}

}  // namespace bifocal::engine
