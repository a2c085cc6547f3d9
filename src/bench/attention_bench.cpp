#include "bench/attention_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/hash.h"
#include "bench/ceilings.h"
#include "bench/repeats.h"

namespace bifocal::bench {
namespace {

using attention::AttentionDesc;
using attention::Backend;

constexpr double kBurstSeconds = 0.05;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The keys, or the values, of a page.
size_t page_bytes_of(const AttentionShape& shape) {
  return static_cast<size_t>(shape.page_size) * static_cast<size_t>(shape.num_kv_heads) *
         static_cast<size_t>(shape.head_dim_k) * size_of(shape.dtype);
}

double best(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

// A backend ready to run a problem.
struct Contender {
  const Backend* backend = nullptr;
  attention::PlanBuffers buffers;
  attention::Plan plan;
  std::vector<double> plan_seconds;
  std::vector<double> run_seconds;
};

Expected<std::vector<const Backend*>> find_backends(const std::vector<std::string>& names) {
  std::vector<const Backend*> backends;
  for (const std::string& name : names) {
    backends.push_back(attention::find_backend(name));
    if (backends.back() == nullptr) {
      return invalid_argument(fmt::format("attention backend \"{}\" is unknown", name));
    }
  }
  if (names.empty()) {
    for (const Backend* backend : attention::cpu_backends()) {
      if (backend->name() != "reference") backends.push_back(backend);
    }
  }
  return backends;
}

Status burst(Contender& contender, const AttentionDesc& desc, AttentionProblem& problem, ThreadPool& pool) {
  const auto plan_begin = std::chrono::steady_clock::now();
  contender.plan = contender.backend->plan(desc, problem.batch(), contender.buffers);
  contender.plan_seconds.push_back(seconds_since(plan_begin));
  const auto begin = std::chrono::steady_clock::now();
  int runs = 0;
  double elapsed = 0;
  do {
    BIFOCAL_RETURN_IF_ERROR(contender.backend->run(contender.plan, desc, 1, problem.next_layer(), pool));
    ++runs;
    elapsed = seconds_since(begin);
  } while (elapsed < kBurstSeconds);
  contender.run_seconds.push_back(elapsed / runs);
  return {};
}

Expected<std::vector<float>> run_once(const Backend& backend, const AttentionDesc& desc,
                                      AttentionProblem& problem, ThreadPool& pool) {
  BIFOCAL_ASSIGN_OR_RETURN(auto buffers, backend.make_buffers(desc, problem.limits(pool.num_threads())));
  const auto plan = backend.plan(desc, problem.batch(), buffers);
  BIFOCAL_RETURN_IF_ERROR(backend.run(plan, desc, 1, problem.layer(0), pool));
  return problem.out();
}

double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // also NaN
  }
  return largest;
}

Status bench_shape(const AttentionShape& shape, std::span<const Backend* const> backends,
                   const AttentionBenchOptions& options, CeilingBursts& ceilings, ThreadPool& pool,
                   std::vector<AttentionBenchRow>* rows) {
  const AttentionDesc desc = desc_of(shape);
  BIFOCAL_RETURN_IF_ERROR(validate(desc));
  BIFOCAL_ASSIGN_OR_RETURN(auto problem, AttentionProblem::create(shape, options.set_bytes));

  std::vector<Contender> contenders;
  for (const Backend* backend : backends) {
    if (ineligible_reason(backend->capabilities(), desc, problem.phase(), false)) continue;
    auto& contender = contenders.emplace_back();
    contender.backend = backend;
    BIFOCAL_ASSIGN_OR_RETURN(contender.buffers,
                             backend->make_buffers(desc, problem.limits(pool.num_threads())));
  }
  double read = 0;
  double page_read = 0;
  double fma = 0;
  const auto begin = std::chrono::steady_clock::now();
  do {
    read = std::max(read, ceilings.dram_read_bytes_per_s());
    page_read = std::max(page_read, ceilings.page_read_bytes_per_s(page_bytes_of(shape)));
    fma = std::max(fma, ceilings.f32_fma_flops());
    for (Contender& contender : contenders) {
      BIFOCAL_RETURN_IF_ERROR(burst(contender, desc, problem, pool));
    }
  } while (seconds_since(begin) < options.seconds_per_row * static_cast<double>(contenders.size()));

  std::vector<float> expected;
  if (options.check) {
    BIFOCAL_ASSIGN_OR_RETURN(expected, run_once(*attention::find_backend("reference"), desc, problem, pool));
  }
  const size_t first = rows->size();
  for (const Contender& contender : contenders) {
    AttentionBenchRow row;
    row.shape = shape;
    row.backend = contender.backend->name();
    row.plan_s = summarise(contender.plan_seconds).median;
    row.median_s = summarise(contender.run_seconds).median;
    row.best_s = best(contender.run_seconds);
    row.bytes_per_s = bytes_of(shape) / row.best_s;
    row.flops = flops_of(shape) / row.best_s;
    row.read_fraction = row.bytes_per_s / read;
    row.page_fraction = row.bytes_per_s / page_read;
    row.flops_fraction = row.flops / fma;
    if (options.check) {
      BIFOCAL_ASSIGN_OR_RETURN(const auto actual, run_once(*contender.backend, desc, problem, pool));
      row.max_error = max_difference(actual, expected);
    }
    rows->push_back(std::move(row));
  }
  const auto faster = [](const auto& a, const auto& b) { return a.best_s < b.best_s; };
  const auto fastest =
      std::min_element(rows->begin() + static_cast<std::ptrdiff_t>(first), rows->end(), faster);
  if (fastest != rows->end()) fastest->fastest = true;
  return {};
}

}  // namespace

Expected<std::vector<AttentionBenchRow>> bench_attention(std::span<const AttentionShape> shapes,
                                                         const AttentionBenchOptions& options,
                                                         ThreadPool& pool) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto backends, find_backends(options.backends));
  BIFOCAL_ASSIGN_OR_RETURN(auto ceilings, CeilingBursts::create(pool, options.set_bytes));
  std::vector<AttentionBenchRow> rows;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (options.progress) options.progress(i, shapes.size(), to_string(shapes[i]));
    BIFOCAL_RETURN_IF_ERROR(bench_shape(shapes[i], backends, options, ceilings, pool, &rows));
  }
  if (options.progress) options.progress(shapes.size(), shapes.size(), "");
  return rows;
}

Expected<std::vector<PlanBenchRow>> bench_planning(int num_seqs, const AttentionBenchOptions& options,
                                                   int num_threads) {
  constexpr int kLongest = 8192;
  constexpr int kPlans = 200;
  BIFOCAL_ASSIGN_OR_RETURN(const auto backends, find_backends(options.backends));
  const AttentionDesc desc = desc_of({});
  const int pages_per_seq = kLongest / desc.page_size;
  std::vector<int32_t> q_begin, q_len, kv_len, page_table;
  int64_t num_keys = 0;
  SplitMix64 random(7);
  for (int s = 0; s < num_seqs; ++s) {
    q_begin.push_back(s);
    q_len.push_back(1);
    kv_len.push_back(1 + static_cast<int32_t>(random.below(kLongest)));
    num_keys += kv_len.back();
    for (int p = 0; p < pages_per_seq; ++p) page_table.push_back(s * pages_per_seq + p);
  }
  const attention::AttentionBatch batch{
      attention::Phase::decode, 1, q_begin, q_len, kv_len, page_table, pages_per_seq};
  std::vector<PlanBenchRow> rows;
  for (const Backend* backend : backends) {
    BIFOCAL_ASSIGN_OR_RETURN(auto buffers,
                             backend->make_buffers(desc, {num_seqs, num_seqs, kLongest, num_threads}));
    std::vector<double> seconds;
    for (int i = 0; i < kPlans; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      (void)backend->plan(desc, batch, buffers);
      seconds.push_back(seconds_since(begin));
    }
    rows.push_back(
        {std::string(backend->name()), num_seqs, num_keys, summarise(seconds).median, best(seconds)});
  }
  return rows;
}

}  // namespace bifocal::bench
