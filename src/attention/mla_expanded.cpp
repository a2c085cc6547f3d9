#include "attention/mla_expanded.h"

#include <algorithm>

#include "attention/batch_rows.h"
#include "kernels/cpu/attention/merge.h"
#include "kernels/cpu/elementwise.h"

namespace bifocal::attention {
namespace {

namespace cpu = kernels::cpu;

// Expanded keys and values take at most this much, however many tokens are allowed.
constexpr int64_t kBudgetBytes = int64_t{1} << 30;
constexpr int64_t kExpandTokens = 512;  // projected at a time

int64_t pages_for(int64_t tokens, int page_size) {
  return (tokens + page_size - 1) / page_size;
}

}  // namespace

Expected<std::unique_ptr<MlaExpanded>> MlaExpanded::create(const AttentionDesc& latent,
                                                           const AttentionDesc& expanded,
                                                           const Backend& backend, const PlanLimits& limits,
                                                           int64_t max_kv_tokens) {
  std::unique_ptr<MlaExpanded> out(new MlaExpanded(latent, expanded, backend, limits, max_kv_tokens));
  auto first = std::make_unique<Round>();
  BIFOCAL_ASSIGN_OR_RETURN(first->buffers, backend.make_buffers(expanded, limits));
  out->rounds_.push_back(std::move(first));
  return out;
}

MlaExpanded::MlaExpanded(const AttentionDesc& latent, const AttentionDesc& expanded, const Backend& backend,
                         const PlanLimits& limits, int64_t max_kv_tokens)
    : latent_(latent), expanded_(expanded), backend_(backend), limits_(limits) {
  const int64_t heads = expanded.num_heads;
  const auto element_bytes = static_cast<int64_t>(size_of(expanded.kv_dtype));
  const int64_t token_bytes = heads * (expanded.head_dim_k + expanded.head_dim_v) * element_bytes;
  max_kv_tokens_ = std::min({max_kv_tokens, int64_t{limits.max_seqs} * limits.max_kv_len,
                             std::max<int64_t>(1, kBudgetBytes / token_bytes)});
  capacity_tokens_ = std::max<int64_t>(max_kv_tokens_, limits.max_tokens);
  // Each sequence begins a page.
  const int64_t slots =
      (pages_for(capacity_tokens_, expanded.page_size) + limits.max_seqs) * expanded.page_size;
  const auto floats = [&](int head_dim) {
    return slots * heads * head_dim * element_bytes / static_cast<int64_t>(sizeof(float));
  };
  layout_.v = floats(expanded.head_dim_k);
  layout_.latents = layout_.v + floats(expanded.head_dim_v);
  layout_.up = layout_.latents + kExpandTokens * latent.head_dim_k;
  layout_.lse = layout_.up + kExpandTokens * up_stride();
  layout_.part_lse = layout_.lse + limits.max_tokens * heads;
  layout_.part = layout_.part_lse + limits.max_tokens * heads;
  layout_.total = layout_.part + limits.max_tokens * heads * expanded.head_dim_v;
}

int64_t MlaExpanded::up_stride() const {
  const int rope_dim = latent_.head_dim_k - latent_.head_dim_v;
  return int64_t{expanded_.num_heads} * (expanded_.head_dim_k - rope_dim + expanded_.head_dim_v);
}

size_t MlaExpanded::gemm_scratch_bytes() const {
  return cpu::gemm_scratch_bytes(kExpandTokens, latent_.head_dim_v);
}

size_t MlaExpanded::plan_buffer_bytes() const {
  size_t bytes = 0;
  for (const auto& round : rounds_) bytes += round->buffers.num_bytes();
  return bytes;
}

void MlaExpanded::Round::add(size_t seq, int32_t first, int32_t count, int page_size) {
  int32_t page = 0;
  if (!pieces.empty()) {
    page = pieces.back().page + static_cast<int32_t>(pages_for(pieces.back().count, page_size));
  }
  pieces.push_back({static_cast<int32_t>(seq), first, count, page});
  kv_len[seq] = count;
}

Status MlaExpanded::plan(const AttentionBatch& batch, bool chunked) {
  batch_ = batch;
  num_rounds_ = 0;
  BIFOCAL_ASSIGN_OR_RETURN(Round * round, next_round(batch));
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    if (batch.q_len[seq] == 0) continue;
    const int32_t first = chunked ? batch.kv_len[seq] - batch.q_len[seq] : 0;
    round->add(seq, first, batch.kv_len[seq] - first, expanded_.page_size);
  }
  finish(*round, batch, true);
  if (!chunked) return {};

  // All prefixes one after another, cut wherever a round is full.
  int64_t room = 0;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    const int32_t prefix = batch.q_len[seq] == 0 ? 0 : batch.kv_len[seq] - batch.q_len[seq];
    for (int32_t first = 0; first < prefix;) {
      if (room == 0) {
        if (num_rounds_ > 1) finish(*round, batch, false);
        BIFOCAL_ASSIGN_OR_RETURN(round, next_round(batch));
        room = max_kv_tokens_;
      }
      const auto count = static_cast<int32_t>(std::min<int64_t>(room, prefix - first));
      round->add(seq, first, count, expanded_.page_size);
      first += count;
      room -= count;
    }
  }
  if (num_rounds_ > 1) finish(*round, batch, false);
  return {};
}

Expected<MlaExpanded::Round*> MlaExpanded::next_round(const AttentionBatch& batch) {
  if (num_rounds_ == rounds_.size()) {
    auto round = std::make_unique<Round>();
    BIFOCAL_ASSIGN_OR_RETURN(round->buffers, backend_.make_buffers(expanded_, limits_));
    rounds_.push_back(std::move(round));
  }
  Round* round = rounds_[num_rounds_++].get();
  round->pieces.clear();
  round->kv_len.assign(batch.q_len.size(), 0);
  return round;
}

void MlaExpanded::finish(Round& round, const AttentionBatch& batch, bool causal) {
  int64_t stride = 1;
  for (const Piece& piece : round.pieces) {
    stride = std::max(stride, pages_for(piece.count, expanded_.page_size));
  }
  round.page_table.assign(batch.q_len.size() * static_cast<size_t>(stride), 0);
  for (const Piece& piece : round.pieces) {
    int32_t* row = round.page_table.data() + piece.seq * stride;
    const int64_t count = pages_for(piece.count, expanded_.page_size);
    for (int64_t i = 0; i < count; ++i) row[i] = piece.page + static_cast<int32_t>(i);
  }
  AttentionBatch part = batch;
  part.kv_len = round.kv_len;
  part.page_table = round.page_table;
  part.page_table_stride = stride;
  part.causal = causal;
  round.plan = backend_.plan(expanded_, part, round.buffers);
}

Status MlaExpanded::run(uint64_t step, const MlaInputs& inputs, const MlaWorkspace& workspace,
                        ThreadPool& pool) {
  const kernels::PagedKv kv = pages(workspace);
  for (size_t r = 0; r < num_rounds_; ++r) {
    const Round& round = *rounds_[r];
    expand(round, inputs, kv, workspace, pool);
    LayerInputs attend;
    attend.q = inputs.q;
    attend.q_stride = inputs.q_stride;
    attend.kv = kv;
    attend.out = r == 0 ? inputs.out : workspace.floats + layout_.part;
    attend.out_stride = r == 0 ? inputs.out_stride : int64_t{expanded_.num_heads} * expanded_.head_dim_v;
    if (num_rounds_ > 1) attend.lse = workspace.floats + (r == 0 ? layout_.lse : layout_.part_lse);
    BIFOCAL_RETURN_IF_ERROR(backend_.run(round.plan, expanded_, step, attend, pool));
    if (r > 0) merge(inputs, workspace, pool);
  }
  return {};
}

void MlaExpanded::expand(const Round& round, const MlaInputs& inputs, const kernels::PagedKv& kv,
                         const MlaWorkspace& workspace, ThreadPool& pool) const {
  float* const latents = workspace.floats + layout_.latents;
  cpu::GemmArgs project;
  project.a = latents;
  project.lda = latent_.head_dim_k;
  project.w = inputs.projections.expand;
  project.c = workspace.floats + layout_.up;
  project.ldc = up_stride();
  cpu::ExpandedKvArgs write;
  write.up = project.c;
  write.up_stride = project.ldc;
  write.rope = latents + latent_.head_dim_v;
  write.rope_stride = latent_.head_dim_k;
  write.rope_dim = latent_.head_dim_k - latent_.head_dim_v;
  for (const Piece& piece : round.pieces) {
    const int32_t* source = batch_.page_table.data() + piece.seq * batch_.page_table_stride;
    for (int64_t done = 0; done < piece.count; done += kExpandTokens) {
      const int64_t count = std::min(kExpandTokens, piece.count - done);
      cpu::gather_keys(inputs.kv, source, piece.first + done, count, latents, latent_.head_dim_k, pool);
      project.m = count;
      cpu::gemm(project, workspace.gemm_scratch, pool);
      write.first_slot = int64_t{piece.page} * kv.page_size + done;
      write.num_tokens = count;
      cpu::write_expanded_kv(write, kv, pool);
    }
  }
}

void MlaExpanded::merge(const MlaInputs& inputs, const MlaWorkspace& workspace, ThreadPool& pool) const {
  const BatchRows rows = batch_rows(batch_);
  const int64_t heads = expanded_.num_heads;
  pool.parallel_for(rows.count(), [&](int64_t i, int) {
    const int64_t row = rows.begin + i;
    cpu::MergeArgs args;
    args.num_tokens = 1;
    args.num_heads = expanded_.num_heads;
    args.head_dim_v = expanded_.head_dim_v;
    args.out = inputs.out + row * inputs.out_stride;
    args.lse = workspace.floats + layout_.lse + row * heads;
    args.part_out = workspace.floats + layout_.part + row * heads * expanded_.head_dim_v;
    args.part_lse = workspace.floats + layout_.part_lse + row * heads;
    cpu::merge_attention(args);
  });
}

kernels::PagedKv MlaExpanded::pages(const MlaWorkspace& workspace) const {
  kernels::PagedKv kv;
  kv.k = workspace.floats;
  kv.v = workspace.floats + layout_.v;
  kv.dtype = expanded_.kv_dtype;
  kv.num_kv_heads = expanded_.num_kv_heads;
  kv.head_dim_k = expanded_.head_dim_k;
  kv.head_dim_v = expanded_.head_dim_v;
  kv.page_size = expanded_.page_size;
  kernels::set_dense_strides(kv);
  return kv;
}

}  // namespace bifocal::attention
