#include "engine/simulator.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "engine/scheduler.h"

namespace bifocal::engine {
namespace {

char abort_message[128] = "";  // a signal handler can't take arguments

void on_abort(int) {
  const ssize_t ignored = write(STDERR_FILENO, abort_message, std::strlen(abort_message));
  (void)ignored;
}

constexpr uint64_t kPoison = 0xdead;  // what no row may read

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void expect(bool condition, const std::string& what) {
  if (!condition) throw Failure(what);
}

struct Config {
  int page_size, num_pages, num_classes, alphabet;
  bool share_prefixes;
  int abort_percent, fault_per_mille, num_requests;
  int max_new_tokens;
  SchedulerOptions scheduler;
  kv::WindowLimits window;
  int max_choices;    // of a request
  int ahead_percent;  // of the steps, those behind which the next is planned before they are collected
};

Config draw_config(SplitMix64& random) {
  const auto pick = [&](std::initializer_list<int> values) {
    return *(values.begin() + static_cast<ptrdiff_t>(random.below(values.size())));
  };
  Config c;
  c.page_size = pick({1, 2, 3, 4, 8, 16});
  c.num_pages = pick({2, 4, 8, 20, 20, 60, 150});
  c.num_classes = pick({1, 1, 2, 3});
  c.alphabet = pick({1, 2, 3, 50});
  c.share_prefixes = random.below(4) != 0;
  c.abort_percent = pick({0, 0, 10, 40});
  c.fault_per_mille = pick({0, 0, 5, 50});
  c.num_requests = 5 + static_cast<int>(random.below(30));
  c.max_new_tokens = pick({1, 4, 20, 60, 150});
  c.scheduler.max_running = pick({1, 2, 4, 8, 16});
  c.scheduler.prefill_tokens = pick({1, 2, 7, 16, 64, 512});
  c.scheduler.split_prompts = random.below(4) != 0;
  c.scheduler.max_prompt_logit_rows = pick({1, 3, 64});
  c.scheduler.reuse_outputs = random.below(3) != 0;
  c.scheduler.conservativeness = 0.5 * pick({0, 1, 2});
  c.max_choices = c.scheduler.max_running;
  c.ahead_percent = pick({0, 100, 100, 70});
  if (random.below(3) == 0) return c;
  c.window.window = pick({1, 2, 5, 8, 20, 50});
  // From a single choice's to as many as pages.
  const auto of_choice = static_cast<int>(kv::pages_in_window(c.window.window, c.page_size) + 1);
  c.window.num_pages =
      std::min(c.num_pages, of_choice + pick({0, 1, 2, of_choice, 3 * of_choice, c.num_pages}));
  if (c.window.num_pages < c.num_pages) {
    c.max_choices = std::min(c.max_choices, c.window.num_pages / of_choice);
  }
  return c;
}

// What a request asks for and what it has received so far: the oracle.
struct Client {
  uint64_t cache_namespace = 0;
  uint64_t seed = 0;
  std::vector<int32_t> prompt;
  int64_t max_new_tokens = 0;
  int num_choices = 1;
  int64_t logits_from = kNoLogits;
  int64_t next_logit = kNoLogits;  // first prompt position whose logits have not been seen
  int64_t abort_at_ns = -1;
  std::map<int, std::vector<int32_t>> live;  // choice -> prompt and output
  std::map<int, std::vector<int32_t>> over;  // likewise, of those that have ended
  bool admitted = false;
  bool submitted = false;
};

// A step on the device: what was handed over with it.
struct Submitted {
  Step step;  // its spans lead into
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<kv::PageId>> pages;
};

uint64_t root_hash(uint64_t cache_namespace) {
  return mix64(cache_namespace + 1);
}
uint64_t extend(uint64_t chain, int32_t token) {
  return hash_combine(chain, static_cast<uint64_t>(token));
}

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed),
        config_(draw_config(random_)),
        pool_(config_.num_pages, config_.page_size, config_.window),
        tree_(pool_),
        scheduler_(config_.scheduler, pool_, config_.share_prefixes ? &tree_ : nullptr),
        kv_(static_cast<size_t>(config_.num_pages * config_.page_size), 0),
        by_prefill_(kv_.size(), 0),
        window_kv_(static_cast<size_t>(config_.window.num_pages * config_.page_size), kPoison),
        poisoned_(static_cast<size_t>(config_.num_pages), false) {}

  SimulationResult run() {
    try {
      play();
    } catch (const Failure& failure) {
      result_.failure = failure.what();
    }
    return result_;
  }

 private:
  void play() {
    draw_clients();
    int64_t work = 0;  // an upper bound of the rows that anybody may need without retraction
    for (const Client& c : clients_) {
      work += c.num_choices * (static_cast<int64_t>(c.prompt.size()) + c.max_new_tokens);
    }
    const int64_t max_steps = 1000 + 20 * work;
    size_t arrived = 0;
    while (arrived < clients_.size() || num_live_ > 0) {
      expect(static_cast<int64_t>(result_.steps) < max_steps, "livelock: too many steps");
      while (arrived < clients_.size() && arrivals_ns_[arrived] <= clock_.now_ns()) submit(arrived++);
      abort_due();
      const Step& step = scheduler_.schedule();
      scheduler_.check_invariants();
      poison_free_pages();
      for (const SequenceKey& key : step.outgrown) outgrow(key);
      size_t stay = 0;  // steps that go on while the next is planned
      if (!step.empty()) {
        ++result_.steps;
        check_step(step);
        clock_.advance_ns(1'000'000 + 10'000 * step.num_rows);
        if (!device_.empty()) ++result_.planned_ahead;
        submit(step);
        const bool may_stay = window() == nullptr;
        stay = may_stay && random_.below(100) < static_cast<uint64_t>(config_.ahead_percent) ? 1 : 0;
      } else if (device_.empty()) {
        expect(scheduler_.idle() || !step.outgrown.empty(), "an empty step while requests wait");
        if (scheduler_.idle() && arrived < clients_.size()) {
          clock_.advance_ns(std::max<int64_t>(1, arrivals_ns_[arrived] - clock_.now_ns()));
        }
      }
      while (device_.size() > stay) collect();
    }
    while (!device_.empty()) collect();
    expect(scheduler_.idle(), "all clients are done and the scheduler is not idle");
    expect(pool_.owned_pages() == 0, "pages are held at idle");
    expect(config_.share_prefixes || pool_.free_pages() == pool_.num_pages(),
           "pages are cached without a tree");
    expect(window() == nullptr || window()->owned_pages() == 0, "window pages are held at idle");
    tree_.clear();
    expect(pool_.free_pages() == pool_.num_pages(), "pages leaked");
    expect(window() == nullptr || window()->free_pages() == window()->num_pages(), "window pages leaked");
    result_.requests = clients_.size();
    result_.computed_tokens = scheduler_.counters().computed_tokens;
    result_.recomputed_tokens = scheduler_.counters().recomputed_tokens;
    result_.cached_tokens = scheduler_.counters().cached_prompt_tokens;
    result_.retractions = scheduler_.counters().retractions;
    if (window() == nullptr) return;
    result_.windowed_retractions = result_.retractions;
    result_.windowed_cached_tokens = result_.cached_tokens;
  }

  // --- load ---

  void draw_clients() {
    const int64_t pool_tokens = int64_t{config_.num_pages} * config_.page_size;
    // Prompts that fill the pool alone, or such that many fit and outgrow it together.
    const int64_t longest = std::max<int64_t>(1, pool_tokens >> (2 * random_.below(4)));
    int64_t now = 0;
    std::vector<std::vector<int32_t>> shared(3);  // prefixes that many prompts start with
    for (auto& prefix : shared) prefix = draw_tokens(static_cast<int64_t>(random_.below(40)));
    for (int i = 0; i < config_.num_requests; ++i) {
      Client c;
      c.cache_namespace = random_.below(static_cast<uint64_t>(config_.num_classes));
      c.seed = random_.next();
      const int64_t page = config_.page_size;
      const int64_t lengths[] = {1,
                                 page - 1,
                                 page,
                                 page + 1,
                                 2 * page,
                                 1 + static_cast<int64_t>(random_.below(30)),
                                 1 + static_cast<int64_t>(random_.below(static_cast<uint64_t>(longest)))};
      const int64_t length = std::clamp<int64_t>(lengths[random_.below(std::size(lengths))], 1, longest);
      c.prompt = draw_tokens(length);
      const auto& prefix = shared[random_.below(shared.size())];
      const size_t common = random_.below(std::min(prefix.size(), c.prompt.size()) + 1);
      std::copy_n(prefix.begin(), common, c.prompt.begin());
      if (i > 0 && random_.below(4) == 0) c.prompt = clients_.back().prompt;  // the very same again
      c.max_new_tokens =
          static_cast<int64_t>(random_.below(static_cast<uint64_t>(config_.max_new_tokens) + 1));
      if (random_.below(5) == 0) c.num_choices = 1 + static_cast<int>(random_.below(4));
      c.num_choices = std::min(c.num_choices, config_.max_choices);
      if (random_.below(5) == 0) c.logits_from = static_cast<int64_t>(random_.below(c.prompt.size()));
      if (random_.below(4) != 0) now += static_cast<int64_t>(random_.below(30'000'000));  // else a burst
      arrivals_ns_.push_back(now);
      if (random_.below(100) < static_cast<uint64_t>(config_.abort_percent)) {
        c.abort_at_ns = now + static_cast<int64_t>(random_.below(60'000'000));
      }
      clients_.push_back(std::move(c));
    }
  }

  std::vector<int32_t> draw_tokens(int64_t count) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (auto& token : tokens)
      token = static_cast<int32_t>(random_.below(static_cast<uint64_t>(config_.alphabet)));
    return tokens;
  }

  void submit(size_t index) {
    Client& c = clients_[index];
    const Status valid = scheduler_.validate(static_cast<int64_t>(c.prompt.size()), c.num_choices);
    expect(valid.ok(), "a request that fits was refused: " + valid.message());
    const int64_t too_long = int64_t{config_.num_pages} * config_.page_size + 1;
    expect(!scheduler_.validate(too_long, 1).ok(), "a request that can never fit was accepted");
    for (int choice = 0; choice < c.num_choices; ++choice) c.live[choice] = c.prompt;
    c.submitted = true;
    // The last row's logits come anyway.
    c.next_logit = c.logits_from < static_cast<int64_t>(c.prompt.size()) - 1 ? c.logits_from : kNoLogits;
    num_live_ += c.num_choices;
    scheduler_.submit({index, c.cache_namespace, c.prompt, c.max_new_tokens, c.num_choices, c.logits_from});
  }

  void abort_due() {
    for (size_t i = 0; i < clients_.size(); ++i) {
      Client& c = clients_[i];
      if (!c.submitted || c.live.empty() || c.abort_at_ns < 0 || c.abort_at_ns > clock_.now_ns()) continue;
      scheduler_.cancel(i);
      end_all(c);
      ++result_.aborts;
    }
    poison_free_pages();
  }

  void end_choice(Client& c, int choice) {
    auto ended = c.live.extract(choice);
    if (ended.empty()) return;
    --num_live_;
    c.over.insert(std::move(ended));
  }
  void end_all(Client& c) {
    while (!c.live.empty()) end_choice(c, c.live.begin()->first);
  }

  // --- one step ---

  void submit(const Step& step) {
    Submitted& submitted = device_.emplace_back();
    submitted.step = step;
    for (StepSequence& s : submitted.step.sequences) {
      s.tokens = submitted.tokens.emplace_back(s.tokens.begin(), s.tokens.end());
      s.pages = submitted.pages.emplace_back(s.pages.begin(), s.pages.end());
    }
  }

  // The device runs a step no sooner than its results are asked for.
  void collect() {
    execute(device_.front());
    device_.pop_front();
    scheduler_.check_invariants();
  }

  void check_step(const Step& step) {
    std::set<kv::PageId> sources;
    std::set<kv::PageId> targets;
    for (const PageCopy& copy : step.copies) {
      sources.insert(copy.source);
      expect(targets.insert(copy.target).second, "a page is copied to twice");
      expect(copy.num_tokens > 0 && copy.num_tokens < config_.page_size,
             "a copy of no tokens, or of a whole page");
      expect(pool_.writable(copy.target), "a shared page is copied to");
    }
    std::set<std::pair<kv::PageId, int64_t>> written;
    int prefill_rows = 0, decode_rows = 0, rows = 0, logits = 0, last_place = 0;
    for (const StepSequence& s : step.sequences) {
      check_order(s.key.request, clients_.at(s.key.request));
      expect(s.q_begin == rows && s.logit_begin == logits, "rows are not laid out one after another");
      expect(s.q_len >= 1 && s.q_len == static_cast<int32_t>(s.tokens.size()), "rows without tokens");
      expect(s.num_logits >= 1 && s.num_logits <= s.q_len, "logits of rows that are not there");
      const bool decode = s.phase == attention::Phase::decode;
      const int place = s.phase == attention::Phase::prefill ? 0 : decode ? 2 : 1;
      expect(place >= last_place, "phases out of order");
      last_place = place;
      (decode ? decode_rows : prefill_rows) += s.q_len;
      // A position's phase is its own.
      const auto prompt_len = static_cast<int32_t>(clients_.at(s.key.request).prompt.size());
      expect(place == 0 ? s.kv_len <= prompt_len : s.kv_len - s.q_len >= prompt_len,
             "a row in the wrong phase");
      expect(!decode || s.q_len == 1, "a decode of several rows");
      const int64_t outputs = std::max<int64_t>(0, clients_.at(s.key.request).max_new_tokens - 1);
      expect(s.kv_len <= prompt_len + outputs, "a row behind the last token");
      expect((s.tokens.back() == kNoToken) == (s.chosen_row >= 0), "a token that nobody gives");
      rows += s.q_len;
      logits += s.num_logits;
      for (int64_t p = s.kv_len - s.q_len; p < s.kv_len; ++p) {
        const kv::PageId page = page_of(s, p);
        expect(pool_.writable(page), "a shared page is written");
        expect(window() == nullptr || window()->ref_count(page) == 1, "a shared window page is written");
        expect(written.emplace(page, p % config_.page_size).second, "two rows write one slot");
      }
    }
    expect(rows == step.num_rows && logits == step.num_logits, "wrong totals");
    expect(prefill_rows <= config_.scheduler.prefill_tokens, "more prompt tokens than a step may hold");
    expect(static_cast<int>(step.sequences.size()) <= config_.scheduler.max_running, "too many sequences");
    expect(logits <= config_.scheduler.max_running + config_.scheduler.max_prompt_logit_rows,
           "too many logits");
    for (const kv::PageId page : sources) expect(!targets.contains(page), "a source is a target");
    result_.copies += step.copies.size();
    if (prefill_rows > 0 && decode_rows > 0) ++result_.mixed_steps;
  }

  void execute(Submitted& submitted) {
    const Step& step = submitted.step;
    for (const PageCopy& copy : step.copies) {
      for (int t = 0; t < copy.num_tokens; ++t) {
        const size_t source = index(copy.source, t);
        const size_t target = index(copy.target, t);
        kv_[target] = kv_[source];
        by_prefill_[target] = by_prefill_[source];
        if (window() == nullptr) continue;
        window_kv_[index(copy.window_target, t)] = window_kv_[index(copy.window_source, t)];
      }
    }
    StepResult result;
    std::vector<kv::PageId> fresh;  // pages of faulted sequences that the tree doesn't know
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      const StepSequence& s = step.sequences[i];
      Client& c = clients_.at(s.key.request);
      if (s.chosen_row >= 0) submitted.tokens[i].back() = chosen_.at(static_cast<size_t>(s.chosen_row));
      write_and_check(s, c);
      const bool over = c.over.contains(s.key.choice) || c.live.empty();
      if (!over) see_logits(s, c);
      if (over) expect_not_in_tree(s);
      const bool fault = random_.below(1000) < static_cast<uint64_t>(config_.fault_per_mille);
      result.faulted.push_back(fault ? 1 : 0);
      result_.rows_too_far += over ? 1 : 0;
      if (!fault || over) continue;
      ++result_.faults;
      for (const kv::PageId page : s.pages) {
        if (!pool_.in_tree(page)) fresh.push_back(page);
      }
    }
    chosen_.assign(static_cast<size_t>(step.num_logits), kNoToken);
    for (const StepSample& sample : step.samples) {
      const StepSequence& s = step.sequences[static_cast<size_t>(sample.sequence)];
      expect(sample.logit_row == s.logit_begin + s.num_logits - 1, "a sample from another row than the last");
      expect(sample.position == s.kv_len, "a sample for another position than the next");
      const SampleResult chosen = choose(s, sample);
      if (sample.key == s.key) chosen_[static_cast<size_t>(sample.logit_row)] = chosen.token;
      const bool faulted = result.faulted[static_cast<size_t>(sample.sequence)] != 0;
      result.samples.push_back(faulted ? SampleResult{} : deliver(sample, chosen));
    }
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      if (result.faulted[i] != 0) end_faulted(step, static_cast<int32_t>(i));
    }
    scheduler_.complete(result);
    for (const kv::PageId page : fresh)
      expect(!pool_.in_tree(page), "a page of a faulted sequence is reused");
    poison_free_pages();
    poison_free_window_pages();
  }

  // Nobody has said that these rows are sound, and nobody will.
  void expect_not_in_tree(const StepSequence& s) const {
    for (int64_t p = s.kv_len - s.q_len; p < s.kv_len; ++p) {
      expect(p % config_.page_size != 0 || !pool_.in_tree(page_of(s, p)), "rows in flight are reused");
    }
  }

  // What is free may be anybody's: a step in flight that still reads it finds out.
  void poison_free_pages() {
    for (kv::PageId page = 0; page < pool_.num_pages(); ++page) {
      const bool free = pool_.ref_count(page) == 0;
      if (free && !poisoned_[static_cast<size_t>(page)]) {
        std::fill_n(kv_.begin() + static_cast<ptrdiff_t>(index(page, 0)), config_.page_size, kPoison);
      }
      poisoned_[static_cast<size_t>(page)] = free;
    }
  }

  void poison_free_window_pages() {
    if (window() == nullptr) return;
    std::vector<bool> taken(static_cast<size_t>(window()->num_pages()), false);
    for (kv::PageId page = 0; page < pool_.num_pages(); ++page) {
      if (window()->of(page) != kv::kNoPage) taken[static_cast<size_t>(window()->of(page))] = true;
    }
    for (size_t page = 0; page < taken.size(); ++page) {
      if (taken[page]) continue;
      ++result_.poisoned_pages;
      std::fill_n(window_kv_.begin() + static_cast<ptrdiff_t>(index(static_cast<kv::PageId>(page), 0)),
                  config_.page_size, kPoison);
    }
  }

  void check_order(RequestKey key, Client& c) {
    expect(!c.live.empty(), "rows for a request that is over");
    if (std::exchange(c.admitted, true)) return;
    for (size_t older = 0; older < key; ++older) {
      const Client& other = clients_[older];
      expect(other.cache_namespace != c.cache_namespace || other.admitted || other.live.empty(),
             "a younger request of the same class overtook");
    }
  }

  // Each slot holds the hash of everything up to it, made from the slot before: a wrong page shows at once.
  void write_and_check(const StepSequence& s, const Client& c) {
    std::vector<int32_t> tokens = c.prompt;
    if (const auto it = c.live.find(s.key.choice); it != c.live.end()) tokens = it->second;
    if (const auto it = c.over.find(s.key.choice); it != c.over.end()) {
      tokens = it->second;  // which may lack a token that a fault took
      if (static_cast<int32_t>(tokens.size()) == s.kv_len - 1) tokens.push_back(s.tokens.back());
    }
    expect(s.kv_len <= static_cast<int32_t>(tokens.size()), "more rows than tokens");
    const int64_t first = s.kv_len - s.q_len;
    uint64_t chain = root_hash(c.cache_namespace);
    for (int64_t p = 0; p < s.kv_len; ++p) {
      chain = extend(chain, tokens[static_cast<size_t>(p)]);
      uint64_t& content = slot(page_of(s, p), p % config_.page_size);
      if (p >= first) {
        expect(s.tokens[static_cast<size_t>(p - first)] == tokens[static_cast<size_t>(p)],
               "wrong token in a row");
        content = chain;
      }
      expect(content == chain, fmt::format("request {} choice {}: position {} holds something else",
                                           s.key.request, s.key.choice, p));
      if (window() == nullptr || p < first - config_.window.window + 1) continue;
      const kv::PageId window_page = window()->of(page_of(s, p));
      expect(window_page != kv::kNoPage, fmt::format("position {} of {} is in no window page", p, s.kv_len));
      uint64_t& window_content = window_kv_[index(window_page, p % config_.page_size)];
      if (p >= first) window_content = chain;
      expect(window_content == chain,
             fmt::format("request {} choice {}: position {} holds something else in its window",
                         s.key.request, s.key.choice, p));
    }
  }

  void see_logits(const StepSequence& s, Client& c) {
    if (c.next_logit == kNoLogits) return;
    const int64_t first = s.kv_len - s.num_logits;
    if (s.kv_len <= c.next_logit) return;
    expect(first <= c.next_logit, "logits of the prompt were skipped");
    c.next_logit = s.kv_len >= static_cast<int64_t>(c.prompt.size()) - 1 ? kNoLogits : s.kv_len;
  }

  // The device's choice, which it makes for those too who have ended meanwhile.
  SampleResult choose(const StepSequence& s, const StepSample& sample) {
    const Client& c = clients_.at(sample.key.request);
    SampleResult out;
    out.finished = sample.position + 1 - static_cast<int64_t>(c.prompt.size()) >= c.max_new_tokens;
    if (c.max_new_tokens == 0) return out;
    const uint64_t chain = slot(page_of(s, s.kv_len - 1), (s.kv_len - 1) % config_.page_size);
    const uint64_t h = hash_combine(hash_combine(c.seed, static_cast<uint64_t>(sample.key.choice)), chain);
    out.token = static_cast<int32_t>(h % static_cast<uint64_t>(config_.alphabet));
    out.finished = out.finished || (h >> 32) % 50 == 0;  // the end token
    return out;
  }

  SampleResult deliver(const StepSample& sample, const SampleResult& chosen) {
    Client& c = clients_.at(sample.key.request);
    const auto it = c.live.find(sample.key.choice);
    if (it == c.live.end()) return {};
    expect(c.next_logit == kNoLogits, "the prompt ended before all its logits were seen");
    std::vector<int32_t>& tokens = it->second;
    expect(static_cast<int64_t>(tokens.size()) == sample.position, "a token out of order");
    if (chosen.token != kNoToken) {
      tokens.push_back(chosen.token);
      ++result_.tokens;
    }
    if (chosen.finished) end_choice(c, sample.key.choice);
    return chosen;
  }

  void end_faulted(const Step& step, int32_t index) {
    const SequenceKey key = step.sequences[static_cast<size_t>(index)].key;
    Client& c = clients_.at(key.request);
    if (!c.live.contains(key.choice)) return;  // it had ended before
    // Before its prompt is through, a request is one sequence: all choices end.
    const bool trunk =
        std::none_of(c.live.begin(), c.live.end(),
                     [&](const auto& item) { return item.second.size() > c.prompt.size(); }) &&
        step.sequences[static_cast<size_t>(index)].kv_len <= static_cast<int32_t>(c.prompt.size());
    if (trunk) {
      end_all(c);
    } else {
      end_choice(c, key.choice);
    }
  }

  void outgrow(SequenceKey key) {
    Client& c = clients_.at(key.request);
    expect(c.live.contains(key.choice), "a choice that is over has outgrown the pool");
    const int64_t capacity = int64_t{config_.num_pages} * config_.page_size;
    expect(static_cast<int64_t>(c.live.at(key.choice).size()) > capacity, "ended as too long while it fits");
    end_choice(c, key.choice);
    ++result_.outgrown;
  }

  kv::PageId page_of(const StepSequence& s, int64_t position) const {
    return s.pages[static_cast<size_t>(position / config_.page_size)];
  }
  size_t index(kv::PageId page, int64_t token) const {
    return static_cast<size_t>(int64_t{page} * config_.page_size + token);
  }
  const kv::WindowPages* window() const { return pool_.window(); }
  uint64_t& slot(kv::PageId page, int64_t token) { return kv_[index(page, token)]; }

  SplitMix64 random_;
  Config config_;
  kv::PagePool pool_;
  kv::PrefixTree tree_;
  Scheduler scheduler_;
  std::vector<uint64_t> kv_;         // [P, S] the hash of everything up to this token
  std::vector<uint8_t> by_prefill_;  // [P, S] which kind of row wrote it
  std::vector<uint64_t> window_kv_;  // [window pages, S] the same hash, in layers with a window
  std::vector<bool> poisoned_;       // [P] free when last looked at
  std::deque<Submitted> device_;     // steps in flight
  std::vector<int32_t> chosen_;      // [R] of the step that the device ran last
  VirtualClock clock_;
  std::vector<Client> clients_;
  std::vector<int64_t> arrivals_ns_;
  int num_live_ = 0;  // choices
  SimulationResult result_;
};

}  // namespace

SimulationResult& SimulationResult::operator+=(const SimulationResult& other) {
  steps += other.steps;
  requests += other.requests;
  tokens += other.tokens;
  computed_tokens += other.computed_tokens;
  recomputed_tokens += other.recomputed_tokens;
  cached_tokens += other.cached_tokens;
  retractions += other.retractions;
  copies += other.copies;
  faults += other.faults;
  aborts += other.aborts;
  outgrown += other.outgrown;
  mixed_steps += other.mixed_steps;
  poisoned_pages += other.poisoned_pages;
  planned_ahead += other.planned_ahead;
  rows_too_far += other.rows_too_far;
  windowed_retractions += other.windowed_retractions;
  windowed_cached_tokens += other.windowed_cached_tokens;
  return *this;
}

std::string repro(uint64_t seed) {
  return fmt::format("reproduce with: engine_simulator {} 1", seed);
}

SimulationResult simulate(uint64_t seed) {
  const std::string message = repro(seed) + "\n";
  std::memcpy(abort_message, message.c_str(), std::min(message.size() + 1, sizeof(abort_message) - 1));
  const auto previous = std::signal(SIGABRT, on_abort);
  SimulationResult result = Simulation(seed).run();
  std::signal(SIGABRT, previous);
  return result;
}

}  // namespace bifocal::engine
