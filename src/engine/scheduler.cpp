#include "engine/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace bifocal::engine {
namespace {

// Room that a retraction makes for each remaining sequence, so that the next one is not due at once.
constexpr int64_t kHeadroomTokens = 20;
// More than this is not expected of one sequence, whatever it asks for.
constexpr int64_t kMaxExpectedTokens = 4096;

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, kv::PagePool& pool, kv::PrefixTree* tree)
    : options_(options), pool_(pool), tree_(tree), ratio_(options.conservativeness) {
  BIFOCAL_CHECK_GE(options.max_running, 1);
  BIFOCAL_CHECK_GE(options.prefill_tokens, 1);
  BIFOCAL_CHECK_GE(options.max_prompt_logit_rows, 1);
}

Scheduler::~Scheduler() {
  for (auto& [key, sequence] : running_) drop_copy(*sequence);
}

Status Scheduler::validate(int64_t prompt_len, int num_choices) const {
  if (num_choices < 1 || num_choices > options_.max_running) {
    return invalid_argument(
        fmt::format("n is {}, expected 1 to {} (max_running_requests)", num_choices, options_.max_running));
  }
  if (prompt_len < 1) return invalid_argument("the prompt is empty");
  const int64_t needed = kv::pages_for(prompt_len, pool_.page_size());
  if (needed > pool_.num_pages()) {
    return invalid_argument(
        fmt::format("the prompt of {} tokens needs {} KV pages of {} tokens, the server has {}", prompt_len,
                    needed, pool_.page_size(), pool_.num_pages()));
  }
  return {};
}

void Scheduler::submit(ScheduledRequest request) {
  auto sequence = std::make_unique<Sequence>(pool_);
  sequence->key = {request.key, 0};
  sequence->cache_namespace = request.cache_namespace;
  sequence->prompt_len = static_cast<int64_t>(request.prompt.size());
  sequence->max_new_tokens = request.max_new_tokens;
  sequence->tokens = std::move(request.prompt);
  sequence->logits_from = request.logits_from < sequence->prompt_len - 1 ? request.logits_from : kNoLogits;
  sequence->num_forks = request.num_choices - 1;
  queue_.push(std::move(sequence));
}

void Scheduler::cancel(RequestKey request) {
  BIFOCAL_CHECK(!in_flight_);
  queue_.remove(request);
  auto it = running_.lower_bound({request, 0});
  while (it != running_.end() && it->first.request == request) {
    Sequence& sequence = *(it++)->second;
    end(sequence, sequence.num_computed);
  }
}

int64_t Scheduler::num_running_tokens() const {
  int64_t tokens = 0;
  for (const auto& [key, sequence] : running_) tokens += sequence->num_computed;
  return tokens;
}

const Step& Scheduler::schedule() {
  BIFOCAL_CHECK(!in_flight_);
  ++step_.id;
  step_.copies.clear();
  step_.sequences.clear();
  step_.samples.clear();
  step_.outgrown.clear();
  step_.num_rows = 0;
  step_.num_logits = 0;

  if (running_.empty()) ratio_.on_idle();
  make_room_for_decode();
  int budget = options_.prefill_tokens;
  int logit_budget = options_.max_prompt_logit_rows;
  for (auto& [key, sequence] : running_) {
    if (!sequence->decodes()) add_chunk(*sequence, budget, logit_budget);
  }
  admit(budget, logit_budget);
  const size_t num_prefills = step_.sequences.size();
  for (auto& [key, sequence] : running_) {
    if (sequence->decodes()) add_rows(*sequence, 1, attention::Phase::decode);
  }
  if (step_.sequences.size() > num_prefills) ratio_.on_step();
  // Only now, so that no page of the step was a source before.
  for (const PageCopy& copy : step_.copies) pool_.release(copy.source);
  in_flight_ = !step_.empty();
  return step_;
}

void Scheduler::complete(const StepResult& result) {
  BIFOCAL_CHECK(in_flight_);
  BIFOCAL_CHECK_EQ(result.samples.size(), step_.samples.size());
  BIFOCAL_CHECK_EQ(result.faulted.size(), step_.sequences.size());
  in_flight_ = false;
  for (size_t i = 0; i < step_.sequences.size(); ++i) {
    Sequence& sequence = *running_.at(step_.sequences[i].key);
    if (result.faulted[i] != 0) {
      end(sequence, 0);
    } else {
      advance(sequence, step_.sequences[i]);
    }
  }
  // Branches first: they share the pages of a trunk that may end with its own token.
  for (const bool branches : {true, false}) {
    for (size_t i = 0; i < step_.samples.size(); ++i) {
      const StepSample& sample = step_.samples[i];
      const auto sequence = static_cast<size_t>(sample.sequence);
      const SequenceKey owner = step_.sequences[sequence].key;
      if (result.faulted[sequence] != 0 || branches != (sample.key != owner)) continue;
      Sequence& trunk = *running_.at(owner);
      if (!branches) {
        take_token(trunk, result.samples[i]);
        continue;
      }
      --trunk.num_forks;
      --running_slots_;
      queue_.charge_output(trunk.cache_namespace, 1);
      if (!result.samples[i].finished) branch(trunk, sample.key.choice, result.samples[i].token);
    }
  }
}

void Scheduler::advance(Sequence& sequence, const StepSequence& rows) {
  const int64_t before = sequence.num_computed;
  sequence.num_computed = rows.kv_len;
  counters_.computed_tokens += static_cast<uint64_t>(rows.q_len);
  counters_.recomputed_tokens +=
      static_cast<uint64_t>(std::clamp<int64_t>(sequence.high_water - before, 0, rows.q_len));
  if (rows.phase != attention::Phase::prefill) return;
  if (sequence.logits_from < sequence.num_computed) sequence.logits_from = sequence.num_computed;
  if (sequence.logits_from >= sequence.prompt_len - 1) sequence.logits_from = kNoLogits;
  remember(sequence, sequence.num_computed / pool_.page_size() * pool_.page_size());
}

void Scheduler::branch(Sequence& trunk, int choice, int32_t token) {
  auto sequence = std::make_unique<Sequence>(pool_);
  sequence->key = {trunk.key.request, choice};
  sequence->cache_namespace = trunk.cache_namespace;
  sequence->prompt_len = trunk.prompt_len;
  sequence->max_new_tokens = trunk.max_new_tokens;
  sequence->tokens.reserve(trunk.tokens.size() + 1);
  sequence->tokens = trunk.tokens;
  sequence->tokens.push_back(token);
  sequence->num_computed = trunk.num_computed;
  sequence->cached_tokens = trunk.cached_tokens;
  sequence->admitted_before = true;
  const auto whole_pages = static_cast<size_t>(trunk.num_computed / pool_.page_size());
  sequence->pages.share(trunk.pages.pages().first(whole_pages));
  if (trunk.num_computed % pool_.page_size() != 0) {
    sequence->copy_source = trunk.pages.pages()[whole_pages];
    pool_.retain(sequence->copy_source);
  }
  ++running_slots_;
  queue_.enter(sequence->cache_namespace);
  running_.emplace(sequence->key, std::move(sequence));
}

void Scheduler::take_token(Sequence& sequence, const SampleResult& sample) {
  if (sample.token != kNoToken) {
    sequence.tokens.push_back(sample.token);
    queue_.charge_output(sequence.cache_namespace, 1);
  }
  if (sample.finished) end(sequence, sequence.num_computed);
}

// --- the step's rows ---

int64_t Scheduler::chunk_len(const Sequence& sequence, int budget, int logit_budget) const {
  int64_t len = std::min<int64_t>(sequence.num_pending(), budget);
  const bool splits = options_.split_prompts || sequence.num_pending() > options_.prefill_tokens;
  if (!splits && len < sequence.num_pending()) return 0;
  // The last row's logits are free; those before it count.
  const int64_t first_wanted = std::max(sequence.num_computed, sequence.logits_from);
  if (first_wanted < sequence.num_computed + len) {
    len = std::min(len, first_wanted - sequence.num_computed + logit_budget + 1);
  }
  return len;
}

void Scheduler::add_chunk(Sequence& sequence, int& budget, int& logit_budget) {
  const int64_t len = chunk_len(sequence, budget, logit_budget);
  if (len == 0) return;
  add_rows(sequence, len, attention::Phase::prefill);
  budget -= static_cast<int>(len);
  logit_budget -= step_.sequences.back().num_logits - 1;
}

void Scheduler::add_rows(Sequence& sequence, int64_t q_len, attention::Phase phase) {
  const int64_t begin = sequence.num_computed;
  const int64_t end = begin + q_len;
  if (sequence.copy_source != kv::kNoPage) {
    const auto page = static_cast<size_t>(begin / pool_.page_size());
    step_.copies.push_back({std::exchange(sequence.copy_source, kv::kNoPage), sequence.pages.pages()[page],
                            static_cast<int>(begin % pool_.page_size())});
  }
  StepSequence rows;
  rows.key = sequence.key;
  rows.phase = phase;
  rows.q_begin = step_.num_rows;
  rows.q_len = static_cast<int32_t>(q_len);
  rows.kv_len = static_cast<int32_t>(end);
  rows.tokens = std::span(sequence.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(q_len));
  rows.pages = std::as_const(sequence.pages).pages();
  rows.logit_begin = step_.num_logits;
  rows.num_logits = static_cast<int32_t>(end - std::clamp(sequence.logits_from, begin, end - 1));
  rows.cached_tokens = sequence.cached_tokens;
  const auto index = static_cast<int32_t>(step_.sequences.size());
  step_.sequences.push_back(rows);
  step_.num_rows += rows.q_len;
  step_.num_logits += rows.num_logits;
  if (end < sequence.num_tokens()) return;
  for (int fork = 0; fork <= sequence.num_forks; ++fork) {
    const SequenceKey key = {sequence.key.request, sequence.key.choice + fork};
    step_.samples.push_back({key, index, step_.num_logits - 1, end});
  }
}

// --- admission ---

void Scheduler::admit(int& budget, int& logit_budget) {
  while (Sequence* next = queue_.front()) {
    if (running_slots_ + next->num_slots() > options_.max_running) return;
    if (!try_admit(*next, budget, logit_budget)) return;
    std::unique_ptr<Sequence> admitted = queue_.pop_front();
    Sequence& sequence = *admitted;
    running_slots_ += sequence.num_slots();
    running_.emplace(sequence.key, std::move(admitted));
    if (!sequence.admitted_before) {
      sequence.admitted_before = true;
      sequence.cached_tokens = sequence.num_computed;
      counters_.prompt_tokens += static_cast<uint64_t>(sequence.prompt_len);
      counters_.cached_prompt_tokens += static_cast<uint64_t>(sequence.cached_tokens);
      queue_.charge_prompt(sequence.cache_namespace, sequence.prompt_len - sequence.cached_tokens);
    }
    if (!sequence.decodes()) add_chunk(sequence, budget, logit_budget);
  }
}

bool Scheduler::try_admit(Sequence& sequence, int budget, int logit_budget) {
  if (budget == 0) return false;
  share_prefix(sequence);
  bool admitted = sequence.decodes() || chunk_len(sequence, budget, logit_budget) > 0;
  if (admitted && !fits(sequence) && sequence.copy_source != kv::kNoPage) {
    // The page to copy from counts as taken; without it there may be just enough.
    sequence.num_computed = sequence.num_computed / pool_.page_size() * pool_.page_size();
    drop_copy(sequence);
    admitted = chunk_len(sequence, budget, logit_budget) > 0;
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

void Scheduler::share_prefix(Sequence& sequence) {
  if (tree_ == nullptr) return;
  // At least the last token is computed, for its logits, and everything whose logits are wanted.
  const int64_t limit = std::min(sequence.num_tokens() - 1, sequence.logits_from);
  const kv::PrefixMatch match =
      tree_->match(sequence.cache_namespace, std::span(sequence.tokens).first(static_cast<size_t>(limit)));
  sequence.pages.share(match.pages);
  sequence.num_computed = sequence.pages.capacity();
  if (match.partial_page == kv::kNoPage) return;
  pool_.retain(match.partial_page);
  sequence.copy_source = match.partial_page;
  sequence.num_computed += match.partial_tokens;
}

void Scheduler::drop_pages(Sequence& sequence) {
  drop_copy(sequence);
  sequence.pages.clear();
  sequence.num_computed = 0;
}

void Scheduler::drop_copy(Sequence& sequence) {
  if (sequence.copy_source != kv::kNoPage) pool_.release(std::exchange(sequence.copy_source, kv::kNoPage));
}

// --- memory ---

bool Scheduler::ensure_pages(Sequence& sequence, int64_t num_tokens) {
  const int64_t missing = kv::pages_for(num_tokens, pool_.page_size()) - sequence.pages.num_pages();
  if (missing > pool_.available_pages()) return false;
  if (missing > pool_.free_pages()) tree_->evict(static_cast<int>(missing) - pool_.free_pages());
  return sequence.pages.grow(num_tokens);
}

void Scheduler::make_room_for_decode() {
  bool retracted = false;
  for (auto it = running_.begin(); it != running_.end();) {
    const SequenceKey key = it->first;
    Sequence& sequence = *it->second;
    while (sequence.decodes() && !ensure_pages(sequence, sequence.num_tokens())) {
      const bool alone = running_.size() == 1;
      if (alone && sequence.copy_source == kv::kNoPage) {
        step_.outgrown.push_back(key);
        end(sequence, sequence.num_computed);
        break;
      }
      // Alone with a page to copy from, it may fit once that page is computed instead.
      Sequence& victim = alone ? sequence : pick_victim();
      const bool itself = &victim == &sequence;
      retract(victim);
      retracted = true;
      if (itself) break;
    }
    it = running_.upper_bound(key);
  }
  if (retracted) retract_for_headroom();
}

Sequence& Scheduler::pick_victim() const {
  auto victim = std::next(running_.begin());
  for (auto it = std::next(victim); it != running_.end(); ++it) {
    if (queue_.service(it->second->cache_namespace) >= queue_.service(victim->second->cache_namespace))
      victim = it;
  }
  return *victim->second;
}

void Scheduler::retract_for_headroom() {
  const auto wanted = [this] {
    int64_t pages = 0;
    for (const auto& [key, sequence] : running_) {
      const int64_t left = sequence->max_new_tokens - sequence->num_generated();
      const int64_t len = sequence->num_tokens() + std::clamp<int64_t>(left, 0, kHeadroomTokens);
      pages += std::max<int64_t>(0, kv::pages_for(len, pool_.page_size()) - sequence->pages.num_pages());
    }
    return pages;
  };
  while (running_.size() > 1 && pool_.available_pages() < wanted()) retract(pick_victim());
  int64_t generated = 0;
  int64_t granted = 0;
  for (const auto& [key, sequence] : running_) {
    generated += sequence->num_generated() + kHeadroomTokens;
    granted += sequence->max_new_tokens;
  }
  ratio_.on_retraction(generated, granted);
}

void Scheduler::retract(Sequence& sequence) {
  ++counters_.retractions;
  std::unique_ptr<Sequence> retracted = stop_running(sequence, sequence.num_computed);
  const uint64_t cache_namespace = retracted->cache_namespace;
  retracted->high_water = std::max(retracted->high_water, retracted->num_computed);
  retracted->num_computed = 0;
  if (kv::pages_for(retracted->num_tokens(), pool_.page_size()) <= pool_.num_pages()) {
    queue_.push(std::move(retracted));
  } else {  // it lived on pages that it shared; alone it has outgrown the pool
    step_.outgrown.push_back(retracted->key);
  }
  queue_.leave(cache_namespace);
}

// --- leaving the running set ---

std::unique_ptr<Sequence> Scheduler::stop_running(Sequence& sequence, int64_t remembered) {
  remember(sequence, remembered);
  drop_copy(sequence);
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
  if (sequence.copy_source != kv::kNoPage) num_tokens = num_tokens / page_size * page_size;  // not copied yet
  tree_->insert(sequence.cache_namespace, std::span(sequence.tokens).first(static_cast<size_t>(num_tokens)),
                sequence.pages.pages().first(static_cast<size_t>(kv::pages_for(num_tokens, page_size))));
}

// --- invariants ---

void Scheduler::check_invariants() const {
  std::vector<int32_t> holders(static_cast<size_t>(pool_.num_pages()), 0);
  int slots = 0;
  const auto hold = [&](kv::PageId page) { ++holders[static_cast<size_t>(page)]; };
  for (const auto& [key, sequence] : running_) {
    BIFOCAL_CHECK(key == sequence->key);
    slots += sequence->num_slots();
    std::vector<kv::PageId> pages(std::as_const(sequence->pages).pages().begin(),
                                  std::as_const(sequence->pages).pages().end());
    for (const kv::PageId page : pages) hold(page);
    std::sort(pages.begin(), pages.end());
    BIFOCAL_CHECK(std::adjacent_find(pages.begin(), pages.end()) == pages.end());
    if (sequence->copy_source != kv::kNoPage) {
      hold(sequence->copy_source);
    } else {
      BIFOCAL_CHECK_GE(sequence->pages.capacity(), sequence->num_computed);
    }
    BIFOCAL_CHECK_LT(sequence->num_computed, sequence->num_tokens());
  }
  BIFOCAL_CHECK_EQ(slots, running_slots_);
  BIFOCAL_CHECK_LE(running_slots_, options_.max_running);
  for (kv::PageId page = 0; page < pool_.num_pages(); ++page) {
    const int tree_holds = pool_.in_tree(page) ? 1 : 0;
    BIFOCAL_CHECK_EQ(pool_.ref_count(page), holders[static_cast<size_t>(page)] + tree_holds);
  }
  if (tree_ != nullptr) tree_->check_invariants();
}

}  // namespace bifocal::engine
