#include "model/cuda_step.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace bifocal::model {

using attention::Phase;

namespace {

constexpr int64_t kAlignment = 16;

// Device sequences that a step's sequence stands for.
int device_seqs(Phase phase, int32_t q_len) {
  return phase == Phase::verify ? q_len : 1;
}

template <class T>
std::span<T> array_at(std::byte* base, int64_t offset, int64_t count) {
  return {reinterpret_cast<T*>(base + offset), static_cast<size_t>(count)};
}

template <class T>
void fill(std::span<T> to, std::span<const T> from, T padding) {
  BIFOCAL_CHECK_LE(from.size(), to.size());
  std::copy(from.begin(), from.end(), to.begin());
  std::fill(to.begin() + static_cast<ptrdiff_t>(from.size()), to.end(), padding);
}

}  // namespace

CudaStepShape shape_of(const StepRows& rows, const attention::StepBatch& batch) {
  CudaStepShape shape;
  shape.num_rows = static_cast<int>(rows.token_ids.size());
  shape.num_logit_rows = static_cast<int>(rows.logit_rows.size());
  shape.table_stride = static_cast<int>(batch.page_table_stride);
  for (size_t i = 0; i < batch.phases.size(); ++i) {
    shape.num_seqs[static_cast<size_t>(batch.phases[i])] += device_seqs(batch.phases[i], batch.q_len[i]);
  }
  return shape;
}

CudaStepShape decode_shape(int batch, int table_stride) {
  CudaStepShape shape;
  shape.num_rows = shape.num_logit_rows = batch;
  shape.table_stride = table_stride;
  shape.num_seqs[static_cast<size_t>(Phase::decode)] = batch;
  return shape;
}

CudaStepLayout::CudaStepLayout(const CudaStepShape& shape) {
  const auto place = [this](int64_t count, size_t size) {
    const int64_t offset = num_bytes;
    num_bytes += (count * static_cast<int64_t>(size) + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  };
  const int64_t seqs = shape.total_seqs();
  token_ids = place(shape.num_rows, sizeof(int32_t));
  positions = place(shape.num_rows, sizeof(int32_t));
  kv_slots = place(shape.num_rows, sizeof(int64_t));
  logit_rows = place(shape.num_logit_rows, sizeof(int32_t));
  sampling = place(shape.num_logit_rows, sizeof(kernels::SampleParams));
  q_begin = place(seqs, sizeof(int32_t));
  q_len = place(seqs, sizeof(int32_t));
  kv_len = place(seqs, sizeof(int32_t));
  page_table = place(seqs * shape.table_stride, sizeof(int32_t));
}

void write_step(const StepRows& rows, const attention::StepBatch& batch, const CudaStepShape& shape,
                const CudaStepLayout& layout, std::byte* to) {
  const int64_t num_rows = shape.num_rows;
  const int64_t num_seqs = shape.total_seqs();
  fill(array_at<int32_t>(to, layout.token_ids, num_rows), rows.token_ids, -1);
  fill(array_at<int32_t>(to, layout.positions, num_rows), rows.positions, 0);
  fill(array_at<int64_t>(to, layout.kv_slots, num_rows), rows.kv_slots, int64_t{-1});
  const auto logit_rows = array_at<int32_t>(to, layout.logit_rows, shape.num_logit_rows);
  fill(logit_rows, rows.logit_rows, -1);
  fill(array_at<kernels::SampleParams>(to, layout.sampling, shape.num_logit_rows), rows.sampling, {});

  const auto q_begin = array_at<int32_t>(to, layout.q_begin, num_seqs);
  const auto q_len = array_at<int32_t>(to, layout.q_len, num_seqs);
  const auto kv_len = array_at<int32_t>(to, layout.kv_len, num_seqs);
  auto* table = reinterpret_cast<int32_t*>(to + layout.page_table);
  const auto stride = static_cast<size_t>(shape.table_stride);
  const auto given = static_cast<size_t>(batch.page_table_stride);
  const size_t copied = std::min(stride, given);
  size_t s = 0;
  for (size_t i = 0; i < batch.phases.size(); ++i) {
    const int count = device_seqs(batch.phases[i], batch.q_len[i]);
    const int32_t rows_each = batch.q_len[i] / count;
    for (int part = 0; part < count; ++part, ++s) {
      q_begin[s] = batch.q_begin[i] + part;
      q_len[s] = rows_each;
      kv_len[s] = batch.kv_len[i] - (count - 1 - part);
      int32_t* row = table + s * stride;
      std::copy_n(batch.page_table.begin() + static_cast<ptrdiff_t>(i * given), copied, row);
      std::fill(row + copied, row + stride, 0);
    }
  }
  // A padded sequence's row is its own, so that nobody else's result is overwritten with zeros.
  for (; s < static_cast<size_t>(num_seqs); ++s) {
    q_begin[s] = static_cast<int32_t>(s);
    q_len[s] = 0;
    kv_len[s] = 0;
    std::fill_n(table + s * stride, stride, 0);
  }
}

}  // namespace bifocal::model
