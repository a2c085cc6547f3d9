#include "kernels/cuda/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/thread_pool.h"
#include "kernels/chosen_token.h"
#include "kernels/cuda/device_array.h"
#include "kernels/cuda/rope_case.h"
#include "weights/dummy.h"

namespace bifocal::kernels::cuda {
namespace {

void synchronise() {
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
}

// Row ids[i] of a table of 5 rows, or zeros for an expected id outside of it.
void expect_gathered(int dim, const std::vector<int32_t>& ids, const std::vector<int32_t>& chosen,
                     const std::vector<int32_t>& expected_ids) {
  const auto width = static_cast<size_t>(dim);
  const auto host = random_bf16(5 * width, 1);
  const DeviceMemory table = upload(host);
  const DeviceMemory device_ids = upload(ids);
  const DeviceMemory device_chosen = upload(chosen);
  const DeviceMemory out = poisoned<uint16_t>(ids.size() * width);
  GatherRows args;
  args.table = table.as<uint16_t>();
  args.table_rows = 5;
  args.dim = dim;
  args.ids = device_ids.as<int32_t>();
  args.chosen = chosen.empty() ? nullptr : device_chosen.as<int32_t>();
  args.num_rows = static_cast<int>(ids.size());
  args.out = out.as<uint16_t>();
  ASSERT_TRUE(gather_rows(args, {}).ok());
  synchronise();
  const auto actual = download<uint16_t>(out);
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool inside = expected_ids[i] >= 0 && expected_ids[i] < 5;
    for (size_t d = 0; d < width; ++d) {
      const uint16_t expected = inside ? host[static_cast<size_t>(expected_ids[i]) * width + d] : uint16_t{0};
      ASSERT_EQ(actual[i * width + d], expected) << "row " << i << ", dim " << d;
    }
  }
}

TEST(GatherRows, CopiesRowsAndZeroesWhatIsOutside) {
  REQUIRE_GPU();
  const std::vector<int32_t> ids = {4, 0, -1, 5, 2, 2};
  for (const int dim : {8, 264, 5120, 16384}) expect_gathered(dim, ids, {}, ids);
}

TEST(GatherRows, FollowsIdsThatStandForChosenTokens) {
  REQUIRE_GPU();
  const std::vector<int32_t> chosen = {4, -1, 3};  // an unsound row gave no token
  expect_gathered(64, {chosen_at(2), 1, -1, chosen_at(0), chosen_at(1)}, chosen, {3, 1, -1, 4, -1});
}

TEST(RmsNorm, AgreesWithDouble) {
  REQUIRE_GPU();
  for (const int dim : {8, 64, 1000, 4096, 5120, 8192, 8200, 16384}) {
    for (const bool add : {false, true}) {
      constexpr int kRows = 7;
      const auto width = static_cast<size_t>(dim);
      const auto residual = random_bf16(kRows * width, 2, 3.0);
      const auto x = random_bf16(kRows * width, 3);
      const auto w = random_bf16(width, 4, 2.0);
      const DeviceMemory device_residual = upload(residual);
      const DeviceMemory device_x = upload(x);
      const DeviceMemory device_w = upload(w);
      const DeviceMemory out = poisoned<uint16_t>(kRows * width);
      RmsNorm args;
      args.residual = device_residual.as<uint16_t>();
      args.x = add ? device_x.as<uint16_t>() : nullptr;
      args.w = device_w.as<uint16_t>();
      args.out = out.as<uint16_t>();
      args.eps = 1e-5F;
      args.num_rows = kRows;
      args.dim = dim;
      ASSERT_TRUE(rms_norm(args, {}).ok());
      synchronise();
      const auto actual = download<uint16_t>(out);
      const auto sums = download<uint16_t>(device_residual);
      for (size_t t = 0; t < kRows; ++t) {
        double square = 0.0;
        for (size_t d = 0; d < width; ++d) {
          const size_t i = t * width + d;
          ASSERT_TRUE(is_rounded(sums[i], bf16_value(residual[i]) + (add ? bf16_value(x[i]) : 0.0), 0.0));
          square += bf16_value(sums[i]) * bf16_value(sums[i]);
        }
        const double scale = 1.0 / std::sqrt(square / dim + 1e-5);
        for (size_t d = 0; d < width; ++d) {
          const size_t i = t * width + d;
          ASSERT_TRUE(is_rounded(actual[i], bf16_value(sums[i]) * scale * bf16_value(w[d])))
              << "dim " << dim << ", row " << t;
        }
      }
    }
  }
}

TEST(SiluMul, AgreesWithDouble) {
  REQUIRE_GPU();
  for (const int dim : {8, 96, 12288}) {
    constexpr int kRows = 5;
    const auto width = static_cast<size_t>(dim);
    const auto gate_up = random_bf16(kRows * 2 * width, 5, 20.0);
    const DeviceMemory device = upload(gate_up);
    const DeviceMemory out = poisoned<uint16_t>(kRows * width);
    SiluMul args;
    args.gate_up = device.as<uint16_t>();
    args.out = out.as<uint16_t>();
    args.num_rows = kRows;
    args.dim = dim;
    ASSERT_TRUE(silu_mul(args, {}).ok());
    synchronise();
    const auto actual = download<uint16_t>(out);
    for (size_t t = 0; t < kRows; ++t) {
      for (size_t i = 0; i < width; ++i) {
        const double gate = bf16_value(gate_up[t * 2 * width + i]);
        const double up = bf16_value(gate_up[(t * 2 + 1) * width + i]);
        ASSERT_TRUE(is_rounded(actual[t * width + i], gate / (1.0 + std::exp(-gate)) * up, 2e-5));
      }
    }
  }
}

std::vector<double> rotated_head(const RopeCase& c, std::vector<double> x, const std::vector<uint16_t>* norm,
                                 const std::vector<float>& inv_freq, int position, double factor) {
  if (norm != nullptr) {
    double square = 0.0;
    for (const double v : x) square += v * v;
    const double scale = 1.0 / std::sqrt(square / c.head_dim + 1e-6);
    for (size_t d = 0; d < x.size(); ++d) x[d] *= scale * bf16_value((*norm)[d]);
  }
  const auto pairs = static_cast<size_t>(c.rotary_dim / 2);
  for (size_t j = 0; j < pairs; ++j) {
    const double angle = static_cast<double>(position) * static_cast<double>(inv_freq[j]);
    double& a = x[c.interleaved ? 2 * j : j];
    double& b = x[c.interleaved ? 2 * j + 1 : j + pairs];
    const double first = a * std::cos(angle) * factor - b * std::sin(angle) * factor;
    b = b * std::cos(angle) * factor + a * std::sin(angle) * factor;
    a = first;
  }
  return x;
}

TEST(RopeKv, AgreesWithDouble) {
  REQUIRE_GPU();
  const std::vector<RopeCase> cases = {
      {64, 8, 128, 128, false, false, true}, {5, 1, 128, 64, false, true, false},
      {3, 3, 64, 64, true, true, true},      {8, 2, 256, 256, false, false, true},
      {2, 1, 64, 16, true, false, false},    {4, 2, 128, 0, false, false, false}};
  const std::vector<int32_t> positions = {0, 1, 77, 40959, 131071, 3};
  const std::vector<int64_t> slots = {130, 0, 255, -1, 64, 63};
  constexpr int kPage = 64;
  constexpr size_t kPages = 4;
  for (const RopeCase& c : cases) {
    const auto dim = static_cast<size_t>(c.head_dim);
    const auto heads = static_cast<size_t>(c.num_heads);
    const auto kv_heads = static_cast<size_t>(c.num_kv_heads);
    const size_t all = heads + 2 * kv_heads;
    const auto qkv = random_bf16(positions.size() * all * dim, 6, 2.0);
    const auto bias = random_bf16(all * dim, 7);
    const auto q_norm = random_bf16(dim, 8, 2.0);
    const auto k_norm = random_bf16(dim, 9, 2.0);
    std::vector<float> inv_freq(static_cast<size_t>(c.rotary_dim / 2));
    for (size_t j = 0; j < inv_freq.size(); ++j) {
      inv_freq[j] = static_cast<float>(std::pow(1e6, -2.0 * static_cast<double>(j) / c.rotary_dim));
    }
    const DeviceMemory d_qkv = upload(qkv), d_bias = upload(bias), d_q_norm = upload(q_norm),
                       d_k_norm = upload(k_norm), d_inv_freq = upload(inv_freq),
                       d_positions = upload(positions), d_slots = upload(slots),
                       q = poisoned<uint16_t>(positions.size() * heads * dim),
                       k = poisoned<uint16_t>(kPages * kPage * kv_heads * dim),
                       v = poisoned<uint16_t>(kPages * kPage * kv_heads * dim);
    constexpr float kFactor = 1.25F;
    RopeKv args;
    args.qkv = d_qkv.as<uint16_t>();
    args.bias = c.bias ? d_bias.as<uint16_t>() : nullptr;
    args.q_norm = c.norm ? d_q_norm.as<uint16_t>() : nullptr;
    args.k_norm = c.norm ? d_k_norm.as<uint16_t>() : nullptr;
    args.norm_eps = 1e-6F;
    args.inv_freq = d_inv_freq.as<float>();
    args.rotary_dim = c.rotary_dim;
    args.interleaved = c.interleaved;
    args.attention_factor = kFactor;
    args.positions = d_positions.as<int32_t>();
    args.kv_slots = d_slots.as<int64_t>();
    args.num_tokens = static_cast<int>(positions.size());
    args.num_heads = c.num_heads;
    args.num_kv_heads = c.num_kv_heads;
    args.head_dim = c.head_dim;
    args.page_size = kPage;
    args.q = q.as<uint16_t>();
    args.k = k.as<uint16_t>();
    args.v = v.as<uint16_t>();
    ASSERT_TRUE(rope_kv(args, {}).ok());
    synchronise();
    const auto q_out = download<uint16_t>(q);
    const auto k_out = download<uint16_t>(k);
    const auto v_out = download<uint16_t>(v);
    std::vector<bool> written(k_out.size(), false);
    for (size_t t = 0; t < positions.size(); ++t) {
      for (size_t h = 0; h < all; ++h) {
        std::vector<double> x(dim);
        for (size_t d = 0; d < dim; ++d) {
          x[d] = bf16_value(qkv[(t * all + h) * dim + d]) + (c.bias ? bf16_value(bias[h * dim + d]) : 0.0);
        }
        const bool is_q = h < heads;
        const bool is_v = h >= heads + kv_heads;
        if (!is_v) {
          x = rotated_head(c, x, c.norm ? (is_q ? &q_norm : &k_norm) : nullptr, inv_freq, positions[t],
                           static_cast<double>(kFactor));
        }
        if (!is_q && slots[t] < 0) continue;
        const auto slot = static_cast<size_t>(is_q ? 0 : slots[t]);
        const size_t at =
            is_q ? (t * heads + h) * dim
                 : ((slot / kPage * kv_heads + (h - heads) % kv_heads) * kPage + slot % kPage) * dim;
        const auto& out = is_q ? q_out : is_v ? v_out : k_out;
        for (size_t d = 0; d < dim; ++d) {
          ASSERT_TRUE(is_rounded(out[at + d], x[d], 2e-5))
              << "token " << t << ", head " << h << " of " << all << ", dim " << d << " of " << dim;
          if (!is_q) written[at + d] = true;
        }
      }
    }
    for (size_t i = 0; i < written.size(); ++i) {
      ASSERT_EQ(written[i], k_out[i] != 0xFFFF) << "element " << i;
      ASSERT_EQ(written[i], v_out[i] != 0xFFFF) << "element " << i;
    }
  }
}

TEST(RandomFill, GivesTheDummyWeightsOfTheCpu) {
  REQUIRE_GPU();
  ThreadPool pool(1);
  for (const DType dtype : {DType::bf16, DType::f32}) {
    weights::DummyWeights dummy(42, dtype, pool);
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{7, 5}, {3, 1}, {100, 4096}, {1, 3}}) {
      Tensor staging;
      const auto view = dummy.read("model.layers.3.mlp.up_proj.weight", shape, staging);
      ASSERT_TRUE(view.ok());
      const auto pattern =
          weights::dummy_matrix_pattern(42, "model.layers.3.mlp.up_proj.weight", dtype, shape.back());
      const DeviceMemory out = poisoned<uint8_t>(view->num_bytes() + 8);
      RandomFill args;
      args.data = out.as<void>();
      args.num_bytes = static_cast<int64_t>(view->num_bytes());
      args.key = pattern.key;
      args.random_mask = pattern.random_mask;
      args.constant = pattern.constant;
      ASSERT_TRUE(random_fill(args, {}).ok());
      synchronise();
      const auto actual = download<uint8_t>(out);
      const auto* expected = static_cast<const uint8_t*>(view->data);
      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_EQ(actual[i], i < view->num_bytes() ? expected[i] : 0xFF) << "byte " << i;
      }
    }
  }
}

TEST(Elementwise, RefusesShapesItDoesNotServe) {
  RmsNorm norm;
  norm.num_rows = 1;
  norm.dim = 12;
  EXPECT_FALSE(rms_norm(norm, {}).ok());
  norm.dim = 16392;
  EXPECT_FALSE(rms_norm(norm, {}).ok());
  RopeKv rope;
  rope.num_tokens = 1;
  rope.head_dim = 96;
  EXPECT_FALSE(rope_kv(rope, {}).ok());
  rope.head_dim = 128;
  rope.rotary_dim = 130;
  EXPECT_FALSE(rope_kv(rope, {}).ok());
  RandomFill fill;
  fill.num_bytes = 3;
  EXPECT_FALSE(random_fill(fill, {}).ok());
}

}  // namespace
}  // namespace bifocal::kernels::cuda
