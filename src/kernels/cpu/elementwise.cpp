#include "kernels/cpu/elementwise.h"

#include <algorithm>

#include "base/check.h"
#include "base/trace.h"
#include "kernels/cpu/elementwise_rows.h"
#include "kernels/cpu/float_bits.h"
#include "kernels/cpu/isa.h"

namespace bifocal::kernels::cpu {
namespace {

const ElementwiseRows& rows_of(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      break;
#if defined(__x86_64__)
    case Isa::avx2:
      return kElementwiseAvx2;
    case Isa::avx512:
    case Isa::avx512_bf16:
    case Isa::amx:
      return kElementwiseAvx512;
#else
    default:
      break;
#endif
  }
  return kElementwiseScalar;
}

// Calls fn(row) for every row: on this thread while the work is small, else in tasks of about kTaskValues
// values.
template <class Fn>
void for_rows(int64_t num_rows, int64_t values_per_row, ThreadPool& pool, Fn fn) {
  constexpr int64_t kTaskValues = 16384;  // some microseconds: well above the cost of handing a task out
  const int64_t rows_per_task = std::max<int64_t>(1, kTaskValues / std::max<int64_t>(1, values_per_row));
  const int64_t num_tasks = (num_rows + rows_per_task - 1) / rows_per_task;
  pool.parallel_for(num_tasks, [&](int64_t task, int) {
    const int64_t end = std::min(num_rows, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < end; ++row) fn(row);
  });
}

void rope_token(const RopeArgs& args, const ElementwiseRows& rows, int64_t t) {
  constexpr int64_t kBlock = 128;  // angles at a time: any rotary_dim in a fixed buffer
  float cos[kBlock];
  float sin[kBlock];
  const int64_t half = args.rotary_dim / 2;
  float* const token = args.x + t * args.x_stride;
  for (int64_t begin = 0; begin < half; begin += kBlock) {
    const int64_t n = std::min(kBlock, half - begin);
    rows.rope_angles(args.positions[t], args.inv_freq.data() + begin, n, args.attention_factor, cos, sin);
    for (int64_t h = 0; h < args.num_heads; ++h) {
      float* const head = token + h * args.head_dim;
      if (args.style == RopeStyle::half) {
        rows.rotate_half(head + begin, head + half + begin, cos, sin, n);
      } else {
        rows.rotate_interleaved(head + 2 * begin, cos, sin, n);
      }
    }
  }
}

void convert(const ElementwiseRows& rows, const float* x, int64_t n, DType dtype, void* base,
             int64_t offset) {
  switch (dtype) {
    case DType::f32:
      std::copy_n(x, n, static_cast<float*>(base) + offset);
      return;
    case DType::f16:
      rows.to_f16(x, n, static_cast<uint16_t*>(base) + offset);
      return;
    case DType::bf16:
      rows.to_bf16(x, n, static_cast<uint16_t*>(base) + offset);
      return;
    case DType::f8_e4m3:
      rows.to_f8_e4m3(x, n, static_cast<uint8_t*>(base) + offset);
      return;
    default:
      BIFOCAL_CHECK(!"KV cache dtype must be f32, f16, bf16 or f8_e4m3");
  }
}

template <class Storage, float (*kToFloat)(Storage)>
void widen_row(const void* base, int64_t offset, int64_t n, float* out) {
  const auto* x = static_cast<const Storage*>(base) + offset;
  for (int64_t i = 0; i < n; ++i) out[i] = kToFloat(x[i]);
}

// n values of a cache as f32.
void widen(const void* base, DType dtype, int64_t offset, int64_t n, float* out) {
  switch (dtype) {
    case DType::f32:
      std::copy_n(static_cast<const float*>(base) + offset, n, out);
      return;
    case DType::f16:
      return widen_row<uint16_t, float_from_f16>(base, offset, n, out);
    case DType::bf16:
      return widen_row<uint16_t, float_from_bf16>(base, offset, n, out);
    default:
      BIFOCAL_CHECK(dtype == DType::f8_e4m3);
      return widen_row<uint8_t, float_from_f8_e4m3>(base, offset, n, out);
  }
}

}  // namespace

void rms_norm(const float* x, int64_t x_stride, const float* w, float eps, int64_t num_rows, int64_t dim,
              float* y, int64_t y_stride, ThreadPool& pool) {
  const ElementwiseRows& rows = rows_of(current_isa());
  for_rows(num_rows, dim, pool,
           [&](int64_t t) { rows.rms_norm(x + t * x_stride, w, eps, dim, y + t * y_stride); });
}

void rope(const RopeArgs& args, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "rope", {args.num_tokens});
  BIFOCAL_CHECK_LE(args.rotary_dim, args.head_dim);
  BIFOCAL_CHECK_EQ(static_cast<size_t>(args.rotary_dim), 2 * args.inv_freq.size());
  const ElementwiseRows& rows = rows_of(current_isa());
  const int64_t values_per_token =
      static_cast<int64_t>(args.num_heads) * args.rotary_dim + 2 * args.rotary_dim;
  for_rows(args.num_tokens, values_per_token, pool, [&](int64_t t) { rope_token(args, rows, t); });
}

void silu_mul(const float* gate_up, int64_t gate_up_stride, int64_t num_rows, int64_t dim, float* out,
              int64_t out_stride, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "silu_mul", {num_rows});
  const ElementwiseRows& rows = rows_of(current_isa());
  for_rows(num_rows, 2 * dim, pool, [&](int64_t t) {
    const float* const gate = gate_up + t * gate_up_stride;
    rows.silu_mul(gate, gate + dim, dim, out + t * out_stride);
  });
}

void clamped_swiglu(const float* gate_up, int64_t gate_up_stride, int64_t num_rows, int64_t dim, float limit,
                    float* out, int64_t out_stride, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "clamped_swiglu", {num_rows});
  const ElementwiseRows& rows = rows_of(current_isa());
  for_rows(num_rows, 2 * dim, pool, [&](int64_t t) {
    const float* const gate = gate_up + t * gate_up_stride;
    rows.clamped_swiglu(gate, gate + dim, limit, dim, out + t * out_stride);
  });
}

void write_kv(const float* k, int64_t k_stride, const float* v, int64_t v_stride, const int64_t* slots,
              int64_t num_tokens, const PagedKv& kv, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "write_kv", {num_tokens});
  const ElementwiseRows& rows = rows_of(current_isa());
  const int64_t values_per_token = static_cast<int64_t>(kv.num_kv_heads) * (kv.head_dim_k + kv.head_dim_v);
  for_rows(num_tokens, values_per_token, pool, [&](int64_t t) {
    const int64_t page = slots[t] / kv.page_size;
    const int64_t slot = slots[t] % kv.page_size;
    for (int64_t h = 0; h < kv.num_kv_heads; ++h) {
      convert(rows, k + t * k_stride + h * kv.head_dim_k, kv.head_dim_k, kv.dtype, kv.k,
              page * kv.k_page_stride + h * kv.k_head_stride + slot * kv.k_token_stride);
      if (v == nullptr) continue;
      convert(rows, v + t * v_stride + h * kv.head_dim_v, kv.head_dim_v, kv.dtype, kv.v,
              page * kv.v_page_stride + h * kv.v_head_stride + slot * kv.v_token_stride);
    }
  });
}

void gather_keys(const PagedKv& kv, const int32_t* pages, int64_t first, int64_t num_tokens, float* out,
                 int64_t out_stride, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "gather_keys", {num_tokens});
  for_rows(num_tokens, kv.head_dim_k, pool, [&](int64_t t) {
    const int64_t token = first + t;
    const int64_t at =
        pages[token / kv.page_size] * kv.k_page_stride + token % kv.page_size * kv.k_token_stride;
    widen(kv.k, kv.dtype, at, kv.head_dim_k, out + t * out_stride);
  });
}

void write_expanded_kv(const ExpandedKvArgs& args, const PagedKv& kv, ThreadPool& pool) {
  const trace::Span span(trace::Kind::rowwise, "write_expanded_kv", {args.num_tokens});
  const ElementwiseRows& rows = rows_of(current_isa());
  const int64_t nope_dim = kv.head_dim_k - args.rope_dim;
  const int64_t head_dim = nope_dim + kv.head_dim_v;
  for_rows(args.num_tokens, kv.num_kv_heads * (head_dim + args.rope_dim), pool, [&](int64_t t) {
    const int64_t page = (args.first_slot + t) / kv.page_size;
    const int64_t slot = (args.first_slot + t) % kv.page_size;
    for (int64_t h = 0; h < kv.num_kv_heads; ++h) {
      const float* up = args.up + t * args.up_stride + h * head_dim;
      const int64_t k = page * kv.k_page_stride + h * kv.k_head_stride + slot * kv.k_token_stride;
      convert(rows, up, nope_dim, kv.dtype, kv.k, k);
      convert(rows, args.rope + t * args.rope_stride, args.rope_dim, kv.dtype, kv.k, k + nope_dim);
      convert(rows, up + nope_dim, kv.head_dim_v, kv.dtype, kv.v,
              page * kv.v_page_stride + h * kv.v_head_stride + slot * kv.v_token_stride);
    }
  });
}

}  // namespace bifocal::kernels::cpu
