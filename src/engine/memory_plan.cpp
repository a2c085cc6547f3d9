#include "engine/memory_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/file.h"
#include "base/progress.h"

namespace bifocal::engine {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

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

}  // namespace

uint64_t usable_memory_bytes() {
  const auto pages = static_cast<uint64_t>(std::max(0L, sysconf(_SC_PHYS_PAGES)));
  const auto page_bytes = static_cast<uint64_t>(std::max(0L, sysconf(_SC_PAGESIZE)));
  return std::min(pages * page_bytes, control_group_limit());
}

Expected<MemoryPlan> plan_memory(const MemoryNeeds& needs, const EngineOptions& options) {
  MemoryPlan plan;
  plan.needs = needs;
  plan.page_size = options.page_size;
  plan.page_bytes = kv::KvCache::bytes_per_page(needs.layers, options.kv_dtype, options.page_size);
  if (plan.page_bytes == 0) return invalid_argument("the model has no layers with keys and values");
  const uint64_t fixed =
      needs.weight_bytes + needs.workspace_bytes + needs.plan_buffer_bytes + needs.logit_bytes;
  const auto budget =
      static_cast<uint64_t>(options.mem_fraction_static * static_cast<double>(needs.usable_bytes));

  uint64_t pages = 0;
  if (options.kv_cache_bytes > 0) {
    pages = static_cast<uint64_t>(options.kv_cache_bytes) / plan.page_bytes;
    plan.kv_reason = fmt::format("{} asked for", format_bytes(static_cast<uint64_t>(options.kv_cache_bytes)));
  } else {
    pages = saturating_sub(budget, fixed) / plan.page_bytes;
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
  cap(static_cast<uint64_t>(std::numeric_limits<int32_t>::max()), "page ids are 32 bits wide");
  if (pages == 0 && options.kv_cache_bytes > 0) {
    return invalid_argument(fmt::format("a KV cache of {} does not hold one page of {} tokens ({})",
                                        format_bytes(static_cast<uint64_t>(options.kv_cache_bytes)),
                                        options.page_size, format_bytes(plan.page_bytes)));
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
        format_bytes(plan.page_bytes)));
  }
  plan.num_pages = static_cast<int>(pages);
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
  line("KV pages", kv_bytes(),
       fmt::format("{} pages x {} tokens = {} tokens ({}); taken as it is used", num_pages, page_size,
                   kv_tokens(), kv_reason));
  line("workspace", needs.workspace_bytes, "");
  line("plan buffers", needs.plan_buffer_bytes, "");
  line("logits", needs.logit_bytes, "taken as it is used");
  line("total", total, fmt::format("of {}", format_bytes(needs.usable_bytes)));
  return out;
}

}  // namespace bifocal::engine
