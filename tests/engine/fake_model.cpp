#include "engine/fake_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/hash.h"
#include "kernels/cpu/elementwise.h"

namespace bifocal::engine {
namespace {

constexpr int kLayers = 2;
constexpr int kHeads = 2;
constexpr int kKvHeads = 1;
constexpr int kHeadDim = 8;
constexpr int kHidden = kHeads * kHeadDim;
constexpr int kKvWidth = kKvHeads * kHeadDim;

float noise(uint64_t a, uint64_t b) {
  return static_cast<float>(2 * unit_uniform(hash_combine(a, b)) - 1);
}

float embedding(int32_t token, int32_t position, int i) {
  return noise(static_cast<uint64_t>(token), static_cast<uint64_t>(i)) +
         0.3F * noise(1000 + static_cast<uint64_t>(position), static_cast<uint64_t>(i));
}

// One layer's query, key and value of a state; T is float or double.
template <class T>
T query(const T* state, int layer, int i) {
  return T(1.7) * state[(i + layer + 1) % kHidden];
}
template <class T>
T key(const T* state, int layer, int j) {
  return T(1.3) * state[(2 * j + layer) % kHidden];
}
template <class T>
T value(const T* state, int layer, int j) {
  return state[(j + 3 + layer) % kHidden] - state[(2 * j + 1) % kHidden];
}
template <class T>
T output_logit(const T* state, int32_t token) {
  T sum = 0;
  for (int i = 0; i < kHidden; ++i)
    sum +=
        state[i] * static_cast<T>(noise(77 + static_cast<uint64_t>(token), 500 + static_cast<uint64_t>(i)));
  return 3 * sum;
}

}  // namespace

FakeModel::FakeModel(DType kv_dtype, int page_size, std::shared_ptr<ThreadPool> pool, int max_positions,
                     std::array<int, 2> windows)
    : pool_(std::move(pool)) {
  spec_.family = "fake";
  spec_.vocab_size = kFakeVocab;
  spec_.hidden_size = kHidden;
  spec_.max_positions = max_positions;
  spec_.eos_token_ids = {kFakeEos};
  model::LayerSpec layer;
  layer.attention.num_heads = kHeads;
  layer.attention.num_kv_heads = kKvHeads;
  layer.attention.head_dim = kHeadDim;
  layer.attention.scale = 1.0F / std::sqrt(static_cast<float>(kHeadDim));
  for (const int window : windows) {
    layer.attention.window = window;
    spec_.layers.push_back(layer);
  }
  classes_ = model::attention_classes(spec_, kv_dtype, page_size);
}

Status FakeModel::prepare(int max_tokens, int max_logit_rows) {
  max_tokens_ = max_tokens;
  max_logit_rows_ = max_logit_rows;
  return {};
}

Status FakeModel::forward(const model::StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                          float* logits) {
  if (on_forward) BIFOCAL_RETURN_IF_ERROR(on_forward(rows));
  if (on_cache) on_cache(cache);
  const size_t num_rows = rows.token_ids.size();
  BIFOCAL_CHECK_LE(num_rows, static_cast<size_t>(max_tokens_));
  BIFOCAL_CHECK_LE(rows.logit_rows.size(), static_cast<size_t>(max_logit_rows_));
  std::vector<float> state(num_rows * kHidden);
  std::vector<float> q(num_rows * kHidden);
  std::vector<float> out(num_rows * kHidden);
  std::vector<float> k(num_rows * kKvWidth);
  std::vector<float> v(num_rows * kKvWidth);
  for (size_t t = 0; t < num_rows; ++t) {
    for (int i = 0; i < kHidden; ++i) {
      state[t * kHidden + static_cast<size_t>(i)] = embedding(rows.token_ids[t], rows.positions[t], i);
    }
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    for (size_t t = 0; t < num_rows; ++t) {
      const float* s = state.data() + t * kHidden;
      for (int i = 0; i < kHidden; ++i) q[t * kHidden + static_cast<size_t>(i)] = query(s, layer, i);
      for (int j = 0; j < kKvWidth; ++j) {
        k[t * kKvWidth + static_cast<size_t>(j)] = key(s, layer, j);
        v[t * kKvWidth + static_cast<size_t>(j)] = value(s, layer, j);
      }
    }
    const kernels::PagedKv kv = cache.layer(static_cast<size_t>(layer));
    kernels::cpu::write_kv(k.data(), kKvWidth, v.data(), kKvWidth,
                           rows.slots(cache.page_kind(static_cast<size_t>(layer))).data(),
                           static_cast<int64_t>(num_rows), kv, *pool_);
    attention::LayerInputs inputs;
    inputs.q = q.data();
    inputs.q_stride = kHidden;
    inputs.kv = kv;
    inputs.out = out.data();
    inputs.out_stride = kHidden;
    BIFOCAL_RETURN_IF_ERROR(planner.run(classes_.of_layer[static_cast<size_t>(layer)], inputs, *pool_));
    for (size_t i = 0; i < state.size(); ++i) state[i] = std::tanh(state[i] + out[i]);
  }
  for (size_t r = 0; r < rows.logit_rows.size(); ++r) {
    const auto row = static_cast<size_t>(rows.logit_rows[r]);
    const bool poisoned = is_poisoned && is_poisoned(rows.token_ids[row], rows.positions[row]);
    for (int32_t token = 0; token < kFakeVocab; ++token) {
      logits[r * kFakeVocab + static_cast<size_t>(token)] =
          poisoned ? std::numeric_limits<float>::quiet_NaN()
                   : output_logit(state.data() + row * kHidden, token);
    }
  }
  return {};
}

std::vector<double> FakeModel::reference_logits(const std::vector<int32_t>& tokens) const {
  const size_t n = tokens.size();
  std::vector<std::vector<double>> state(n, std::vector<double>(kHidden));
  for (size_t t = 0; t < n; ++t) {
    for (int i = 0; i < kHidden; ++i) {
      state[t][static_cast<size_t>(i)] =
          static_cast<double>(embedding(tokens[t], static_cast<int32_t>(t), i));
    }
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    auto next = state;
    const auto window = static_cast<size_t>(spec_.layers[static_cast<size_t>(layer)].attention.window);
    for (size_t t = 0; t < n; ++t) {
      const size_t first = window > 0 && t + 1 > window ? t + 1 - window : 0;
      for (int head = 0; head < kHeads; ++head) {
        std::vector<double> weight(t + 1);
        double total = 0;
        for (size_t s = first; s <= t; ++s) {
          double dot = 0;
          for (int d = 0; d < kHeadDim; ++d) {
            dot += query(state[t].data(), layer, head * kHeadDim + d) * key(state[s].data(), layer, d);
          }
          weight[s] = std::exp(dot / std::sqrt(static_cast<double>(kHeadDim)));
          total += weight[s];
        }
        for (int d = 0; d < kHeadDim; ++d) {
          double sum = 0;
          for (size_t s = first; s <= t; ++s) sum += weight[s] / total * value(state[s].data(), layer, d);
          const auto i = static_cast<size_t>(head * kHeadDim + d);
          next[t][i] = std::tanh(state[t][i] + sum);
        }
      }
    }
    state = std::move(next);
  }
  std::vector<double> logits(kFakeVocab);
  for (int32_t token = 0; token < kFakeVocab; ++token) {
    logits[static_cast<size_t>(token)] = output_logit(state.back().data(), token);
  }
  return logits;
}

FakeTokenizer::FakeTokenizer() {
  for (int i = 0; i < 60; ++i) bytes_.emplace_back(1, static_cast<char>('A' + i));
  bytes_.insert(bytes_.end(), {"\xC3", "\xA9", "<pad>", "<eos>"});
}

Expected<std::vector<text::TokenId>> FakeTokenizer::encode(std::string_view text,
                                                           const text::EncodeOptions&) const {
  std::vector<text::TokenId> ids;
  for (const char c : text) ids.push_back(c - 'A');
  return ids;
}

std::string FakeTokenizer::decode(std::span<const text::TokenId> ids, bool skip_special_tokens) const {
  std::string text;
  for (const text::TokenId id : ids) {
    if (!skip_special_tokens || !is_special(id)) text += token_bytes(id);
  }
  return text;
}

std::string_view FakeTokenizer::token_bytes(text::TokenId id) const {
  return id >= 0 && id < kFakeVocab ? std::string_view(bytes_[static_cast<size_t>(id)]) : std::string_view();
}

}  // namespace bifocal::engine
