#include "engine/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/trace.h"

namespace bifocal::engine {

using attention::Phase;

namespace {

// Room for a whole step of prompts, but not at the price of most sequences.
int64_t chunk_window_pages(const SchedulerOptions& options, const kv::PagePool& pool) {
  if (pool.window() == nullptr) return 0;
  return std::min<int64_t>(kv::pages_for(options.prefill_tokens, pool.page_size()),
                           pool.window()->num_pages() / 4);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, kv::PagePool& pool, kv::PrefixTree* tree)
    : options_(options),
      pool_(pool),
      tree_(tree),
      windows_limit_(pool.window() != nullptr && pool.window()->num_pages() < pool.num_pages()),
      chunk_window_pages_(chunk_window_pages(options, pool)),
      ratio_(options.conservativeness) {
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
  const int64_t window_pages = num_choices * window_pages_of_choice(std::numeric_limits<int32_t>::max());
  if (windows_limit_ && window_pages > pool_.window()->num_pages()) {
    return invalid_argument(
        fmt::format("n is {}: the windows of so many choices need {} pages of {} tokens, the server has {}; "
                    "ask for fewer at a time",
                    num_choices, window_pages, pool_.page_size(), pool_.window()->num_pages()));
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
  BIFOCAL_CHECK(num_in_flight_ == 0 || pool_.window() == nullptr);
  queue_.remove(request);
  auto it = running_.lower_bound({request, 0});
  while (it != running_.end() && it->first.request == request) {
    Sequence& sequence = *(it++)->second;
    end(sequence, sequence.num_done());
  }
}

int64_t Scheduler::num_running_tokens() const {
  int64_t tokens = 0;
  for (const auto& [key, sequence] : running_) tokens += sequence->num_computed;
  return tokens;
}

const Step& Scheduler::schedule() {
  const trace::Span span(trace::Kind::engine, "schedule", {num_running()});
  BIFOCAL_CHECK_LT(num_in_flight_, kMaxInFlight);
  Step& step = flights_[num_scheduled_ % kMaxInFlight].step;
  step.copies.clear();
  step.sequences.clear();
  step.samples.clear();
  step.outgrown.clear();
  step.num_rows = 0;
  step.num_logits = 0;
  if (num_in_flight_ == 0 || may_plan_ahead()) plan(step);
  if (step.empty()) return step;

  step.id = ++num_scheduled_;
  ++num_in_flight_;
  // Only now, so that no page of the step was a source before.
  for (const PageCopy& copy : step.copies) {
    // A trunk that still has it is in the step as well, and goes on writing it.
    const bool has_trunk = !pool_.in_tree(copy.source) && pool_.ref_count(copy.source) > 1;
    if (!has_trunk) hold().share(std::span(&copy.source, 1));
    pool_.release_contents(copy.source);
  }
  move_past(step);
  return step;
}

void Scheduler::plan(Step& step) {
  if (running_.empty()) ratio_.on_idle();
  if (!make_room_for_decode(step)) return;
  chunks_.clear();
  Budget budget{options_.prefill_tokens, options_.max_prompt_logit_rows, spare_window_pages()};
  for (auto& [key, sequence] : running_) {
    if (!sequence->decodes()) take_chunk(*sequence, budget);
  }
  admit(budget);
  for (const Phase phase : {Phase::prefill, Phase::verify}) {
    for (const Chunk& chunk : chunks_) {
      if (chunk.sequence->phase() == phase) add_rows(step, *chunk.sequence, chunk.len);
    }
  }
  bool decoded = false;
  for (auto& [key, sequence] : running_) {
    if (!sequence->decodes() || ends_in_flight(*sequence)) continue;
    add_rows(step, *sequence, 1);
    decoded = true;
  }
  if (decoded) ratio_.on_step();
}

// From here on, sequences stand where they will if nothing ends in this step.
void Scheduler::move_past(const Step& step) {
  for (const StepSequence& rows : step.sequences) {
    Sequence& sequence = *running_.at(rows.key);
    sequence.num_computed = rows.kv_len;
    sequence.num_in_flight += rows.q_len;
    if (rows.phase != Phase::prefill) continue;
    if (sequence.logits_from < sequence.num_computed) sequence.logits_from = sequence.num_computed;
    if (sequence.logits_from >= sequence.prompt_len - 1) sequence.logits_from = kNoLogits;
  }
  for (const StepSample& sample : step.samples) {
    if (branches(step, sample)) continue;
    Sequence& sequence = *running_.at(sample.key);
    sequence.tokens.push_back(kNoToken);
    sequence.chosen_row = sample.logit_row;
  }
}

bool Scheduler::branches(const Step& step, const StepSample& sample) {
  return sample.key != step.sequences[static_cast<size_t>(sample.sequence)].key;
}

// Branches copy pages that their trunk would go on writing; window pages slide when a step is completed.
bool Scheduler::may_plan_ahead() const {
  const Step& step = newest().step;
  return pool_.window() == nullptr &&
         std::none_of(step.samples.begin(), step.samples.end(),
                      [&](const StepSample& sample) { return branches(step, sample); });
}

// Whatever its last token turns out to be.
bool Scheduler::ends_in_flight(const Sequence& sequence) {
  return sequence.awaits_token() && sequence.num_generated() >= sequence.max_new_tokens;
}

kv::PageTable& Scheduler::hold() {
  return newest().held.emplace_back(pool_);
}

void Scheduler::complete(const StepResult& result) {
  BIFOCAL_CHECK_GT(num_in_flight_, 0);
  Flight& flight = flights_[(num_scheduled_ - static_cast<uint64_t>(num_in_flight_)) % kMaxInFlight];
  const Step& step = flight.step;
  BIFOCAL_CHECK_EQ(result.samples.size(), step.samples.size());
  BIFOCAL_CHECK_EQ(result.faulted.size(), step.sequences.size());
  --num_in_flight_;
  flight.held.clear();
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    Sequence* sequence = find_running(step.sequences[i].key);
    if (sequence == nullptr) continue;
    sequence->num_in_flight -= step.sequences[i].q_len;
    if (result.faulted[i] != 0) {
      end(*sequence, 0);
    } else {
      settle(*sequence, step.sequences[i]);
    }
  }
  // Branches first: they share the pages of a trunk that may end with its own token.
  for (const bool branching : {true, false}) {
    for (size_t i = 0; i < step.samples.size(); ++i) {
      const StepSample& sample = step.samples[i];
      if (branching != branches(step, sample)) continue;
      Sequence* trunk = find_running(step.sequences[static_cast<size_t>(sample.sequence)].key);
      if (trunk == nullptr) continue;
      if (!branching) {
        take_token(*trunk, sample, result.samples[i]);
        continue;
      }
      --trunk->num_forks;
      --running_slots_;
      queue_.charge_output(trunk->cache_namespace, 1);
      if (!result.samples[i].finished) branch(*trunk, sample, result.samples[i].token);
    }
  }
}

Sequence* Scheduler::find_running(const SequenceKey& key) {
  const auto found = running_.find(key);
  return found == running_.end() ? nullptr : found->second.get();
}

void Scheduler::settle(Sequence& sequence, const StepSequence& rows) {
  const int64_t before = rows.kv_len - rows.q_len;
  counters_.computed_tokens += static_cast<uint64_t>(rows.q_len);
  counters_.recomputed_tokens +=
      static_cast<uint64_t>(std::clamp<int64_t>(sequence.high_water - before, 0, rows.q_len));
  if (rows.phase == Phase::prefill) {
    remember(sequence, rows.kv_len / pool_.page_size() * pool_.page_size());
  }
  sequence.pages.slide_window(rows.kv_len);
}

void Scheduler::branch(Sequence& trunk, const StepSample& sample, int32_t token) {
  auto sequence = std::make_unique<Sequence>(pool_);
  sequence->key = sample.key;
  sequence->cache_namespace = trunk.cache_namespace;
  sequence->prompt_len = trunk.prompt_len;
  sequence->max_new_tokens = trunk.max_new_tokens;
  sequence->tokens.reserve(trunk.tokens.size());
  sequence->tokens.assign(trunk.tokens.begin(), trunk.tokens.begin() + sample.position);
  sequence->tokens.push_back(token);
  sequence->num_computed = trunk.num_computed;
  sequence->cached_tokens = trunk.cached_tokens;
  sequence->admitted_before = true;
  const auto whole_pages = static_cast<size_t>(trunk.num_computed / pool_.page_size());
  sequence->pages.share(trunk.pages.pages().first(whole_pages));
  sequence->pages.hold_window(sequence->num_computed);
  if (trunk.num_computed % pool_.page_size() != 0) {
    sequence->copy_source = trunk.pages.pages()[whole_pages];
    pool_.retain_contents(sequence->copy_source);
  }
  ++running_slots_;
  queue_.enter(sequence->cache_namespace);
  running_.emplace(sequence->key, std::move(sequence));
}

void Scheduler::take_token(Sequence& sequence, const StepSample& sample, const SampleResult& result) {
  if (result.token != kNoToken) {
    sequence.tokens[static_cast<size_t>(sample.position)] = result.token;
    queue_.charge_output(sequence.cache_namespace, 1);
  }
  if (result.finished) end(sequence, sequence.num_done());
}

// --- the step's rows ---

int64_t Scheduler::chunk_len(const Sequence& sequence, const Budget& budget) const {
  // Of a chunk, one row is computed in the pages that its sequence's window needs anyway.
  const int64_t window_rows = budget.window_pages * pool_.page_size() + 1;
  const int64_t pending = std::min(sequence.num_pending_in_phase(), window_rows);
  const int64_t len = std::min<int64_t>(pending, budget.rows);
  const bool splits = options_.split_prompts || pending > options_.prefill_tokens;
  if (!splits && len < pending) return 0;
  // The last row's logits are free; those before it count.
  const int64_t unwanted = std::clamp<int64_t>(sequence.logits_from - sequence.num_computed, 0, len);
  return std::min(len, unwanted + budget.logits + 1);
}

void Scheduler::take_chunk(Sequence& sequence, Budget& budget) {
  const int64_t len = chunk_len(sequence, budget);
  if (len == 0) return;
  chunks_.push_back({&sequence, len});
  budget.rows -= static_cast<int>(len);
  budget.logits -= num_logits(sequence, len) - 1;
  budget.window_pages -= kv::pages_for(len - 1, pool_.page_size());
}

int Scheduler::num_logits(const Sequence& sequence, int64_t len) {
  const int64_t end = sequence.num_computed + len;
  return static_cast<int>(end - std::clamp(sequence.logits_from, sequence.num_computed, end - 1));
}

void Scheduler::add_rows(Step& step, Sequence& sequence, int64_t q_len) {
  const int64_t begin = sequence.num_computed;
  const int64_t end = begin + q_len;
  sequence.pages.extend_window(end);
  if (sequence.copy_source != kv::kNoPage) {
    const auto page = static_cast<size_t>(begin / pool_.page_size());
    PageCopy& copy = step.copies.emplace_back();
    copy.source = std::exchange(sequence.copy_source, kv::kNoPage);
    copy.target = sequence.pages.pages()[page];
    copy.num_tokens = static_cast<int>(begin % pool_.page_size());
    if (const kv::WindowPages* window = pool_.window()) {
      copy.window_source = window->of(copy.source);
      copy.window_target = window->of(copy.target);
    }
  }
  if (sequence.tokens.size() == sequence.tokens.capacity()) {  // for the token to come: spans stay
    sequence.tokens.reserve(2 * sequence.tokens.size());
  }
  StepSequence rows;
  rows.key = sequence.key;
  rows.phase = sequence.phase();
  rows.q_begin = step.num_rows;
  rows.q_len = static_cast<int32_t>(q_len);
  rows.kv_len = static_cast<int32_t>(end);
  rows.tokens = std::span(sequence.tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(q_len));
  rows.pages = std::as_const(sequence.pages).pages();
  rows.logit_begin = step.num_logits;
  rows.num_logits = num_logits(sequence, q_len);
  rows.cached_tokens = sequence.cached_tokens;
  if (sequence.awaits_token()) rows.chosen_row = sequence.chosen_row;
  const auto index = static_cast<int32_t>(step.sequences.size());
  step.sequences.push_back(rows);
  step.num_rows += rows.q_len;
  step.num_logits += rows.num_logits;
  if (end < sequence.num_tokens()) return;
  for (int fork = 0; fork <= sequence.num_forks; ++fork) {
    const SequenceKey key = {sequence.key.request, sequence.key.choice + fork};
    step.samples.push_back({key, index, step.num_logits - 1, end});
  }
}

// --- invariants ---

void Scheduler::check_invariants() const {
  std::vector<int32_t> holders(static_cast<size_t>(pool_.num_pages()), 0);
  std::vector<int32_t> window_holders(holders.size(), 0);
  int slots = 0;
  const auto count = [&](kv::PageId page) { ++holders[static_cast<size_t>(page)]; };
  const auto count_window = [&](kv::PageId page) { ++window_holders[static_cast<size_t>(page)]; };
  const auto count_table = [&](const kv::PageTable& table) {
    for (const kv::PageId page : table.pages()) count(page);
    for (int i = table.window_begin(); i < table.window_end(); ++i) {
      count_window(table.pages()[static_cast<size_t>(i)]);
    }
  };
  for (const auto& [key, sequence] : running_) {
    BIFOCAL_CHECK(key == sequence->key);
    slots += sequence->num_slots();
    count_table(sequence->pages);
    std::vector<kv::PageId> pages(std::as_const(sequence->pages).pages().begin(),
                                  std::as_const(sequence->pages).pages().end());
    std::sort(pages.begin(), pages.end());
    BIFOCAL_CHECK(std::adjacent_find(pages.begin(), pages.end()) == pages.end());
    if (sequence->copy_source != kv::kNoPage) {
      count(sequence->copy_source);
      count_window(sequence->copy_source);
    } else {
      BIFOCAL_CHECK_GE(sequence->pages.capacity(), sequence->num_computed);
    }
    BIFOCAL_CHECK_LT(sequence->num_computed, sequence->num_tokens());
    BIFOCAL_CHECK(num_in_flight_ > 0 || (sequence->num_in_flight == 0 && !sequence->awaits_token()));
  }
  for (const Flight& flight : flights_) {
    for (const kv::PageTable& held : flight.held) count_table(held);
  }
  BIFOCAL_CHECK_EQ(slots, running_slots_);
  BIFOCAL_CHECK_LE(running_slots_, options_.max_running);
  for (kv::PageId page = 0; page < pool_.num_pages(); ++page) {
    const int tree_holds = pool_.in_tree(page) ? 1 : 0;
    BIFOCAL_CHECK_EQ(pool_.ref_count(page), holders[static_cast<size_t>(page)] + tree_holds);
  }
  if (pool_.window() != nullptr) check_window_invariants(*pool_.window(), window_holders);
  if (tree_ != nullptr) tree_->check_invariants();
}

void Scheduler::check_window_invariants(const kv::WindowPages& window,
                                        const std::vector<int32_t>& holders) const {
  int owned = 0;
  int cached = 0;
  std::vector<bool> taken(static_cast<size_t>(window.num_pages()), false);
  for (kv::PageId page = 0; page < pool_.num_pages(); ++page) {
    const int32_t held = holders[static_cast<size_t>(page)];
    BIFOCAL_CHECK_EQ(window.ref_count(page), held);
    if (window.of(page) == kv::kNoPage) {
      BIFOCAL_CHECK_EQ(held, 0);
      continue;
    }
    BIFOCAL_CHECK(held > 0 || pool_.in_tree(page));
    const auto window_page = static_cast<size_t>(window.of(page));
    BIFOCAL_CHECK(!taken[window_page]);
    taken[window_page] = true;
    ++(held > 0 ? owned : cached);
  }
  BIFOCAL_CHECK_EQ(owned, window.owned_pages());
  BIFOCAL_CHECK_EQ(cached, window.cached_pages());
  if (num_in_flight_ == 0) BIFOCAL_CHECK_GE(spare_window_pages(), 0);
}

}  // namespace bifocal::engine
