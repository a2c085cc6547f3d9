#include "model/cuda_step.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace bifocal::model {

using attention::Phase;

namespace {

constexpr int64_t kAlignment = 16;

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
    const auto phase = static_cast<size_t>(batch.phases[i]);
    ++shape.num_seqs[phase];
    shape.phase_rows[phase] += batch.q_len[i];
  }
  return shape;
}

CudaStepShape decode_shape(int batch, int table_stride) {
  CudaStepShape shape;
  shape.num_rows = shape.num_logit_rows = batch;
  shape.table_stride = table_stride;
  shape.num_seqs[static_cast<size_t>(Phase::decode)] = batch;
  shape.phase_rows[static_cast<size_t>(Phase::decode)] = batch;
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
  row_kv_len = place(shape.num_rows, sizeof(int32_t));
  row_seq = place(shape.num_rows, sizeof(int32_t));
}

void write_step(const StepRows& rows, const attention::StepBatch& batch, const CudaStepShape& shape,
                const CudaStepLayout& layout, std::byte* to) {
  const int64_t num_rows = shape.num_rows;
  fill(array_at<int32_t>(to, layout.token_ids, num_rows), rows.token_ids, -1);
  fill(array_at<int32_t>(to, layout.positions, num_rows), rows.positions, 0);
  fill(array_at<int64_t>(to, layout.kv_slots, num_rows), rows.kv_slots, int64_t{-1});
  const auto logit_rows = array_at<int32_t>(to, layout.logit_rows, shape.num_logit_rows);
  fill(logit_rows, rows.logit_rows, -1);
  fill(array_at<kernels::SampleParams>(to, layout.sampling, shape.num_logit_rows), rows.sampling, {});

  const auto num_given = batch.phases.size();
  const auto num_seqs = static_cast<size_t>(shape.total_seqs());
  const auto q_begin = array_at<int32_t>(to, layout.q_begin, shape.total_seqs());
  fill(q_begin, batch.q_begin, 0);
  // A padded sequence's row is its own, so that nobody else's result is overwritten with zeros.
  for (size_t s = num_given; s < num_seqs; ++s) q_begin[s] = static_cast<int32_t>(s);
  fill(array_at<int32_t>(to, layout.q_len, shape.total_seqs()), batch.q_len, 0);
  fill(array_at<int32_t>(to, layout.kv_len, shape.total_seqs()), batch.kv_len, 0);
  auto* table = reinterpret_cast<int32_t*>(to + layout.page_table);
  const auto stride = static_cast<size_t>(shape.table_stride);
  const auto given_stride = static_cast<size_t>(batch.page_table_stride);
  const size_t copied = std::min(stride, given_stride);
  for (size_t s = 0; s < num_given; ++s, table += stride) {
    std::copy_n(batch.page_table.begin() + static_cast<ptrdiff_t>(s * given_stride), copied, table);
    std::fill(table + copied, table + stride, 0);
  }
  std::fill_n(table, (num_seqs - num_given) * stride, 0);

  const auto row_kv_len = array_at<int32_t>(to, layout.row_kv_len, num_rows);
  const auto row_seq = array_at<int32_t>(to, layout.row_seq, num_rows);
  std::fill(row_kv_len.begin(), row_kv_len.end(), 0);
  std::fill(row_seq.begin(), row_seq.end(), 0);
  for (size_t s = 0; s < num_given; ++s) {
    for (int32_t i = 0; i < batch.q_len[s]; ++i) {
      const auto row = static_cast<size_t>(batch.q_begin[s] + i);
      row_kv_len[row] = batch.kv_len[s] - (batch.q_len[s] - 1 - i);
      row_seq[row] = static_cast<int32_t>(s);
    }
  }
}

}  // namespace bifocal::model
