#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/trace.h"
#include "kernels/cpu/gemm_dispatch.h"

namespace bifocal::kernels::cpu {
namespace {

const GemmKernel& of_dtype(const GemmKernels& kernels, DType dtype) {
  if (dtype == DType::f32) return kernels.f32;
  if (dtype == DType::f16) return kernels.f16;
  BIFOCAL_CHECK(dtype == DType::bf16);
  return kernels.bf16;
}

constexpr int64_t kSerialValues = 16384;  // of A: so few are not worth waking another thread
constexpr int64_t kMinColumns = 64;       // of a task

int64_t num_row_blocks(const GemmArgs& args) {
  return (args.m + args.w->kernel()->row_block - 1) / args.w->kernel()->row_block;
}

// One row block of A into its place in `rows`.
void pack_row_block(const GemmArgs& args, int64_t block, char* rows) {
  const GemmKernel& kernel = *args.w->kernel();
  const int64_t k_padded = args.w->k_padded();
  const int64_t row = block * kernel.row_block;
  kernel.pack_rows(args.a + row * args.lda, args.lda, std::min(kernel.row_block, args.m - row), args.w->k(),
                   k_padded, rows + row * k_padded * kernel.row_value_bytes);
}

void pack_all_rows(const GemmArgs& args, char* rows, ThreadPool& pool) {
  if (args.m * args.w->k() <= kSerialValues) {
    for (int64_t block = 0; block < num_row_blocks(args); ++block) pack_row_block(args, block, rows);
  } else {
    pool.parallel_for(num_row_blocks(args), [&](int64_t block, int) { pack_row_block(args, block, rows); });
  }
}

// Rows [row, row + m) and columns [column, column + n) of C from packed rows; row at a row block's start,
// column at a panel's.
void multiply_part(const GemmArgs& args, const char* rows, int64_t row, int64_t m, int64_t column,
                   int64_t n) {
  const PackedMatrix& w = *args.w;
  const GemmKernel& kernel = *w.kernel();
  const auto weight_bytes = static_cast<int64_t>(size_of(w.dtype()));
  GemmBlock block;
  block.rows = rows + row * w.k_padded() * kernel.row_value_bytes;
  block.panels = static_cast<const char*>(w.data()) + column * w.k_padded() * weight_bytes;
  block.m = m;
  block.n = n;
  block.k = w.k_padded();
  block.bias = args.bias == nullptr ? nullptr : args.bias + column;
  block.c = args.c + row * args.ldc + column;
  block.ldc = args.ldc;
  block.accumulate = args.accumulate;
  kernel.multiply(block);
}

// Rows of a task: as even as they come below the most that a task should have.
int64_t rows_per_task(const GemmArgs& args) {
  constexpr int64_t kRowBytes = 1 << 20;  // of packed A per task: half of a second-level cache
  const GemmKernel& kernel = *args.w->kernel();
  // Long rows overflow the cache before there are enough of them to pay for reading W again.
  const int64_t min_rows = std::min(kernel.max_rows, 4 * kernel.row_block);
  const int64_t fitting_rows =
      kRowBytes / (args.w->k_padded() * kernel.row_value_bytes) / kernel.row_block * kernel.row_block;
  const int64_t max_rows = std::clamp(fitting_rows, min_rows, kernel.max_rows);
  const int64_t tasks = (args.m + max_rows - 1) / max_rows;
  return round_up((args.m + tasks - 1) / tasks, kernel.row_block);
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

Grid make_grid(const GemmArgs& args, int num_threads) {
  const GemmKernel& kernel = *args.w->kernel();
  const int64_t n = args.w->n();
  Grid grid;
  grid.rows = rows_per_task(args);
  grid.row_tasks = (args.m + grid.rows - 1) / grid.rows;
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

// A product of a group: its rows in the scratch and its range of the tasks.
struct Member {
  const GemmArgs* args = nullptr;
  char* rows = nullptr;
  int64_t first_block = 0;  // of the group's row blocks
  int64_t first_task = 0;
  int64_t rows_per_task = 0;
  int64_t columns_per_task = 0;
  int64_t column_tasks = 0;
};

// The products of one hand-over; their records lie on the stack.
struct Group {
  static constexpr size_t kMaxMembers = 128;
  std::array<Member, kMaxMembers> members;
  size_t size = 0;
  int64_t num_values = 0;  // of A
  int64_t num_blocks = 0;
  int64_t num_tasks = 0;

  const Member& of(int64_t Member::*first, int64_t index) const {
    const auto after =
        std::upper_bound(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(size), index,
                         [first](int64_t i, const Member& member) { return i < member.*first; });
    return *(after - 1);
  }
};

// Reading W and multiplying both grow with it.
int64_t work(const GemmArgs& args) {
  return args.w->n() * args.w->k_padded() * round_up(args.m, args.w->kernel()->row_block);
}

// The first products are long tasks, the last ones are cut finely: every task is at most a share of the work
// that is left, so that no thread waits long for another.
Group make_group(std::span<const GemmArgs> products, char* scratch, int num_threads) {
  Group group;
  int64_t work_left = 0;
  for (const GemmArgs& args : products) work_left += work(args);
  for (const GemmArgs& args : products) {
    if (args.m <= 0) continue;
    const GemmKernel& kernel = *args.w->kernel();
    const int64_t n = args.w->n();
    Member& member = group.members[group.size++];
    member.args = &args;
    member.rows = scratch;
    member.first_block = group.num_blocks;
    member.first_task = group.num_tasks;
    member.rows_per_task = rows_per_task(args);
    const int64_t parts = 2 * num_threads * work(args) / work_left + 1;
    member.columns_per_task = std::max(round_up((n + parts - 1) / parts, kernel.panel_columns),
                                       round_up(kMinColumns, kernel.panel_columns));
    member.column_tasks = (n + member.columns_per_task - 1) / member.columns_per_task;
    group.num_values += args.m * args.w->k();
    group.num_blocks += num_row_blocks(args);
    group.num_tasks += (args.m + member.rows_per_task - 1) / member.rows_per_task * member.column_tasks;
    scratch += args.m * args.w->k_padded() * kernel.row_value_bytes;
    work_left -= work(args);
  }
  return group;
}

void run_group(const Group& group, ThreadPool& pool) {
  const auto pack = [&](int64_t index, int) {
    const Member& member = group.of(&Member::first_block, index);
    pack_row_block(*member.args, index - member.first_block, member.rows);
  };
  if (group.num_values <= kSerialValues) {
    for (int64_t block = 0; block < group.num_blocks; ++block) pack(block, 0);
  } else {
    pool.parallel_for(group.num_blocks, pack);
  }
  pool.parallel_for(group.num_tasks, [&](int64_t index, int) {
    const Member& member = group.of(&Member::first_task, index);
    const GemmArgs& args = *member.args;
    const int64_t task = index - member.first_task;
    const int64_t row = task / member.column_tasks * member.rows_per_task;
    const int64_t column = task % member.column_tasks * member.columns_per_task;
    multiply_part(args, member.rows, row, std::min(member.rows_per_task, args.m - row), column,
                  std::min(member.columns_per_task, args.w->n() - column));
  });
}

std::string_view gemm_name(DType weights) {
  switch (weights) {
    case DType::f16:
      return "gemm f16";
    case DType::bf16:
      return "gemm bf16";
    default:
      return "gemm f32";
  }
}

// Rows of all products together, their n and k, bytes of the weights. Products of one call have one shape.
trace::Values traced_work(std::span<const GemmArgs> products) {
  trace::Values values = {0, products.front().w->n(), products.front().w->k(), 0};
  if (!trace::records_spans()) return values;
  for (const GemmArgs& args : products) {
    values[0] += args.m;
    values[3] += args.w->n() * args.w->k() * static_cast<int64_t>(size_of(args.w->dtype()));
  }
  return values;
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

size_t gemm_scratch_bytes(int64_t m, int64_t k) {
  return std::max({gemm_scratch_bytes(m, k, DType::f32), gemm_scratch_bytes(m, k, DType::f16),
                   gemm_scratch_bytes(m, k, DType::bf16)});
}

void gemm(const GemmArgs& args, void* scratch, ThreadPool& pool) {
  BIFOCAL_CHECK(args.w != nullptr && args.w->kernel() != nullptr);
  if (args.m <= 0) return;
  const trace::Span span(trace::Kind::gemm, gemm_name(args.w->dtype()), traced_work({&args, 1}));
  auto* const rows = static_cast<char*>(scratch);
  pack_all_rows(args, rows, pool);
  const Grid grid = make_grid(args, pool.num_threads());
  const auto column_tasks = static_cast<int64_t>(grid.column_tasks);
  pool.parallel_for(grid.row_tasks * column_tasks, [&](int64_t task, int) {
    // A thread's next task has the same rows most of the time: they stay in its second-level cache.
    const int64_t row = task / column_tasks * grid.rows;
    const auto range = static_cast<size_t>(task % column_tasks);
    const int64_t column = grid.column_begin[range];
    multiply_part(args, rows, row, std::min(grid.rows, args.m - row), column,
                  grid.column_begin[range + 1] - column);
  });
}

void gemm_grouped(std::span<const GemmArgs> products, void* scratch, ThreadPool& pool) {
  for (const GemmArgs& args : products) {
    BIFOCAL_CHECK(args.w != nullptr && args.w->kernel() != nullptr);
    BIFOCAL_CHECK(args.w->dtype() == products.front().w->dtype());
  }
  if (products.empty()) return;
  const trace::Span span(trace::Kind::gemm, gemm_name(products.front().w->dtype()), traced_work(products));
  while (!products.empty()) {
    const size_t count = std::min(products.size(), Group::kMaxMembers);
    run_group(make_group(products.first(count), static_cast<char*>(scratch), pool.num_threads()), pool);
    products = products.subspan(count);
  }
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
