#include "bench/one_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/hash.h"
#include "bench/ceilings.h"
#include "bench/repeats.h"

namespace bifocal::bench {
namespace {

// One batch of equally long sequences with pages of its own, stepped through a model.
class Batch {
 public:
  // Its steps count on in `steps`, so that a trace tells them from those of other batches.
  Batch(model::Executor& executor, int vocab_size, int num_seqs, int max_len, uint64_t& steps)
      : executor_(executor),
        step_(steps),
        vocab_size_(static_cast<uint64_t>(vocab_size)),
        num_seqs_(num_seqs),
        pages_per_seq_((max_len + executor.page_size() - 1) / executor.page_size()) {
    page_table_.resize(static_cast<size_t>(num_seqs) * static_cast<size_t>(pages_per_seq_));
    for (size_t i = 0; i < page_table_.size(); ++i) page_table_[i] = static_cast<int32_t>(i);
  }

  // Appends `count` tokens to sequences [first, last) and submits them; logits of the last row of each. Those
  // of a decode step behind one in flight are that one's tokens.
  Status submit(attention::Phase phase, int first, int last, int count) {
    const auto num = static_cast<size_t>(last - first);
    phases_.assign(num, phase);
    q_len_.assign(num, count);
    kv_len_.assign(num, length_ + count);
    q_begin_.resize(num);
    logit_rows_.resize(num);
    tokens_.clear();
    positions_.clear();
    slots_.clear();
    const int page_size = executor_.page_size();
    for (int s = first; s < last; ++s) {
      const auto i = static_cast<size_t>(s - first);
      q_begin_[i] = static_cast<int32_t>(tokens_.size());
      for (int t = length_; t < length_ + count; ++t) {
        const uint64_t token = mix64(static_cast<uint64_t>(s) << 32 | static_cast<uint64_t>(t));
        tokens_.push_back(num_in_flight_ > 0 ? kernels::chosen_at(s)
                                             : static_cast<int32_t>(token % vocab_size_));
        positions_.push_back(t);
        slots_.push_back(int64_t{page_table_[static_cast<size_t>(s * pages_per_seq_ + t / page_size)]} *
                             page_size +
                         t % page_size);
      }
      logit_rows_[i] = static_cast<int32_t>(tokens_.size()) - 1;
    }
    attention::StepBatch batch;
    batch.step = ++step_;
    batch.phases = phases_;
    batch.q_begin = q_begin_;
    batch.q_len = q_len_;
    batch.kv_len = kv_len_;
    const trace::StepSpan span({static_cast<int64_t>(step_), static_cast<int64_t>(tokens_.size()),
                                static_cast<int64_t>(num), static_cast<int64_t>(num)});
    batch.page_table = std::span(page_table_).subspan(static_cast<size_t>(first * pages_per_seq_));
    batch.page_table_stride = pages_per_seq_;
    read_logits_.assign(num, 0);  // where the device finds the largest, as for greedy requests
    ++num_in_flight_;
    return executor_.submit({tokens_, positions_, slots_, logit_rows_, read_logits_}, batch);
  }
  Status collect() {
    --num_in_flight_;
    return executor_.collect();
  }

  // Prompts of input_len tokens, at most max_rows rows a step: several short prompts together, or one long
  // one in chunks.
  Status prefill(int input_len, int max_rows) {
    const int seqs_per_step = std::max(1, max_rows / input_len);
    for (int first = 0; first < num_seqs_; first += seqs_per_step) {
      const int last = std::min(num_seqs_, first + seqs_per_step);
      for (length_ = 0; length_ < input_len;) {
        const int count = std::min(input_len - length_, max_rows / (last - first));
        BIFOCAL_RETURN_IF_ERROR(submit(attention::Phase::prefill, first, last, count));
        BIFOCAL_RETURN_IF_ERROR(collect());
        length_ += count;
      }
    }
    return {};
  }

  // Forgets what was decoded after the first `length` tokens.
  void rewind(int length) { length_ = length; }

  Status submit_decode() {
    BIFOCAL_RETURN_IF_ERROR(submit(attention::Phase::decode, 0, num_seqs_, 1));
    ++length_;
    return {};
  }
  Status decode() {
    BIFOCAL_RETURN_IF_ERROR(submit_decode());
    return collect();
  }

 private:
  model::Executor& executor_;
  uint64_t& step_;  // the last one's number
  uint64_t vocab_size_;
  int num_seqs_;
  int pages_per_seq_;
  int length_ = 0;  // tokens of every sequence that are in the cache
  int num_in_flight_ = 0;
  std::vector<int32_t> page_table_, q_begin_, q_len_, kv_len_, tokens_, positions_, logit_rows_;
  std::vector<int64_t> slots_;
  std::vector<uint8_t> read_logits_;
  std::vector<attention::Phase> phases_;
};

// What a layer's feed-forward block multiplies with and reads, in matrix elements.
struct FeedForwardWork {
  double per_row = 0;
  double read = 0;  // per step
};
FeedForwardWork feed_forward_work(double hidden, const model::LayerSpec& layer, double rows) {
  FeedForwardWork work;
  if (!layer.moe) {
    work.per_row = work.read = 3.0 * hidden * layer.mlp.intermediate_size;
    return work;
  }
  const model::MoeSpec& moe = *layer.moe;
  const double expert = 3.0 * hidden * moe.intermediate_size;
  const double always = hidden * (moe.num_experts + 3.0 * moe.shared_intermediate_size);
  const double missed = std::pow(1.0 - 1.0 * moe.experts_per_token / moe.num_experts, rows);
  work.per_row = moe.experts_per_token * expert + always;
  work.read = moe.num_experts * (1.0 - missed) * expert + always;
  return work;
}

// Multiply-adds of one token's projections around the attention, and of one (query, key) pair of all heads;
// values in the cache of one token.
struct AttentionWork {
  double projections = 0;
  double pair = 0;
  double kv_values = 0;
};
AttentionWork attention_work(double hidden, const model::LayerSpec& layer) {
  if (const auto& mla = layer.mla) {
    // In the absorbed form, which decode takes.
    const double q_rows = 1.0 * mla->num_heads * mla->qk_head_dim();
    const double q = mla->q_lora_rank > 0 ? mla->q_lora_rank * (hidden + q_rows) : hidden * q_rows;
    const double up = 1.0 * mla->num_heads * mla->kv_lora_rank * (mla->qk_nope_head_dim + mla->v_head_dim);
    const double out = hidden * static_cast<double>(layer.attention_out_dim());
    return {q + hidden * mla->latent_dim() + up + out,
            1.0 * mla->num_heads * (mla->latent_dim() + mla->kv_lora_rank), 1.0 * mla->latent_dim()};
  }
  const model::AttentionSpec& gqa = layer.attention;
  return {hidden * static_cast<double>(gqa.qkv_rows() + layer.attention_out_dim()),
          2.0 * gqa.num_heads * gqa.head_dim, 2.0 * gqa.num_kv_heads * gqa.head_dim};
}

Expected<std::vector<Breakdown>> break_down_phases(Batch& batch, const OneBatchShape& shape, int max_rows,
                                                   const OneBatchOptions& options) {
  std::vector<Breakdown> out(1);
  BIFOCAL_ASSIGN_OR_RETURN(out[0], break_down("prefill", options.breakdown_repeats,
                                              [&] { return batch.prefill(shape.input_len, max_rows); }));
  if (shape.output_len == 0) return out;
  BIFOCAL_ASSIGN_OR_RETURN(Breakdown decode, break_down("decode", options.breakdown_repeats, [&]() -> Status {
                             batch.rewind(shape.input_len);
                             for (int i = 0; i < shape.output_len; ++i) {
                               BIFOCAL_RETURN_IF_ERROR(batch.decode());
                             }
                             return {};
                           }));
  out.push_back(std::move(decode));
  return out;
}

double elapsed_s(const Clock& clock, double since_s) {
  return clock.now_s() - since_s;
}

}  // namespace

StepWork step_work(const model::ModelSpec& spec, DType weight_dtype, DType kv_dtype, double rows,
                   double logit_rows, double pairs, double kv_tokens) {
  StepWork work;
  const double hidden = spec.hidden_size;
  for (const auto& layer : spec.layers) {
    const AttentionWork attention = attention_work(hidden, layer);
    const FeedForwardWork feed_forward = feed_forward_work(hidden, layer, rows);
    work.flops += 2.0 * (attention.projections + feed_forward.per_row) * rows + 2.0 * attention.pair * pairs;
    work.bytes += (attention.projections + feed_forward.read) * static_cast<double>(size_of(weight_dtype)) +
                  attention.kv_values * kv_tokens * static_cast<double>(size_of(kv_dtype));
  }
  const double output = hidden * spec.vocab_size;
  work.flops += 2.0 * output * logit_rows;
  if (logit_rows > 0) work.bytes += output * static_cast<double>(size_of(weight_dtype));
  return work;
}

Status run_one_batch(model::Model& model, const OneBatchOptions& options, ThreadPool& pool,
                     const std::function<void(const OneBatchRow&)>& on_row) {
  int max_batch = 1;
  int max_len = 1;
  int num_pages = 1;
  for (const auto& shape : options.shapes) {
    const int len = shape.input_len + shape.output_len;
    max_batch = std::max(max_batch, shape.batch);
    max_len = std::max(max_len, len);
    num_pages = std::max(num_pages, shape.batch * ((len + options.page_size - 1) / options.page_size));
  }
  const int max_rows = std::max(options.chunked_prefill_size, max_batch);
  model::ExecutorOptions executor_options;
  executor_options.attention = options.attention;
  executor_options.limits = {max_rows, max_batch, max_len, pool.num_threads()};
  executor_options.max_logit_rows = max_batch;
  executor_options.num_pages = num_pages;
  executor_options.time_idle = true;
  BIFOCAL_ASSIGN_OR_RETURN(const auto executor, model.make_executor(executor_options));
  // The limit of a model that runs on these threads.
  std::optional<CeilingBursts> bursts;
  if (model.on_cpu() != nullptr) {
    BIFOCAL_ASSIGN_OR_RETURN(bursts, CeilingBursts::create(pool));
  }
  const Clock& clock = SteadyClock::instance();
  uint64_t steps = 0;
  for (const auto& shape : options.shapes) {
    Batch batch(*executor, model.spec().vocab_size, shape.batch, shape.input_len + shape.output_len, steps);
    OneBatchRow row;
    row.shape = shape;
    row.prefill_backend =
        executor->router().decide(0, attention::Phase::prefill).backend->capabilities().name;
    row.decode_backend = executor->router().decide(0, attention::Phase::decode).backend->capabilities().name;
    const double warm_since_s = clock.now_s();
    do {
      BIFOCAL_RETURN_IF_ERROR(batch.prefill(shape.input_len, max_rows));
    } while (elapsed_s(clock, warm_since_s) < options.warmup_s);

    const double prefill_since_s = clock.now_s();
    BIFOCAL_RETURN_IF_ERROR(batch.prefill(shape.input_len, max_rows));
    row.prefill_s = elapsed_s(clock, prefill_since_s);
    const double in = shape.input_len;
    const double seqs = shape.batch;
    row.prefill_tokens_per_s = seqs * in / row.prefill_s;
    row.prefill_flops_per_s = step_work(model.spec(), options.weight_dtype, options.kv_dtype, seqs * in, seqs,
                                        seqs * in * (in + 1) / 2, seqs * in)
                                  .flops /
                              row.prefill_s;

    // The machine's rate wanders by some percent from second to second: what is compared is taken in turns.
    constexpr int kStepsPerBurst = 8;
    std::vector<double> steps_s;
    std::vector<double> dram_read_bytes_per_s;
    std::vector<double> idle_s;
    const int ahead = options.overlap_schedule ? executor->max_in_flight() - 1 : 0;
    double since_s = clock.now_s();
    for (int i = 0, submitted = 0; i < shape.output_len; ++i) {
      if (bursts && i % kStepsPerBurst == 0) {
        dram_read_bytes_per_s.push_back(bursts->dram_read_bytes_per_s());
        since_s = clock.now_s();
      }
      for (; submitted < std::min(i + 1 + ahead, shape.output_len); ++submitted) {
        BIFOCAL_RETURN_IF_ERROR(batch.submit_decode());
      }
      BIFOCAL_RETURN_IF_ERROR(batch.collect());
      const double now_s = clock.now_s();
      steps_s.push_back(now_s - std::exchange(since_s, now_s));
      const auto idle_ns = executor->idle_before_ns();
      if (i > 0 && idle_ns) idle_s.push_back(static_cast<double>(*idle_ns) * 1e-9);
    }
    if (!idle_s.empty()) row.idle_median_s = summarise(idle_s).median;
    if (!steps_s.empty()) {
      if (bursts) row.dram_read_bytes_per_s = summarise(dram_read_bytes_per_s).median;
      row.decode_median_s = summarise(steps_s).median;
      row.decode_tokens_per_s = seqs / row.decode_median_s;
      const double mean_kv = seqs * (in + (shape.output_len + 1) / 2.0);
      row.decode_bytes_per_s =
          step_work(model.spec(), options.weight_dtype, options.kv_dtype, seqs, seqs, mean_kv, mean_kv)
              .bytes /
          row.decode_median_s;
    }
    if (options.breakdown_repeats > 0) {
      BIFOCAL_ASSIGN_OR_RETURN(row.breakdowns, break_down_phases(batch, shape, max_rows, options));
    }
    on_row(row);
  }
  return {};
}

}  // namespace bifocal::bench
