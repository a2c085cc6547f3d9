#include "bench/attention_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

#include "attention/backend.h"
#include "base/hash.h"
#include "bench/ceilings.h"
#include "kernels/cpu/weight_memory.h"

namespace bifocal::bench {
namespace {

using attention::AttentionBatch;
using attention::AttentionDesc;
using attention::Backend;
using attention::LayerInputs;

constexpr size_t kSetBytes = size_t{3} << 29;  // of all layers' caches together
constexpr double kBurstSeconds = 0.05;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

AttentionDesc desc_of(const AttentionShape& shape) {
  AttentionDesc desc;
  desc.num_heads = shape.num_heads;
  desc.num_kv_heads = shape.num_kv_heads;
  desc.head_dim_k = shape.head_dim_k;
  desc.head_dim_v = shape.head_dim_v;
  desc.window = shape.window;
  desc.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim_k));
  desc.kv_dtype = shape.dtype;
  desc.page_size = shape.page_size;
  return desc;
}

// Keys that query row i of a sequence sees.
int64_t visible(const AttentionShape& shape, int i) {
  const int64_t keys = shape.kv_len - shape.q_len + i + 1;
  return shape.window > 0 ? std::min<int64_t>(keys, shape.window) : keys;
}

double flops_of(const AttentionShape& shape) {
  int64_t pairs = 0;
  for (int i = 0; i < shape.q_len; ++i) pairs += visible(shape, i);
  return 2.0 * static_cast<double>(pairs) * shape.batch * shape.num_heads *
         (shape.head_dim_k + shape.head_dim_v);
}

double bytes_of(const AttentionShape& shape) {
  const int64_t keys = std::min<int64_t>(shape.kv_len, visible(shape, 0) + shape.q_len - 1);
  return static_cast<double>(keys) * shape.batch * shape.num_kv_heads *
         (shape.head_dim_k + shape.head_dim_v) * static_cast<double>(size_of(shape.dtype));
}

// A step's inputs with the caches of several layers.
class Problem {
 public:
  static Expected<Problem> create(const AttentionShape& shape) {
    Problem problem;
    const int pages_per_seq = (shape.kv_len + shape.page_size - 1) / shape.page_size;
    const int64_t num_pages = int64_t{pages_per_seq} * shape.batch;
    const int64_t tokens = num_pages * shape.page_size * shape.num_kv_heads;
    const auto layer_bytes =
        static_cast<size_t>(tokens * (shape.head_dim_k + shape.head_dim_v)) * size_of(shape.dtype);
    const size_t layers = std::max<size_t>(2, kSetBytes / layer_bytes);
    for (size_t i = 0; i < layers; ++i) {
      BIFOCAL_ASSIGN_OR_RETURN(auto memory, kernels::cpu::WeightMemory::allocate(layer_bytes));
      fill_random(shape.dtype, memory.data(), layer_bytes, i);
      problem.caches_.push_back(std::move(memory));
    }
    problem.v_offset_ = tokens * shape.head_dim_k * static_cast<int64_t>(size_of(shape.dtype));

    // Pages of a sequence lie anywhere in the pool.
    problem.page_table_.resize(static_cast<size_t>(num_pages));
    std::iota(problem.page_table_.begin(), problem.page_table_.end(), 0);
    SplitMix64 random(1);
    for (size_t i = problem.page_table_.size(); i > 1; --i) {
      std::swap(problem.page_table_[i - 1], problem.page_table_[random.below(i)]);
    }
    for (int s = 0; s < shape.batch; ++s) problem.q_begin_.push_back(s * shape.q_len);
    problem.q_len_.assign(static_cast<size_t>(shape.batch), shape.q_len);
    problem.kv_len_.assign(static_cast<size_t>(shape.batch), shape.kv_len);

    const int64_t rows = int64_t{shape.batch} * shape.q_len;
    BIFOCAL_ASSIGN_OR_RETURN(problem.q_,
                             Tensor::allocate(DType::f32, {rows, shape.num_heads, shape.head_dim_k}));
    BIFOCAL_ASSIGN_OR_RETURN(problem.out_,
                             Tensor::allocate(DType::f32, {rows, shape.num_heads, shape.head_dim_v}));
    fill_random(DType::f32, problem.q_.view().data, problem.q_.view().num_bytes(), 99);

    kernels::PagedKv& kv = problem.inputs_.kv;
    kv.dtype = shape.dtype;
    kv.num_kv_heads = shape.num_kv_heads;
    kv.head_dim_k = shape.head_dim_k;
    kv.head_dim_v = shape.head_dim_v;
    kv.page_size = shape.page_size;
    kv.k_token_stride = shape.head_dim_k;
    kv.v_token_stride = shape.head_dim_v;
    kv.k_head_stride = kv.k_token_stride * shape.page_size;
    kv.v_head_stride = kv.v_token_stride * shape.page_size;
    kv.k_page_stride = kv.k_head_stride * shape.num_kv_heads;
    kv.v_page_stride = kv.v_head_stride * shape.num_kv_heads;
    problem.inputs_.q = problem.q_.view().as<float>();
    problem.inputs_.q_stride = problem.q_.view().strides[0];
    problem.inputs_.out = problem.out_.view().as<float>();
    problem.inputs_.out_stride = problem.out_.view().strides[0];
    problem.pages_per_seq_ = pages_per_seq;
    return problem;
  }

  AttentionBatch batch(attention::Phase phase) const {
    return {phase, 1, q_begin_, q_len_, kv_len_, page_table_, pages_per_seq_};
  }
  // The next layer's inputs, round and round.
  const LayerInputs& next_layer() { return layer(next_++ % caches_.size()); }
  const LayerInputs& layer(size_t index) {
    inputs_.kv.k = caches_[index].data();
    inputs_.kv.v = static_cast<char*>(caches_[index].data()) + v_offset_;
    return inputs_;
  }
  std::vector<float> out() const {
    const auto* values = out_.view().as<const float>();
    return {values, values + out_.view().num_elements()};
  }

 private:
  // Numbers in (-1, 1), cheaply: gigabytes are filled. Only f8 is restricted to what has no NaN.
  static void fill_random(DType dtype, void* data, size_t bytes, uint64_t seed) {
    SplitMix64 random(seed);
    auto* out = static_cast<char*>(data);
    const auto put = [&](auto pattern_of) {
      for (size_t i = 0; i + 8 <= bytes; i += 8) {
        const uint64_t word = pattern_of(random.next());
        std::memcpy(out + i, &word, 8);
      }
    };
    switch (dtype) {
      case DType::f32:  // sign and mantissa at random, magnitude in [0.5, 1)
        return put([](uint64_t r) { return (r & 0x807fffff807fffffULL) | 0x3f0000003f000000ULL; });
      case DType::bf16:
        return put([](uint64_t r) { return (r & 0x807f807f807f807fULL) | 0x3f003f003f003f00ULL; });
      case DType::f16:
        return put([](uint64_t r) { return (r & 0x83ff83ff83ff83ffULL) | 0x3800380038003800ULL; });
      default:
        return put([](uint64_t r) { return (r & 0x8787878787878787ULL) | 0x3030303030303030ULL; });
    }
  }

  std::vector<kernels::cpu::WeightMemory> caches_;
  std::vector<int32_t> q_begin_, q_len_, kv_len_, page_table_;
  int64_t pages_per_seq_ = 0;
  int64_t v_offset_ = 0;  // bytes
  Tensor q_, out_;
  LayerInputs inputs_;
  size_t next_ = 0;
};

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
  for (const std::string& name : names.empty() ? std::vector<std::string>{"tiled", "streaming"} : names) {
    backends.push_back(attention::find_backend(name));
    if (backends.back() == nullptr) {
      return invalid_argument(fmt::format("attention backend \"{}\" is unknown", name));
    }
  }
  return backends;
}

Status burst(Contender& contender, const AttentionDesc& desc, Problem& problem, attention::Phase phase,
             ThreadPool& pool) {
  const auto plan_begin = std::chrono::steady_clock::now();
  contender.plan = contender.backend->plan(desc, problem.batch(phase), contender.buffers);
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

Expected<std::vector<float>> run_once(const Backend& backend, const AttentionDesc& desc, Problem& problem,
                                      const attention::PlanLimits& limits, attention::Phase phase,
                                      ThreadPool& pool) {
  BIFOCAL_ASSIGN_OR_RETURN(auto buffers, backend.make_buffers(desc, limits));
  const auto plan = backend.plan(desc, problem.batch(phase), buffers);
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
  const auto phase = shape.q_len == 1 ? attention::Phase::decode : attention::Phase::prefill;
  const attention::PlanLimits limits{shape.batch * shape.q_len, shape.batch, shape.kv_len,
                                     pool.num_threads()};
  BIFOCAL_ASSIGN_OR_RETURN(auto problem, Problem::create(shape));

  std::vector<Contender> contenders;
  for (const Backend* backend : backends) {
    if (ineligible_reason(backend->capabilities(), desc, phase, false)) continue;
    auto& contender = contenders.emplace_back();
    contender.backend = backend;
    BIFOCAL_ASSIGN_OR_RETURN(contender.buffers, backend->make_buffers(desc, limits));
  }
  double read = 0;
  double fma = 0;
  const auto begin = std::chrono::steady_clock::now();
  do {
    read = std::max(read, ceilings.dram_read_bytes_per_s());
    fma = std::max(fma, ceilings.f32_fma_flops());
    for (Contender& contender : contenders) {
      BIFOCAL_RETURN_IF_ERROR(burst(contender, desc, problem, phase, pool));
    }
  } while (seconds_since(begin) < options.seconds_per_row * static_cast<double>(contenders.size()));

  std::vector<float> expected;
  if (options.check) {
    BIFOCAL_ASSIGN_OR_RETURN(
        expected, run_once(*attention::find_backend("reference"), desc, problem, limits, phase, pool));
  }
  const size_t first = rows->size();
  for (const Contender& contender : contenders) {
    AttentionBenchRow row;
    row.shape = shape;
    row.backend = contender.backend->name();
    row.plan_s = median(contender.plan_seconds);
    row.median_s = median(contender.run_seconds);
    row.best_s = *std::min_element(contender.run_seconds.begin(), contender.run_seconds.end());
    row.bytes_per_s = bytes_of(shape) / row.best_s;
    row.flops = flops_of(shape) / row.best_s;
    row.read_fraction = row.bytes_per_s / read;
    row.flops_fraction = row.flops / fma;
    if (options.check) {
      BIFOCAL_ASSIGN_OR_RETURN(const auto actual,
                               run_once(*contender.backend, desc, problem, limits, phase, pool));
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

std::string to_string(const AttentionShape& shape) {
  return fmt::format("h{}/{} d{}{} b{} q{} kv{} p{}{} {}", shape.num_heads, shape.num_kv_heads,
                     shape.head_dim_k,
                     shape.head_dim_v == shape.head_dim_k ? "" : fmt::format("/{}", shape.head_dim_v),
                     shape.batch, shape.q_len, shape.kv_len, shape.page_size,
                     shape.window == 0 ? "" : fmt::format(" w{}", shape.window), to_string(shape.dtype));
}

std::vector<AttentionShape> expand(const AttentionGrid& grid) {
  std::vector<AttentionShape> shapes;
  for (const auto& [heads, kv_heads] : grid.heads) {
    for (const auto& [dim_k, dim_v] : grid.dims) {
      for (const DType dtype : grid.dtype) {
        for (const int page_size : grid.page_size) {
          for (const int window : grid.window) {
            for (const int batch : grid.batch) {
              for (const int kv_len : grid.kv_len) {
                for (const int q_len : grid.q_len) {
                  if (q_len > kv_len) continue;
                  shapes.push_back(
                      {heads, kv_heads, dim_k, dim_v, batch, q_len, kv_len, page_size, window, dtype});
                }
              }
            }
          }
        }
      }
    }
  }
  return shapes;
}

std::vector<AttentionShape> default_attention_shapes() {
  std::vector<AttentionShape> shapes;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    AttentionGrid prefill;
    prefill.q_len = prefill.kv_len = {2048};
    prefill.dtype = {dtype};
    AttentionGrid decode;
    decode.heads = {{8, 8}, {32, 8}, {64, 8}};
    decode.batch = {8};
    decode.kv_len = {8192};
    decode.dtype = {dtype};
    AttentionGrid crossover;
    crossover.q_len = {1, 2, 4, 8, 16, 32, 64};
    crossover.kv_len = {4096};
    crossover.dtype = {dtype};
    for (const AttentionGrid& grid : {prefill, decode, crossover}) {
      for (const AttentionShape& shape : expand(grid)) shapes.push_back(shape);
    }
  }
  return shapes;
}

Expected<std::vector<AttentionBenchRow>> bench_attention(std::span<const AttentionShape> shapes,
                                                         const AttentionBenchOptions& options,
                                                         ThreadPool& pool) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto backends, find_backends(options.backends));
  BIFOCAL_ASSIGN_OR_RETURN(auto ceilings, CeilingBursts::create(pool));
  std::vector<AttentionBenchRow> rows;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (options.progress) options.progress(i, shapes.size(), to_string(shapes[i]));
    BIFOCAL_RETURN_IF_ERROR(bench_shape(shapes[i], backends, options, ceilings, pool, &rows));
  }
  if (options.progress) options.progress(shapes.size(), shapes.size(), "");
  return rows;
}

Table to_table(std::span<const AttentionBenchRow> rows) {
  Table table;
  table.columns = {"heads",   "kv heads",     "dim k",       "dim v",     "batch",     "query len", "kv len",
                   "page",    "window",       "dtype",       "backend",   "median us", "plan us",   "GB/s",
                   "GFLOP/s", "of DRAM rate", "of FMA peak", "max error", "fastest"};
  for (const AttentionBenchRow& row : rows) {
    const AttentionShape& s = row.shape;
    std::vector<std::string> cells;
    for (const int value : {s.num_heads, s.num_kv_heads, s.head_dim_k, s.head_dim_v, s.batch, s.q_len,
                            s.kv_len, s.page_size, s.window}) {
      cells.push_back(fmt::format("{}", value));
    }
    cells.emplace_back(to_string(s.dtype));
    cells.push_back(row.backend);
    cells.push_back(fmt::format("{:.1f}", row.median_s * 1e6));
    cells.push_back(fmt::format("{:.1f}", row.plan_s * 1e6));
    cells.push_back(fmt::format("{:.2f}", row.bytes_per_s * 1e-9));
    cells.push_back(fmt::format("{:.1f}", row.flops * 1e-9));
    cells.push_back(fmt::format("{:.2f}", row.read_fraction));
    cells.push_back(fmt::format("{:.2f}", row.flops_fraction));
    cells.push_back(row.max_error < 0 ? "-" : fmt::format("{:.1e}", row.max_error));
    cells.emplace_back(row.fastest ? "yes" : "");
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace bifocal::bench
