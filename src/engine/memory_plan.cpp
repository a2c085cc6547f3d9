#include "engine/memory_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/file.h"
#include "base/progress.h"
#include "kv/window_pages.h"

namespace bifocal::engine {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kMaxPages = std::numeric_limits<int32_t>::max();

// A control group's memory limit; kNoLimit when there is none ("max", or a huge number in version 1).
uint64_t control_group_limit() {
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const auto text = read_file(path, 64);
    if (!text.ok()) continue;
    uint64_t bytes = 0;
    const char* end = text->data() + text->size();
    if (std::from_chars(text->data(), end, bytes).ec == std::errc() && bytes > 0) return bytes;
  }
  return kNoLimit;
}

uint64_t saturating_sub(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}
uint64_t saturating_add(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? kNoLimit : sum;
}
uint64_t saturating_mul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kNoLimit : product;
}

// How many window pages belong to a number of pages. At least one sequence's, and room for a step's prompts;
// never more than pages, since each stands beside one.
class WindowShare {
 public:
  WindowShare(const MemoryNeeds& needs, const EngineOptions& options)
      : window_(needs.window),
        page_size_(options.page_size),
        max_running_(options.max_running_requests),
        ratio_(options.swa_full_tokens_ratio),
        prefill_pages_(kv::pages_for(needs.prefill_tokens, options.page_size)) {}

  int of(int64_t pages) const {
    if (window_ == 0) return 0;
    const int64_t of_sequence = kv::pages_in_window(window_, page_size_) + 1;  // one is copied from
    const int64_t wanted = ratio_ > 0 ? asked_for(pages) : automatic(pages, of_sequence);
    return static_cast<int>(std::min(std::max(wanted, of_sequence + prefill_pages_), pages));
  }

 private:
  int64_t asked_for(int64_t pages) const {
    return static_cast<int64_t>(std::ceil(ratio_ * static_cast<double>(pages)));
  }
  // As many sequences as fill the pages when each has so many tokens; and for cached prefixes, whose ends
  // must be there to go on from, a share of the pages.
  int64_t automatic(int64_t pages, int64_t of_sequence) const {
    const int64_t typical_tokens = std::max<int64_t>(kTypicalTokens, kTypicalWindows * window_);
    const int64_t sequences = std::clamp<int64_t>(pages * page_size_ / typical_tokens, 1, max_running_);
    return sequences * of_sequence + prefill_pages_ + pages / kPagesPerCachedEnd;
  }

  static constexpr int64_t kTypicalTokens = 2048;
  static constexpr int64_t kTypicalWindows = 4;
  static constexpr int64_t kPagesPerCachedEnd = 16;

  int window_;
  int page_size_;
  int max_running_;
  double ratio_;
  int64_t prefill_pages_;
};

}  // namespace

uint64_t MemoryPlan::full_kv_bytes() const {
  return saturating_mul(page_bytes, static_cast<uint64_t>(num_pages));
}
uint64_t MemoryPlan::window_kv_bytes() const {
  return saturating_mul(window_page_bytes, static_cast<uint64_t>(num_window_pages));
}
uint64_t MemoryPlan::kv_bytes() const {
  return saturating_add(full_kv_bytes(), window_kv_bytes());
}

uint64_t usable_memory_bytes() {
  const auto pages = static_cast<uint64_t>(std::max(0L, sysconf(_SC_PHYS_PAGES)));
  const auto page_bytes = static_cast<uint64_t>(std::max(0L, sysconf(_SC_PAGESIZE)));
  return std::min(pages * page_bytes, control_group_limit());
}

Expected<MemoryPlan> plan_memory(const MemoryNeeds& needs, const EngineOptions& options) {
  MemoryPlan plan;
  plan.needs = needs;
  plan.page_size = options.page_size;
  for (const bool windowed : {false, true}) {
    std::vector<kv::LayerShape> layers;
    std::copy_if(
        needs.layers.begin(), needs.layers.end(), std::back_inserter(layers),
        [&](const kv::LayerShape& layer) { return (layer.windowed && needs.window > 0) == windowed; });
    (windowed ? plan.window_page_bytes : plan.page_bytes) =
        kv::KvCache::bytes_per_page(layers, options.kv_dtype, options.page_size);
  }
  if (plan.page_bytes + plan.window_page_bytes == 0)
    return invalid_argument("the model has no layers with keys and values");
  const uint64_t fixed =
      needs.weight_bytes + needs.workspace_bytes + needs.plan_buffer_bytes + needs.logit_bytes;
  const auto budget =
      static_cast<uint64_t>(options.mem_fraction_static * static_cast<double>(needs.usable_bytes));

  const WindowShare windows(needs, options);
  const auto set_pages = [&](uint64_t pages) {
    plan.num_pages = static_cast<int>(pages);
    plan.num_window_pages = windows.of(plan.num_pages);
  };
  // The most pages that, with their window pages, fit so many bytes.
  const auto pages_within = [&](uint64_t bytes) {
    uint64_t fit = 0;
    for (uint64_t end = kMaxPages + 1; end - fit > 1;) {
      const uint64_t middle = fit + (end - fit) / 2;
      set_pages(middle);
      (plan.kv_bytes() <= bytes ? fit : end) = middle;
    }
    return fit;
  };

  uint64_t pages = 0;
  if (options.kv_cache_bytes > 0) {
    pages = pages_within(static_cast<uint64_t>(options.kv_cache_bytes));
    plan.kv_reason = fmt::format("{} asked for", format_bytes(static_cast<uint64_t>(options.kv_cache_bytes)));
  } else {
    pages = pages_within(saturating_sub(budget, fixed));
    plan.kv_reason =
        fmt::format("what {:g} of {} leaves", options.mem_fraction_static, format_bytes(needs.usable_bytes));
  }
  const auto cap = [&](uint64_t limit, std::string reason) {
    if (limit >= pages) return;
    pages = limit;
    plan.kv_reason = std::move(reason);
  };
  const auto pages_of = [&](int64_t tokens) {
    return static_cast<uint64_t>(kv::pages_for(tokens, options.page_size));
  };
  if (options.max_total_tokens > 0) {
    // Given alone it is the size, not only a bound.
    if (options.kv_cache_bytes <= 0) pages = kNoLimit;
    cap(pages_of(options.max_total_tokens), fmt::format("{} tokens asked for", options.max_total_tokens));
  }
  cap(static_cast<uint64_t>(options.max_running_requests) * pages_of(needs.context_length),
      fmt::format("{} requests of {} tokens use no more", options.max_running_requests,
                  needs.context_length));
  cap(kMaxPages, "page ids are 32 bits wide");
  const uint64_t page_bytes = plan.page_bytes + plan.window_page_bytes;
  if (pages == 0 && options.kv_cache_bytes > 0) {
    return invalid_argument(fmt::format("a KV cache of {} does not hold one page of {} tokens ({})",
                                        format_bytes(static_cast<uint64_t>(options.kv_cache_bytes)),
                                        options.page_size, format_bytes(page_bytes)));
  }
  if (pages == 0) {
    return resource_exhausted(fmt::format(
        "no room for the KV cache: {:g} (mem_fraction_static) of {} = {}, minus weights {}, workspace {}, "
        "plan buffers "
        "{} and logits {}, does not hold one page of {} tokens ({}); raise --mem-fraction-static, give "
        "--kv-cache-memory, or lower --page-size, --chunked-prefill-size or --max-running-requests",
        options.mem_fraction_static, format_bytes(needs.usable_bytes), format_bytes(budget),
        format_bytes(needs.weight_bytes), format_bytes(needs.workspace_bytes),
        format_bytes(needs.plan_buffer_bytes), format_bytes(needs.logit_bytes), options.page_size,
        format_bytes(page_bytes)));
  }
  set_pages(pages);
  if (fixed + plan.kv_bytes() > needs.usable_bytes) {
    return resource_exhausted(fmt::format(
        "weights {} + workspace {} + plan buffers {} + logits {} + KV cache {} ({}) = {}, the machine has {}",
        format_bytes(needs.weight_bytes), format_bytes(needs.workspace_bytes),
        format_bytes(needs.plan_buffer_bytes), format_bytes(needs.logit_bytes), format_bytes(plan.kv_bytes()),
        plan.kv_reason, format_bytes(fixed + plan.kv_bytes()), format_bytes(needs.usable_bytes)));
  }
  return plan;
}

std::string MemoryPlan::table() const {
  const uint64_t total =
      needs.weight_bytes + kv_bytes() + needs.workspace_bytes + needs.plan_buffer_bytes + needs.logit_bytes;
  std::string out;
  const auto line = [&](std::string_view what, uint64_t bytes, std::string_view detail) {
    out += fmt::format("  {:<13}{:>12}{}{}\n", what, format_bytes(bytes), detail.empty() ? "" : "  ", detail);
  };
  line("weights", needs.weight_bytes, "");
  line("KV pages", full_kv_bytes(),
       fmt::format("{} pages x {} tokens = {} tokens ({}){}", num_pages, page_size, kv_tokens(), kv_reason,
                   needs.on_demand ? "; taken as it is used" : ""));
  if (num_window_pages > 0) {
    line("KV windows", window_kv_bytes(),
         fmt::format("{} pages x {} tokens, for layers that see {} tokens", num_window_pages, page_size,
                     needs.window));
  }
  line("workspace", needs.workspace_bytes, "");
  line("plan buffers", needs.plan_buffer_bytes, "");
  line("logits", needs.logit_bytes, needs.on_demand ? "taken as it is used" : "");
  line("total", total, fmt::format("of {}", format_bytes(needs.usable_bytes)));
  return out;
}

}  // namespace bifocal::engine
