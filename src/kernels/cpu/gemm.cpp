#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/cpu/gemm_dispatch.h"

namespace bifocal::kernels::cpu {
namespace {

const GemmKernel& of_dtype(const GemmKernels& kernels, DType dtype) {
  if (dtype == DType::f32) return kernels.f32;
  if (dtype == DType::f16) return kernels.f16;
  BIFOCAL_CHECK(dtype == DType::bf16);
  return kernels.bf16;
}

// Packs A's rows, row block by row block; few values are not worth waking another thread.
void pack_all_rows(const GemmArgs& args, const GemmKernel& kernel, int64_t k_padded, char* scratch,
                   ThreadPool& pool) {
  constexpr int64_t kSerialValues = 16384;
  const int64_t k = args.w->k();
  const int64_t num_blocks = round_up(args.m, kernel.row_block) / kernel.row_block;
  const auto pack = [&](int64_t block, int) {
    const int64_t row = block * kernel.row_block;
    kernel.pack_rows(args.a + row * args.lda, args.lda, std::min(kernel.row_block, args.m - row), k, k_padded,
                     scratch + row * k_padded * kernel.row_value_bytes);
  };
  if (args.m * k <= kSerialValues) {
    for (int64_t block = 0; block < num_blocks; ++block) pack(block, 0);
  } else {
    pool.parallel_for(num_blocks, pack);
  }
}

// How C is cut into tasks, row range by column range. Results don't depend on it.
struct Grid {
  // Column ranges shrink: the first ones are long, because a stream of W starts slowly, the last ones short,
  // so that no thread waits long for another.
  static constexpr size_t kMaxColumnTasks = 128;
  std::array<int64_t, kMaxColumnTasks + 1> column_begin{};
  size_t column_tasks = 0;
  int64_t rows = 0;  // of a task
  int64_t row_tasks = 0;
};

Grid make_grid(const GemmArgs& args, const GemmKernel& kernel, int num_threads) {
  constexpr int64_t kRowBytes = 1 << 20;  // of packed A per task: half of a second-level cache
  constexpr int64_t kMinColumns = 64;
  const int64_t k = args.w->k_padded();
  const int64_t n = args.w->n();
  Grid grid;
  // Long rows overflow the cache before there are enough of them to pay for reading W again.
  const int64_t min_rows = std::min(kernel.max_rows, 4 * kernel.row_block);
  const int64_t fitting_rows = kRowBytes / (k * kernel.row_value_bytes) / kernel.row_block * kernel.row_block;
  const int64_t max_rows = std::clamp(fitting_rows, min_rows, kernel.max_rows);
  grid.row_tasks = (args.m + max_rows - 1) / max_rows;
  grid.rows = round_up((args.m + grid.row_tasks - 1) / grid.row_tasks, kernel.row_block);
  constexpr auto kMaxTasks = static_cast<int64_t>(Grid::kMaxColumnTasks);
  const int64_t min_columns =
      std::max(kMinColumns, round_up((n + kMaxTasks - 1) / kMaxTasks, kernel.panel_columns));
  for (int64_t begin = 0; begin < n;) {
    const int64_t share = round_up((n - begin) / (num_threads + 1), kernel.panel_columns);
    begin = std::min(n, begin + std::max(share, min_columns));
    grid.column_begin[++grid.column_tasks] = begin;
  }
  return grid;
}

}  // namespace

const GemmKernel& gemm_kernel(Isa isa, DType weight_dtype) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
      break;
    case Isa::avx2:
      return of_dtype(kGemmAvx2, weight_dtype);
    case Isa::avx512:
      return of_dtype(kGemmAvx512, weight_dtype);
    case Isa::avx512_bf16:
      return weight_dtype == DType::bf16 ? kGemmAvx512Bf16 : of_dtype(kGemmAvx512, weight_dtype);
    case Isa::amx:
      return weight_dtype == DType::bf16 ? kGemmAmx : of_dtype(kGemmAvx512, weight_dtype);
  }
#endif
  BIFOCAL_CHECK(isa == Isa::scalar);
  return of_dtype(kGemmScalar, weight_dtype);
}

size_t gemm_scratch_bytes(int64_t m, int64_t k, DType weight_dtype) {
  const GemmKernel& kernel = gemm_kernel(current_isa(), weight_dtype);
  return static_cast<size_t>(m) * static_cast<size_t>(round_up(k, kernel.k_multiple)) *
         static_cast<size_t>(kernel.row_value_bytes);
}

void gemm(const GemmArgs& args, void* scratch, ThreadPool& pool) {
  BIFOCAL_CHECK(args.w != nullptr && args.w->kernel() != nullptr);
  if (args.m <= 0) return;
  const PackedMatrix& w = *args.w;
  const GemmKernel& kernel = *w.kernel();
  auto* const rows = static_cast<char*>(scratch);
  pack_all_rows(args, kernel, w.k_padded(), rows, pool);

  const Grid grid = make_grid(args, kernel, pool.num_threads());
  const auto weight_bytes = static_cast<int64_t>(size_of(w.dtype()));
  const auto column_tasks = static_cast<int64_t>(grid.column_tasks);
  pool.parallel_for(grid.row_tasks * column_tasks, [&](int64_t task, int) {
    // A thread's next task has the same rows most of the time: they stay in its second-level cache.
    const int64_t row = task / column_tasks * grid.rows;
    const auto range = static_cast<size_t>(task % column_tasks);
    const int64_t column = grid.column_begin[range];
    GemmBlock block;
    block.rows = rows + row * w.k_padded() * kernel.row_value_bytes;
    block.panels = static_cast<const char*>(w.data()) + column * w.k_padded() * weight_bytes;
    block.m = std::min(grid.rows, args.m - row);
    block.n = grid.column_begin[range + 1] - column;
    block.k = w.k_padded();
    block.bias = args.bias == nullptr ? nullptr : args.bias + column;
    block.c = args.c + row * args.ldc + column;
    block.ldc = args.ldc;
    block.accumulate = args.accumulate;
    if (block.m > 0) kernel.multiply(block);
  });
}

void gemm_reference(const float* a, int64_t m, const TensorView& w, const float* bias, float* c) {
  const int64_t n = w.shape[0];
  const int64_t k = w.shape[1];
  const auto weight = [&](int64_t row, int64_t i) {
    const int64_t at = row * w.strides[0] + i * w.strides[1];
    switch (w.dtype) {
      case DType::f32:
        return w.as<const float>()[at];
      case DType::f16:
        return to_float(w.as<const Float16>()[at]);
      default:
        return to_float(w.as<const BFloat16>()[at]);
    }
  };
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      double sum = 0.0;
      for (int64_t i = 0; i < k; ++i) {
        sum += static_cast<double>(a[row * k + i]) * static_cast<double>(weight(column, i));
      }
      if (bias != nullptr) sum += static_cast<double>(bias[column]);
      c[row * n + column] = static_cast<float>(sum);
    }
  }
}

}  // namespace bifocal::kernels::cpu
