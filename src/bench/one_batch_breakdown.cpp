#include "bench/one_batch_breakdown.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "bench/repeats.h"

namespace bifocal::bench {
namespace {

std::string operation_name(const trace::SpanEvent& span) {
  switch (span.kind) {
    case trace::Kind::gemm:
      return fmt::format("{} {}x{}", span.name, span.values[1], span.values[2]);
    case trace::Kind::attention:
      return fmt::format("attention {}", span.name);
    case trace::Kind::step:
    case trace::Kind::layer:
    case trace::Kind::phase:
      return "other";
    default:
      return std::string(span.name);
  }
}

// Values of a gemm: m, n, k, bytes; of attention: rows, sequences, flops, bytes.
double flops_of(const trace::SpanEvent& span) {
  const auto value = [&](size_t i) { return static_cast<double>(span.values[i]); };
  if (span.kind == trace::Kind::gemm) return 2.0 * value(0) * value(1) * value(2);
  return span.kind == trace::Kind::attention ? value(2) : 0.0;
}
double bytes_of(const trace::SpanEvent& span) {
  const bool counted = span.kind == trace::Kind::gemm || span.kind == trace::Kind::attention;
  return counted ? static_cast<double>(span.values[3]) : 0.0;
}

bool is_on_device(const trace::SpanEvent& span) {
  return span.kind == trace::Kind::kernel || span.kind == trace::Kind::copy;
}

double seconds_of(const trace::SpanEvent& span) {
  return static_cast<double>(span.end_ns - span.start_ns) * 1e-9;
}

// Calls fn(span, its seconds without the spans inside it) for all spans of steps.
template <class Fn>
void for_each_own_time(std::vector<trace::SpanEvent> spans, Fn fn) {
  // Parents before children.
  std::stable_sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) {
    return a.start_ns != b.start_ns ? a.start_ns < b.start_ns : a.end_ns > b.end_ns;
  });
  struct Open {
    const trace::SpanEvent* span;
    double own_s;
  };
  std::vector<Open> open;
  const auto close = [&] {
    fn(*open.back().span, open.back().own_s);
    open.pop_back();
  };
  for (const trace::SpanEvent& span : spans) {
    while (!open.empty() && open.back().span->end_ns <= span.start_ns) close();
    if (open.empty() && span.kind != trace::Kind::step) continue;
    if (!open.empty()) open.back().own_s -= seconds_of(span);
    open.push_back({&span, seconds_of(span)});
  }
  while (!open.empty()) close();
}

// Calls fn(span, seconds by which it prolonged what the device did) for kernels and copies of steps: one that
// is launched early waits for the one before it, and that is no work of its own.
template <class Fn>
void for_each_device_time(const trace::Recording& recording, Fn fn) {
  std::vector<trace::SpanEvent> spans;
  for (const trace::TrackRecording& track : recording.tracks) {
    std::copy_if(track.spans.begin(), track.spans.end(), std::back_inserter(spans),
                 [](const auto& span) { return is_on_device(span) && span.values[0] != 0; });
  }
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.end_ns < b.end_ns; });
  int64_t until_ns = 0;
  for (const trace::SpanEvent& span : spans) {
    fn(span, static_cast<double>(span.end_ns - std::max(span.start_ns, until_ns)) * 1e-9);
    until_ns = span.end_ns;
  }
}

}  // namespace

void add_recording(const trace::Recording& recording, Breakdown& breakdown) {
  std::map<std::string, OperationTime> operations;
  for (OperationTime& operation : breakdown.operations) operations[operation.name] = std::move(operation);
  const auto add = [&](const trace::SpanEvent& span, double seconds) {
    const std::string name = operation_name(span);
    OperationTime& operation = operations[name];
    operation.name = name;
    operation.kind = span.kind;
    ++operation.calls;
    operation.seconds += seconds;
    operation.flops += flops_of(span);
    operation.bytes += bytes_of(span);
  };
  for (const trace::TrackRecording& track : recording.tracks) {
    breakdown.dropped += track.dropped;
    for_each_own_time(track.spans, [&](const trace::SpanEvent& span, double own_s) {
      add(span, own_s);
      if (span.kind != trace::Kind::step) return;
      ++breakdown.steps;
      breakdown.seconds += seconds_of(span);
    });
  }
  for_each_device_time(recording, [&](const trace::SpanEvent& span, double seconds) {
    add(span, seconds);
    operations["other"].seconds -= seconds;  // the host waited for it
  });
  breakdown.operations.clear();
  for (auto& [name, operation] : operations) breakdown.operations.push_back(std::move(operation));
  std::stable_sort(breakdown.operations.begin(), breakdown.operations.end(),
                   [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
}

Expected<Breakdown> break_down(std::string phase, int repeats, const std::function<Status()>& pass) {
  const Clock& clock = SteadyClock::instance();
  Breakdown breakdown;
  breakdown.phase = std::move(phase);
  std::vector<double> traced_s;
  std::vector<double> untraced_s;
  for (int i = 0; i < 2 * repeats; ++i) {
    const bool traced = i % 2 == 1;
    if (traced) BIFOCAL_RETURN_IF_ERROR(trace::start({}));
    const double since_s = clock.now_s();
    const Status status = pass();
    (traced ? traced_s : untraced_s).push_back(clock.now_s() - since_s);
    if (traced) {
      BIFOCAL_ASSIGN_OR_RETURN(const trace::Recording recording, trace::stop());
      add_recording(recording, breakdown);
    }
    BIFOCAL_RETURN_IF_ERROR(status);
  }
  breakdown.traced_s = summarise(std::move(traced_s)).median;
  breakdown.untraced_s = summarise(std::move(untraced_s)).median;
  return breakdown;
}

Table to_table(const std::vector<BreakdownRow>& rows, const Ceilings& limits, bool bf16_attention) {
  Table table{{"batch", "input", "phase", "operation", "calls/step", "ms/step", "share", "GFLOP/s", "GB/s",
               "of limit", "limit"},
              {}};
  for (const BreakdownRow& row : rows) {
    const Breakdown& b = row.breakdown;
    const double steps = static_cast<double>(std::max<int64_t>(1, b.steps));
    for (const OperationTime& operation : b.operations) {
      const bool bf16 =
          operation.kind == trace::Kind::attention ? bf16_attention : operation.name.starts_with("gemm bf16");
      const double flops_limit = bf16 ? limits.bf16_flops : limits.f32_fma_flops;
      const double arithmetic_s = operation.flops / flops_limit;
      const double memory_s = operation.bytes / row.dram_read_bytes_per_s;
      const bool counted = operation.flops > 0 && operation.seconds > 0;
      const auto rate = [&](double amount) {
        return counted ? fmt::format("{:.1f}", amount / operation.seconds * 1e-9) : std::string();
      };
      table.rows.push_back(
          {fmt::format("{}", row.batch), fmt::format("{}", row.input_len), b.phase, operation.name,
           fmt::format("{:.0f}", static_cast<double>(operation.calls) / steps),
           fmt::format("{:.3f}", operation.seconds / steps * 1e3),
           fmt::format("{:.1f} %", 100.0 * operation.seconds / b.seconds), rate(operation.flops),
           rate(operation.bytes),
           counted ? fmt::format("{:.2f}", std::max(arithmetic_s, memory_s) / operation.seconds) : "",
           !counted                  ? ""
           : memory_s > arithmetic_s ? "DRAM read"
           : bf16                    ? "bf16 peak"
                                     : "FMA peak"});
    }
    table.rows.push_back({fmt::format("{}", row.batch), fmt::format("{}", row.input_len), b.phase, "all", "",
                          fmt::format("{:.3f}", b.seconds / steps * 1e3), "100.0 %", "", "", "", ""});
  }
  return table;
}

}  // namespace bifocal::bench
