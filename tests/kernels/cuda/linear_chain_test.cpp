// A layer's products as one kernel beside the same products one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/device_array.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_chain.h"

namespace bifocal::kernels::cuda {
namespace {

struct Widths {
  int hidden;
  int q;
  int qkv;
  int inner;
};

size_t count(int rows, int columns) {
  return static_cast<size_t>(rows) * static_cast<size_t>(columns);
}

// What the products between two attentions of a layer leave.
struct Results {
  std::vector<uint16_t> residual, inner, qkv;
  bool operator==(const Results&) const = default;
};

// Weights and inputs of a layer for up to eight rows.
class Layer {
 public:
  Layer(const Widths& widths, bool bias)
      : widths_(widths),
        attn_(upload(random_bf16(count(kChainMaxM, widths.q), 1))),
        residual_(random_bf16(count(kChainMaxM, widths.hidden), 2, 4.0)),
        output_(matrix(widths.hidden, widths.q, 3)),
        gate_up_(matrix(2 * widths.inner, widths.hidden, 4)),
        down_(matrix(widths.hidden, widths.inner, 5)),
        project_(matrix(widths.qkv, widths.hidden, 6)),
        mlp_norm_(upload(random_bf16(count(1, widths.hidden), 7, 2.0))),
        attention_norm_(upload(random_bf16(count(1, widths.hidden), 8, 2.0))),
        biases_(upload(random_bf16(count(2, std::max(widths.hidden, widths.inner)), 9))),
        bias_(bias ? biases_.as<uint16_t>() : nullptr),
        workspace_(zeros(skinny_chain_workspace_bytes(num_sms()))) {}

  static DeviceMemory zeros(int64_t bytes) {
    return upload(std::vector<uint8_t>(static_cast<size_t>(bytes), 0));
  }

  // Fresh inputs, NaN where results belong.
  void reset(int m) {
    rows_ = {upload(std::vector<uint16_t>(residual_.begin(),
                                          residual_.begin() + std::ptrdiff_t{m} * widths_.hidden)),
             poisoned<uint16_t>(count(m, widths_.hidden)), poisoned<uint16_t>(count(m, widths_.inner)),
             poisoned<uint16_t>(count(m, widths_.qkv))};
  }

  // num_links: 4, or 3 as in a model's last layer.
  LinearChain chain(int m, int num_links = 4) const {
    LinearChain chain;
    chain.m = m;
    chain.norm_eps = 1e-5F;
    LinearLink& output = chain.add();
    output.x = attn_.as<uint16_t>();
    output.w = output_.as<uint16_t>();
    output.n = widths_.hidden;
    output.k = widths_.q;
    output.bias = bias_;
    output.residual = rows_.residual.as<uint16_t>();
    output.out = rows_.residual.as<uint16_t>();
    output.norm = mlp_norm_.as<uint16_t>();
    output.normed = rows_.normed.as<uint16_t>();
    LinearLink& gated = chain.add();
    gated.x = output.normed;
    gated.w = gate_up_.as<uint16_t>();
    gated.n = widths_.inner;
    gated.k = widths_.hidden;
    gated.gated = true;
    gated.bias = bias_;
    gated.out = rows_.inner.as<uint16_t>();
    LinearLink& down = chain.add();
    down = output;
    down.x = gated.out;
    down.w = down_.as<uint16_t>();
    down.k = widths_.inner;
    down.norm = nullptr;
    if (num_links == 3) return chain;
    down.norm = attention_norm_.as<uint16_t>();
    LinearLink& project = chain.add();
    project.x = down.normed;
    project.w = project_.as<uint16_t>();
    project.n = widths_.qkv;
    project.k = widths_.hidden;
    project.out = rows_.qkv.as<uint16_t>();
    return chain;
  }

  Status launch(int m, const LaunchOptions& options, int num_links = 4) const {
    return run_skinny_chain(chain(m, num_links), workspace_.as<void>(), num_sms(), options);
  }

  Results results() const {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return {download<uint16_t>(rows_.residual), download<uint16_t>(rows_.inner),
            download<uint16_t>(rows_.qkv)};
  }

  Results run(int m) {
    reset(m);
    const Status status = launch(m, {});
    EXPECT_TRUE(status.ok()) << status.message();
    return results();
  }

  // Each product a kernel of its own, norms between them.
  Results run_apart(Linear& link_by_link, int m) {
    reset(m);
    const Status status = link_by_link.run_chain(chain(m), {});
    EXPECT_TRUE(status.ok()) << status.message();
    return results();
  }

 private:
  static int num_sms() { return current_device()->num_sms; }
  static DeviceMemory matrix(int n, int k, uint64_t seed) {
    return upload(random_bf16(count(n, k), seed, 1.7 / std::sqrt(static_cast<double>(k))));
  }

  struct Rows {
    DeviceMemory residual, normed, inner, qkv;
  };

  Widths widths_;
  DeviceMemory attn_;
  std::vector<uint16_t> residual_;
  DeviceMemory output_, gate_up_, down_, project_, mlp_norm_, attention_norm_, biases_;
  const uint16_t* bias_;
  DeviceMemory workspace_;
  Rows rows_;
};

// Each side rounds x of a product once, at different places: differences of sums of K such terms, and of the
// gate's product of two.
void expect_close(const std::vector<uint16_t>& actual, const std::vector<uint16_t>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  double squares = 0.0;
  for (const uint16_t bits : expected) squares += bf16_value(bits) * bf16_value(bits);
  const double scale = std::sqrt(squares / static_cast<double>(expected.size()));
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(bf16_value(actual[i]) - bf16_value(expected[i]));
    ASSERT_LE(error, 0.04 * scale + std::abs(bf16_value(expected[i])) * 0x1p-5) << "element " << i;
  }
}

const std::vector<Widths> kWidths = {{1024, 2048, 4096, 3072},
                                     {4096, 4096, 6144, 12288},
                                     {64, 128, 192, 128},
                                     {320, 64, 1344, 1088},
                                     {640, 2624, 1352, 4672}};

TEST(LinearChain, AgreesWithItsProductsOneByOne) {
  REQUIRE_GPU();
  LinearOptions options;
  options.chains = false;
  auto link_by_link = Linear::create(options);
  if (link_by_link.status().code() == StatusCode::unavailable) {
    GTEST_SKIP() << link_by_link.status().message();
  }
  ASSERT_TRUE(link_by_link.ok()) << link_by_link.status().message();
  for (const Widths& widths : kWidths) {
    for (const bool bias : {false, true}) {
      Layer layer(widths, bias);
      for (const int m : {1, 3, 8}) {
        SCOPED_TRACE(testing::Message() << m << " rows of " << widths.hidden << ", bias " << bias);
        const Results together = layer.run(m);
        const Results apart = layer.run_apart(*link_by_link, m);
        ASSERT_NO_FATAL_FAILURE(expect_close(together.residual, apart.residual));
        ASSERT_NO_FATAL_FAILURE(expect_close(together.inner, apart.inner));
        ASSERT_NO_FATAL_FAILURE(expect_close(together.qkv, apart.qkv));
      }
    }
  }
}

TEST(LinearChain, LinksWithoutANormHaveTheBitsOfProductsAlone) {
  REQUIRE_GPU();
  const int m = 7;
  Layer layer({1024, 2048, 4096, 3072}, true);
  const auto unnormed = [&] {
    LinearChain chain = layer.chain(m, 3);
    chain.links[0].norm = nullptr;
    chain.links[1].x = chain.links[0].out;
    return chain;
  };
  const DeviceMemory workspace = Layer::zeros(skinny_chain_workspace_bytes(current_device()->num_sms));
  const auto run = [&](bool together) {
    layer.reset(m);
    const LinearChain whole = unnormed();
    std::vector<LinearChain> chains(1, whole);
    if (!together) {
      chains.clear();
      for (const LinearLink& link : whole.view()) {
        LinearChain& one = chains.emplace_back();
        one.m = m;
        one.add() = link;
      }
    }
    for (const LinearChain& chain : chains) {
      EXPECT_TRUE(run_skinny_chain(chain, workspace.as<void>(), current_device()->num_sms, {}).ok());
    }
    return layer.results();
  };
  const Results together = run(true);
  const Results apart = run(false);
  EXPECT_EQ(together.residual, apart.residual);
  EXPECT_EQ(together.inner, apart.inner);
}

TEST(LinearChain, ARowHasTheSameBitsWhateverStandsBesideIt) {
  REQUIRE_GPU();
  const Widths widths{1024, 2048, 4096, 3072};
  Layer layer(widths, false);
  const Results all = layer.run(kChainMaxM);
  const auto first = [](const std::vector<uint16_t>& rows, int m, int columns) {
    return std::vector<uint16_t>(rows.begin(), rows.begin() + std::ptrdiff_t{m} * columns);
  };
  for (const int m : {1, 2, 5, 7}) {
    SCOPED_TRACE(std::to_string(m) + " rows");
    const Results some = layer.run(m);
    ASSERT_EQ(some.residual, first(all.residual, m, widths.hidden));
    ASSERT_EQ(some.inner, first(all.inner, m, widths.inner));
    ASSERT_EQ(some.qkv, first(all.qkv, m, widths.qkv));
  }
}

// Chains behind one another share counters, sums of squares and parts, and each starts while the one before
// ends.
TEST(LinearChain, HundredInARowGiveTheSameBits) {
  REQUIRE_GPU();
  Layer layer({4096, 4096, 6144, 12288}, false);
  LaunchOptions options;
  ASSERT_EQ(cudaStreamCreate(&options.stream), cudaSuccess);
  const int m = 4;
  const auto run = [&](bool programmatic) {
    options.programmatic = programmatic;
    layer.reset(m);
    for (int i = 0; i < 100; ++i) {
      EXPECT_TRUE(layer.launch(m, options, i % 5 == 0 ? 3 : 4).ok());
      if (!programmatic) {
        EXPECT_EQ(cudaStreamSynchronize(options.stream), cudaSuccess);
      }
    }
    return layer.results();
  };
  const Results expected = run(false);
  for (int repeat = 0; repeat < 3; ++repeat) ASSERT_TRUE(run(true) == expected) << "repeat " << repeat;
  cudaStreamDestroy(options.stream);
}

TEST(LinearChain, RefusesWhatItDoesNotServe) {
  LinearChain chain;
  chain.m = 1;
  EXPECT_FALSE(skinny_chain_serves(chain));
  const uint16_t weights = 0;
  uint16_t rows = 0;
  LinearLink& first = chain.add();
  first.n = 128;
  first.k = 64;
  first.norm = &weights;
  first.normed = &rows;
  EXPECT_FALSE(skinny_chain_serves(chain)) << "a norm behind the last link";
  LinearLink& second = chain.add();
  second.x = &rows;
  second.n = 64;
  second.k = 128;
  EXPECT_TRUE(skinny_chain_serves(chain));
  second.k = 192;
  EXPECT_FALSE(skinny_chain_serves(chain)) << "rows of another width";
  second.k = 128;
  second.x = nullptr;
  EXPECT_FALSE(skinny_chain_serves(chain)) << "the second link doesn't read the norm's rows";
  second.x = &rows;
  chain.m = kChainMaxM + 1;
  EXPECT_FALSE(skinny_chain_serves(chain));
  EXPECT_FALSE(run_skinny_chain(chain, nullptr, 132, {}).ok());
  chain.m = 1;
  first.gated = true;
  EXPECT_FALSE(skinny_chain_serves(chain)) << "a norm behind a gate";
}

}  // namespace
}  // namespace bifocal::kernels::cuda
