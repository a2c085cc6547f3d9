#include "model/cuda_executor.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "attention/cuda_backends.h"
#include "base/log.h"
#include "kernels/cuda/stamp_time.h"
#include "kernels/cuda/stream.h"
#include "model/cuda_decoder.h"
#include "model/cuda_products.h"
#include "model/cuda_step.h"
#include "model/step_check.h"

namespace bifocal::model {

namespace cuda = kernels::cuda;
using attention::Phase;

namespace {

// While the device works on a step, the next one's arrays come over and the results of the one before go out:
// what a step alone writes or reads exists twice, and steps take turns.
constexpr size_t kMaxInFlight = 2;

struct Slot {
  cuda::PinnedMemory staging;        // the step's arrays, and
  cuda::DeviceMemory arrays;         // the same on the device
  CudaTokens tokens;                 // on the device
  cuda::PinnedMemory host_tokens;    // int32 [R]
  cuda::DeviceMemory span;           // DeviceSpan, with time_idle, and
  cuda::PinnedMemory host_span;      // the same here
  cuda::Event sent, computed, done;  // arrays are there; results are; results are here
  int num_logit_rows = 0;            // R
  bool reads_logits = false;
};

// A decode step of a fixed number of rows, captured for each slot.
struct CapturedStep {
  int batch = 0;
  std::array<cuda::Graph, kMaxInFlight> graphs;
};

class CudaExecutor final : public Executor {
 public:
  CudaExecutor(const ModelSpec& spec, const ExecutorOptions& options, kv::CudaKvCache cache,
               std::unique_ptr<attention::CudaPlanner> planner, CudaWorkspace workspace)
      : spec_(spec),
        options_(options),
        cache_(std::move(cache)),
        planner_(std::move(planner)),
        workspace_(std::move(workspace)),
        vocab_size_(static_cast<size_t>(spec.vocab_size)) {}
  ~CudaExecutor() override {
    for (const cuda::Stream* stream : {&sending_, &stream_, &fetching_}) {  // memory is still in use
      if (stream->get() != nullptr) cudaStreamSynchronize(stream->get());
    }
  }

  Status open(const CudaWeights& weights, const AttentionClasses& classes, const CudaGraphOptions& graphs,
              cuda::Linear linear);

  int num_pages() const override { return cache_.num_pages(); }
  int page_size() const override { return cache_.page_size(); }
  Status copy_tokens(kv::PageId source, kv::PageId target, int num_tokens) override {
    return cache_.copy_tokens(source, target, num_tokens, {stream_.get(), false, false});
  }
  Status submit(const StepRows& rows, const attention::StepBatch& batch) override;
  Status collect() override;
  int max_in_flight() const override { return kMaxInFlight; }
  const float* logits(int32_t row) const override {
    return host_logits_.as<float>() + static_cast<size_t>(row) * vocab_size_;
  }
  std::span<const int32_t> tokens() const override {
    const Slot& last = slots_[(num_collected_ - 1) % kMaxInFlight];
    return {last.host_tokens.as<int32_t>(), static_cast<size_t>(last.num_logit_rows)};
  }
  std::optional<int64_t> idle_before_ns() const override { return idle_before_ns_; }
  std::span<const attention::AttentionDesc> classes() const override { return planner_->classes(); }
  const attention::Router& router() const override { return planner_->router(); }
  const attention::PhaseCounters& counters(size_t class_index, Phase phase) const override {
    return planner_->counters(class_index, phase);
  }

 private:
  Status capture_steps(const std::vector<int>& batches);
  // The smallest captured step that holds this one; null when it has to run eagerly.
  const CapturedStep* find_captured(const StepRows& rows, const attention::StepBatch& batch) const;
  Status check(const StepRows& rows) const;
  Status send(const StepRows& rows, const attention::StepBatch& batch, const CudaStepShape& shape,
              const Slot& slot);
  Status enqueue(const CudaStepShape& shape, const Slot& slot);
  Status fetch(const StepRows& rows, const Slot& slot);
  int max_table_stride() const {
    return (options_.limits.max_kv_len + cache_.page_size() - 1) / cache_.page_size();
  }

  const ModelSpec& spec_;
  ExecutorOptions options_;
  kv::CudaKvCache cache_;
  std::unique_ptr<attention::CudaPlanner> planner_;
  CudaWorkspace workspace_;
  size_t vocab_size_;
  cuda::Stream sending_, stream_, fetching_;  // arrays come over; kernels run; results go out
  std::array<Slot, kMaxInFlight> slots_;
  cuda::PinnedMemory host_logits_;  // f32 [R, V]
  std::unique_ptr<CudaDecoder> decoder_;
  std::vector<CapturedStep> captured_;  // by batch
  uint64_t num_submitted_ = 0;
  uint64_t num_collected_ = 0;
  std::optional<int64_t> last_end_ns_;  // of the step collected last, in the device's time
  std::optional<int64_t> idle_before_ns_;
};

// The largest step that the limits allow.
int64_t max_step_bytes(const attention::PlanLimits& limits, int max_logit_rows, int table_stride) {
  CudaStepShape shape;
  shape.num_rows = limits.max_tokens;
  shape.num_logit_rows = max_logit_rows;
  shape.table_stride = table_stride;
  shape.num_seqs[0] = limits.max_seqs;
  return CudaStepLayout(shape).num_bytes;
}

Status CudaExecutor::open(const CudaWeights& weights, const AttentionClasses& classes,
                          const CudaGraphOptions& graphs, cuda::Linear linear) {
  for (cuda::Stream* stream : {&sending_, &stream_, &fetching_}) {
    BIFOCAL_ASSIGN_OR_RETURN(*stream, cuda::make_stream());
  }
  const auto bytes =
      static_cast<size_t>(max_step_bytes(options_.limits, options_.max_logit_rows, max_table_stride()));
  const auto max_logit_rows = static_cast<size_t>(options_.max_logit_rows);
  BIFOCAL_ASSIGN_OR_RETURN(host_logits_,
                           cuda::PinnedMemory::allocate(max_logit_rows * vocab_size_ * sizeof(float)));
  const size_t span_bytes = options_.time_idle ? sizeof(cuda::DeviceSpan) : 0;
  auto* tokens = workspace_.tokens.as<int32_t>();
  auto* tokens_before = tokens + max_logit_rows;
  for (Slot& slot : slots_) {
    BIFOCAL_ASSIGN_OR_RETURN(slot.staging, cuda::PinnedMemory::allocate(bytes));
    BIFOCAL_ASSIGN_OR_RETURN(slot.arrays, cuda::DeviceMemory::allocate(bytes));
    slot.tokens = {tokens_before, tokens};
    std::swap(tokens_before, tokens);
    BIFOCAL_ASSIGN_OR_RETURN(slot.host_tokens,
                             cuda::PinnedMemory::allocate(max_logit_rows * sizeof(int32_t)));
    BIFOCAL_ASSIGN_OR_RETURN(slot.span, cuda::DeviceMemory::allocate(span_bytes));
    BIFOCAL_ASSIGN_OR_RETURN(slot.host_span, cuda::PinnedMemory::allocate(span_bytes));
    for (cuda::Event* event : {&slot.sent, &slot.computed, &slot.done}) {
      BIFOCAL_ASSIGN_OR_RETURN(*event, cuda::make_event());
    }
  }
  decoder_ = std::make_unique<CudaDecoder>(spec_, weights, classes, cache_, *planner_, workspace_,
                                           std::move(linear));
  const int max_batch = std::min(options_.limits.max_seqs, options_.max_logit_rows);
  return capture_steps(cuda_graph_batches(graphs, max_batch));
}

Status CudaExecutor::capture_steps(const std::vector<int>& batches) {
  if (batches.empty()) return {};
  BIFOCAL_ASSIGN_OR_RETURN(const cuda::DeviceMemoryInfo before, cuda::device_memory_info());
  {
    Progress progress("Capturing decode steps", batches.size(), "graphs");
    for (const int batch : batches) {
      const CudaStepShape shape = decode_shape(batch, max_table_stride());
      // Once for real, on padding alone: kernels are loaded and algorithms chosen outside of the capture.
      BIFOCAL_RETURN_IF_ERROR(send({}, {}, shape, slots_.front()));
      BIFOCAL_RETURN_IF_ERROR(enqueue(shape, slots_.front()));
      BIFOCAL_RETURN_IF_ERROR(cuda::wait(stream_, "a decode step of padding"));
      CapturedStep& step = captured_.emplace_back();
      step.batch = batch;
      for (size_t i = 0; i < kMaxInFlight; ++i) {
        auto graph = cuda::capture(stream_, [&] { return enqueue(shape, slots_[i]); });
        if (!graph.ok()) {
          return graph.status().with_context(
              fmt::format("capturing decode steps of {} sequences (--disable-cuda-graph avoids it)", batch));
        }
        step.graphs[i] = *std::move(graph);
      }
      progress.advance(1);
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(const cuda::DeviceMemoryInfo after, cuda::device_memory_info());
  log_info("captured decode steps of 1 to {} sequences in {} graphs: {} of GPU memory, {} free",
           batches.back(), batches.size() * kMaxInFlight,
           format_bytes(before.free_bytes - std::min(before.free_bytes, after.free_bytes)),
           format_bytes(after.free_bytes));
  return {};
}

const CapturedStep* CudaExecutor::find_captured(const StepRows& rows,
                                                const attention::StepBatch& batch) const {
  const size_t num_seqs = batch.phases.size();
  if (rows.token_ids.size() != num_seqs || rows.logit_rows.size() != num_seqs) return nullptr;
  for (const Phase phase : batch.phases) {
    if (phase != Phase::decode) return nullptr;
  }
  const auto found = std::find_if(captured_.begin(), captured_.end(), [&](const CapturedStep& step) {
    return static_cast<size_t>(step.batch) >= num_seqs;
  });
  return found == captured_.end() ? nullptr : &*found;
}

Status CudaExecutor::check(const StepRows& rows) const {
  const uint64_t in_flight = num_submitted_ - num_collected_;
  if (in_flight == kMaxInFlight) return internal_error("a step more than may be in flight");
  const Slot* before = in_flight > 0 ? &slots_[(num_submitted_ - 1) % kMaxInFlight] : nullptr;
  if (before != nullptr && before->reads_logits) {
    return internal_error("a step behind one whose logits are still to be read");
  }
  BIFOCAL_RETURN_IF_ERROR(check_step(rows, spec_.vocab_size, options_.limits.max_tokens,
                                     int64_t{num_pages()} * page_size(), 0,
                                     before != nullptr ? before->num_logit_rows : 0));
  if (rows.logit_rows.size() <= static_cast<size_t>(options_.max_logit_rows)) return {};
  return internal_error(fmt::format("a step of {} logit rows, prepared for {}", rows.logit_rows.size(),
                                    options_.max_logit_rows));
}

Status CudaExecutor::submit(const StepRows& rows, const attention::StepBatch& batch) {
  BIFOCAL_RETURN_IF_ERROR(check(rows));
  const size_t turn = num_submitted_ % kMaxInFlight;
  Slot& slot = slots_[turn];
  if (const CapturedStep* captured = find_captured(rows, batch)) {
    BIFOCAL_RETURN_IF_ERROR(send(rows, batch, decode_shape(captured->batch, max_table_stride()), slot));
    BIFOCAL_RETURN_IF_ERROR(cuda::launch(captured->graphs[turn], stream_));
  } else {
    const CudaStepShape shape = shape_of(rows, batch);
    BIFOCAL_RETURN_IF_ERROR(send(rows, batch, shape, slot));
    BIFOCAL_RETURN_IF_ERROR(enqueue(shape, slot));
  }
  std::array<int, attention::kNumPhases> counted{};
  for (size_t i = 0; i < batch.phases.size(); ++i) {
    counted[static_cast<size_t>(batch.phases[i])] += batch.q_len[i];
  }
  planner_->count(counted);
  slot.num_logit_rows = static_cast<int>(rows.logit_rows.size());
  slot.reads_logits = rows.read_logits.empty() ? slot.num_logit_rows > 0
                                               : std::count(rows.read_logits.begin(), rows.read_logits.end(),
                                                            uint8_t{0}) < slot.num_logit_rows;
  BIFOCAL_RETURN_IF_ERROR(fetch(rows, slot));
  ++num_submitted_;
  return {};
}

Status CudaExecutor::collect() {
  if (num_collected_ == num_submitted_) return internal_error("no step is in flight");
  const Slot& slot = slots_[num_collected_ % kMaxInFlight];
  BIFOCAL_RETURN_IF_ERROR(cuda::wait(slot.done, "a step on the GPU"));
  ++num_collected_;
  if (!options_.time_idle) return {};
  const auto& span = *slot.host_span.as<cuda::DeviceSpan>();
  idle_before_ns_.reset();
  if (last_end_ns_) idle_before_ns_ = span.begin_ns - *last_end_ns_;
  last_end_ns_ = span.end_ns;
  return {};
}

Status CudaExecutor::send(const StepRows& rows, const attention::StepBatch& batch, const CudaStepShape& shape,
                          const Slot& slot) {
  const CudaStepLayout layout(shape);
  if (static_cast<size_t>(layout.num_bytes) > slot.staging.bytes()) {
    return internal_error(fmt::format("a step of {} rows and {} sequences takes {} bytes, prepared for {}",
                                      shape.num_rows, shape.total_seqs(), layout.num_bytes,
                                      slot.staging.bytes()));
  }
  write_step(rows, batch, shape, layout, slot.staging.as<std::byte>());
  BIFOCAL_RETURN_IF_ERROR(cuda::to_status(
      cudaMemcpyAsync(slot.arrays.as<void>(), slot.staging.as<void>(), static_cast<size_t>(layout.num_bytes),
                      cudaMemcpyHostToDevice, sending_.get()),
      "sending a step to the GPU"));
  BIFOCAL_RETURN_IF_ERROR(cuda::record(slot.sent, sending_));
  return cuda::wait_in_stream(stream_, slot.sent);
}

Status CudaExecutor::enqueue(const CudaStepShape& shape, const Slot& slot) {
  const auto* arrays = slot.arrays.as<std::byte>();
  if (!options_.time_idle) return decoder_->enqueue(shape, arrays, slot.tokens, stream_.get());
  auto* span = slot.span.as<cuda::DeviceSpan>();
  BIFOCAL_RETURN_IF_ERROR(cuda::stamp_time(&span->begin_ns, {stream_.get(), false, false}));
  BIFOCAL_RETURN_IF_ERROR(decoder_->enqueue(shape, arrays, slot.tokens, stream_.get()));
  return cuda::stamp_time(&span->end_ns, {stream_.get(), false, false});
}

Status CudaExecutor::fetch(const StepRows& rows, const Slot& slot) {
  BIFOCAL_RETURN_IF_ERROR(cuda::record(slot.computed, stream_));
  BIFOCAL_RETURN_IF_ERROR(cuda::wait_in_stream(fetching_, slot.computed));
  const auto copy = [&](void* to, const void* from, size_t bytes) {
    return cuda::to_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, fetching_.get()),
                           "fetching a step's results");
  };
  const size_t count = rows.logit_rows.size();
  BIFOCAL_RETURN_IF_ERROR(copy(slot.host_tokens.as<void>(), slot.tokens.chosen, count * sizeof(int32_t)));
  if (options_.time_idle) {
    BIFOCAL_RETURN_IF_ERROR(copy(slot.host_span.as<void>(), slot.span.as<void>(), slot.span.bytes()));
  }
  const auto wanted = [&](size_t row) { return rows.read_logits.empty() || rows.read_logits[row] != 0; };
  for (size_t begin = 0; begin < count;) {
    size_t end = begin;
    while (end < count && wanted(end)) ++end;
    if (end > begin) {
      const size_t offset = begin * vocab_size_;
      BIFOCAL_RETURN_IF_ERROR(copy(host_logits_.as<float>() + offset, workspace_.logits.as<float>() + offset,
                                   (end - begin) * vocab_size_ * sizeof(float)));
    }
    begin = end + 1;
  }
  return cuda::record(slot.done, fetching_);
}

Expected<cuda::Linear> make_linear(const ModelSpec& spec, const cuda::LinearTable& table,
                                   const ExecutorOptions& options) {
  cuda::LinearOptions linear_options;
  linear_options.deterministic = options.attention.deterministic;
  linear_options.table = table;
  BIFOCAL_ASSIGN_OR_RETURN(cuda::Linear linear, cuda::Linear::create(linear_options));
  if (const size_t choices = linear.table().choices.size(); choices > 0) {
    log_info("matrix products: {} measured choices", choices);
  }
  if (!linear_options.deterministic) return linear;
  const auto products = cuda_products(spec, options.limits.max_tokens, options.max_logit_rows);
  Progress progress("Checking the order of sums", products.size(), "products");
  for (const CudaProduct& product : products) {
    linear.prepare(product.product);
    progress.advance(1);
  }
  return linear;
}

}  // namespace

Expected<std::unique_ptr<Executor>> make_cuda_executor(const ModelSpec& spec, const CudaWeights& weights,
                                                       const AttentionClasses& classes,
                                                       const CudaGraphOptions& graphs,
                                                       const cuda::LinearTable& linear_table,
                                                       const ExecutorOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(const attention::Router router,
                           attention::Router::create(options.attention, classes.descs));
  for (size_t c = 0; c < router.num_classes(); ++c) {
    if (router.decide(c, Phase::prefill).backend == &attention::decode_mma_backend()) {
      log_warn(
          "prompts are served by decode_mma, row by row: slow where they are long; "
          "--prefill-attention-backend prefill_ws is made for them");
      break;
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(auto planner,
                           attention::CudaPlanner::create(router, classes.descs, options.limits));
  BIFOCAL_ASSIGN_OR_RETURN(CudaWorkspace workspace,
                           CudaWorkspace::allocate(spec, options.limits.max_tokens, options.max_logit_rows));
  // Before the cache takes its memory: what is prepared needs some for a while.
  BIFOCAL_ASSIGN_OR_RETURN(cuda::Linear linear, make_linear(spec, linear_table, options));
  BIFOCAL_ASSIGN_OR_RETURN(
      kv::CudaKvCache cache,
      kv::CudaKvCache::allocate(kv_layer_shapes(spec), classes.descs.front().page_size, options.num_pages));
  auto executor = std::make_unique<CudaExecutor>(spec, options, std::move(cache), std::move(planner),
                                                 std::move(workspace));
  BIFOCAL_RETURN_IF_ERROR(executor->open(weights, classes, graphs, std::move(linear)));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace bifocal::model
