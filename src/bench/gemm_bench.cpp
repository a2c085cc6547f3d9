#include "bench/gemm_bench.h"

#include <algorithm>
#include <chrono>

#include "base/hash.h"
#include "bench/ceilings.h"
#include "kernels/cpu/gemm.h"
#include "tensor/tensor.h"

namespace bifocal::bench {
namespace {

using kernels::cpu::GemmArgs;
using kernels::cpu::PackedMatrix;

constexpr int kBursts = 8;
constexpr double kBurstSeconds = 0.05;
constexpr size_t kSetBytes = size_t{1} << 30;

void fill_random(const Tensor& tensor, uint64_t seed) {
  SplitMix64 rng(seed);
  auto* const values = tensor.view().as<float>();
  for (int64_t i = 0; i < tensor.view().num_elements(); ++i) {
    values[i] = static_cast<float>(2.0 * rng.uniform() - 1.0);
  }
}

// Copies of one product's operands.
struct Product {
  std::vector<PackedMatrix> weights;
  Tensor a;
  Tensor c;
  Tensor scratch;
};

Expected<Product> make_product(const GemmShape& shape, ThreadPool& pool) {
  Product product;
  BIFOCAL_ASSIGN_OR_RETURN(const Tensor source, Tensor::allocate(DType::f32, {shape.n, shape.k}));
  fill_random(source, 1);
  const auto bytes = static_cast<size_t>(shape.n) * static_cast<size_t>(shape.k) * size_of(shape.dtype);
  const size_t copies = std::max<size_t>(2, kSetBytes / std::max<size_t>(1, bytes));
  for (size_t i = 0; i < copies; ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(auto packed,
                             PackedMatrix::pack(std::span(&source.view(), 1), shape.dtype, pool));
    product.weights.push_back(std::move(packed));
  }
  BIFOCAL_ASSIGN_OR_RETURN(product.a, Tensor::allocate(DType::f32, {shape.m, shape.k}));
  fill_random(product.a, 2);
  BIFOCAL_ASSIGN_OR_RETURN(product.c, Tensor::allocate(DType::f32, {shape.m, shape.n}));
  const auto scratch_bytes =
      static_cast<int64_t>(kernels::cpu::gemm_scratch_bytes(shape.m, shape.k, shape.dtype));
  BIFOCAL_ASSIGN_OR_RETURN(product.scratch, Tensor::allocate(DType::u8, {scratch_bytes}));
  return product;
}

// Seconds per product over about kBurstSeconds; `next` goes round the weights.
double burst(const GemmShape& shape, Product& product, size_t& next, ThreadPool& pool) {
  GemmArgs args;
  args.a = product.a.view().as<float>();
  args.lda = shape.k;
  args.m = shape.m;
  args.c = product.c.view().as<float>();
  args.ldc = shape.n;
  const auto begin = std::chrono::steady_clock::now();
  int count = 0;
  double elapsed = 0.0;
  do {
    args.w = &product.weights[next++ % product.weights.size()];
    kernels::cpu::gemm(args, product.scratch.view().data, pool);
    ++count;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } while (elapsed < kBurstSeconds);
  return elapsed / count;
}

}  // namespace

std::vector<GemmShape> default_gemm_shapes() {
  std::vector<GemmShape> shapes;
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const int64_t m : {1, 4, 16, 512}) {
      shapes.push_back({m, 1024, 1024, dtype});
      shapes.push_back({m, 6144, 1024, dtype});
      shapes.push_back({m, 1024, 3072, dtype});
      shapes.push_back({m, 4096, 4096, dtype});
    }
  }
  return shapes;
}

Expected<std::vector<GemmBenchRow>> bench_gemm(std::span<const GemmShape> shapes, ThreadPool& pool) {
  BIFOCAL_ASSIGN_OR_RETURN(auto ceilings, CeilingBursts::create(pool));
  std::vector<GemmBenchRow> rows;
  for (const GemmShape& shape : shapes) {
    BIFOCAL_ASSIGN_OR_RETURN(auto product, make_product(shape, pool));
    size_t next = 0;
    double read = 0.0;
    double fma = 0.0;
    double peak = 0.0;
    double seconds = burst(shape, product, next, pool);
    for (int i = 0; i < kBursts; ++i) {
      read = std::max(read, ceilings.dram_read_bytes_per_s());
      fma = std::max(fma, ceilings.f32_fma_flops());
      seconds = std::min(seconds, burst(shape, product, next, pool));
      peak = std::max(peak, shape.dtype == DType::bf16 ? ceilings.bf16_flops() : fma);
    }
    GemmBenchRow row;
    row.shape = shape;
    row.seconds = seconds;
    row.flops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
                static_cast<double>(shape.k) / seconds;
    row.bytes_per_s = static_cast<double>(product.weights[0].num_bytes()) / seconds;
    row.read_fraction = row.bytes_per_s / read;
    row.flops_fraction = row.flops / peak;
    row.fma_fraction = row.flops / fma;
    row.memory_bound = row.read_fraction > row.flops_fraction;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace bifocal::bench
