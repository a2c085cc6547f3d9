// Weights into panel order (gemm_kernel.h), and rows back out of it.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/float_bits.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_dispatch.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr int64_t kSegment = 128;  // of K, converted at a time: a panel's segments fit the first-level cache

bool is_weight_dtype(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

struct SourceRow {
  const char* data = nullptr;  // null: padding
  DType dtype = DType::f32;
  int64_t stride = 1;  // elements from one k to the next
};

// Values k0 to k0 + n of a row. The source may be a mapped file at any offset, so values are copied out
// before they are looked at.
template <class T>
void copy_values(const SourceRow& row, int64_t k0, int64_t n, T* out) {
  const char* from = row.data + k0 * row.stride * static_cast<int64_t>(sizeof(T));
  if (row.stride == 1) {
    std::memcpy(out, from, static_cast<size_t>(n) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(out + i, from + i * row.stride * static_cast<int64_t>(sizeof(T)), sizeof(T));
  }
}

void read_as_float(const SourceRow& row, int64_t k0, int64_t n, float* out) {
  if (row.dtype == DType::f32) return copy_values(row, k0, n, out);
  uint16_t raw[kSegment];
  copy_values(row, k0, n, raw);
  for (int64_t i = 0; i < n; ++i)
    out[i] = row.dtype == DType::f16 ? float_from_f16(raw[i]) : float_from_bf16(raw[i]);
}

void read_segment(const SourceRow& row, int64_t k0, int64_t n, float* out, DType /*to*/) {
  read_as_float(row, k0, n, out);
}
void read_segment(const SourceRow& row, int64_t k0, int64_t n, uint16_t* out, DType to) {
  if (row.dtype == to) return copy_values(row, k0, n, out);
  float values[kSegment];
  read_as_float(row, k0, n, values);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = to == DType::f16 ? f16_from_float(values[i]) : bf16_from_float(values[i]);
  }
}

// One panel: its columns are rows of the sources. T is the packed value.
template <class T>
void pack_panel(const std::vector<SourceRow>& rows, int64_t k, int64_t k_padded, const GemmKernel& kernel,
                DType dtype, T* out) {
  const int64_t group = kernel.k_group;
  for (int64_t begin = 0; begin < k_padded; begin += kSegment) {
    const int64_t length = std::min(kSegment, k_padded - begin);
    const int64_t valid = std::clamp<int64_t>(k - begin, 0, length);
    for (int64_t column = 0; column < kernel.panel_columns; ++column) {
      T segment[kSegment] = {};
      const SourceRow& row = rows[static_cast<size_t>(column)];
      if (row.data != nullptr && valid > 0) read_segment(row, begin, valid, segment, dtype);
      T* const to = out + begin * kernel.panel_columns + column * group;
      for (int64_t i = 0; i < length; i += group) {
        for (int64_t j = 0; j < group; ++j) to[i * kernel.panel_columns + j] = segment[i + j];
      }
    }
  }
}

Status check_sources(std::span<const TensorView> matrices, DType dtype) {
  if (!is_weight_dtype(dtype)) {
    return invalid_argument(
        fmt::format("weights can't be packed as {}; use f32, f16 or bf16", to_string(dtype)));
  }
  if (matrices.empty()) return invalid_argument("no weight matrices to pack");
  for (const TensorView& m : matrices) {
    if (!is_weight_dtype(m.dtype)) {
      return invalid_argument(fmt::format("weight matrix {}: expected f32, f16 or bf16", to_string(m)));
    }
    if (m.rank != 2 || m.shape[0] <= 0 || m.shape[1] <= 0 || m.shape[1] != matrices[0].shape[1]) {
      return invalid_argument(fmt::format("weight matrix {}: expected [N, {}] with N and K above 0",
                                          to_string(m), matrices[0].rank == 2 ? matrices[0].shape[1] : 0));
    }
  }
  return {};
}

// Bytes of all panels, or nothing when that overflows.
std::optional<size_t> packed_bytes(int64_t n_padded, int64_t k_padded, DType dtype) {
  size_t bytes = size_of(dtype);
  if (__builtin_mul_overflow(bytes, static_cast<size_t>(n_padded), &bytes)) return std::nullopt;
  if (__builtin_mul_overflow(bytes, static_cast<size_t>(k_padded), &bytes)) return std::nullopt;
  if (bytes > static_cast<size_t>(INT64_MAX)) return std::nullopt;
  return bytes;
}

}  // namespace

Expected<PackedMatrix> PackedMatrix::pack(std::span<const TensorView> matrices, DType dtype,
                                          ThreadPool& pool) {
  BIFOCAL_RETURN_IF_ERROR(check_sources(matrices, dtype));
  constexpr int64_t kMaxSide = int64_t{1} << 40;  // keeps the rounding up below from overflowing
  PackedMatrix packed;
  packed.dtype_ = dtype;
  packed.kernel_ = &gemm_kernel(current_isa(), dtype);
  const GemmKernel& kernel = *packed.kernel_;
  packed.k_ = matrices[0].shape[1];
  for (const TensorView& m : matrices) {
    if (m.shape[0] > kMaxSide - packed.n_ || m.shape[1] > kMaxSide) {
      return invalid_argument(fmt::format("weight matrix {} is too large", to_string(m)));
    }
    packed.n_ += m.shape[0];
  }
  packed.k_padded_ = round_up(packed.k_, kernel.k_multiple);
  const int64_t num_panels = round_up(packed.n_, kernel.panel_columns) / kernel.panel_columns;
  const auto bytes = packed_bytes(num_panels * kernel.panel_columns, packed.k_padded_, dtype);
  if (!bytes) return invalid_argument(fmt::format("weights [{},{}] do not fit memory", packed.n_, packed.k_));
  BIFOCAL_ASSIGN_OR_RETURN(packed.memory_, HostMemory::allocate(*bytes));

  // Panels cross from one source to the next, so columns are found one by one.
  const auto source_row = [&](int64_t n) {
    for (const TensorView& m : matrices) {
      if (n < m.shape[0]) {
        const auto offset = static_cast<size_t>(n * m.strides[0]) * size_of(m.dtype);
        return SourceRow{static_cast<const char*>(m.data) + offset, m.dtype, m.strides[1]};
      }
      n -= m.shape[0];
    }
    return SourceRow{};
  };
  const int64_t panel_values = kernel.panel_columns * packed.k_padded_;
  pool.parallel_for(num_panels, [&](int64_t panel, int) {
    std::vector<SourceRow> rows(static_cast<size_t>(kernel.panel_columns));
    for (int64_t column = 0; column < kernel.panel_columns; ++column) {
      rows[static_cast<size_t>(column)] = source_row(panel * kernel.panel_columns + column);
    }
    void* const data = packed.memory_.data();
    if (dtype == DType::f32) {
      pack_panel(rows, packed.k_, packed.k_padded_, kernel, dtype,
                 static_cast<float*>(data) + panel * panel_values);
    } else {
      pack_panel(rows, packed.k_, packed.k_padded_, kernel, dtype,
                 static_cast<uint16_t*>(data) + panel * panel_values);
    }
  });
  return packed;
}

void PackedMatrix::unpack_row(int64_t n, float* out) const {
  BIFOCAL_CHECK(kernel_ != nullptr);
  BIFOCAL_CHECK_LE(0, n);
  BIFOCAL_CHECK_LT(n, n_);
  const int64_t columns = kernel_->panel_columns;
  const int64_t group = kernel_->k_group;
  const int64_t base = n / columns * columns * k_padded_ + n % columns * group;
  for (int64_t i = 0; i < k_; ++i) {
    const int64_t at = base + i / group * columns * group + i % group;
    switch (dtype_) {
      case DType::f32:
        out[i] = static_cast<const float*>(data())[at];
        break;
      case DType::f16:
        out[i] = float_from_f16(static_cast<const uint16_t*>(data())[at]);
        break;
      default:
        out[i] = float_from_bf16(static_cast<const uint16_t*>(data())[at]);
        break;
    }
  }
}

}  // namespace bifocal::kernels::cpu
