#include "attention/router.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention/aliases.h"
#include "attention/report.h"

namespace bifocal::attention {
namespace {

AttentionDesc desc_with_dim(int head_dim) {
  AttentionDesc desc;
  desc.num_heads = 8;
  desc.num_kv_heads = 2;
  desc.head_dim_k = desc.head_dim_v = head_dim;
  desc.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  return desc;
}

struct Choice {
  std::string prefill, decode, verify;
  friend bool operator==(const Choice&, const Choice&) = default;
};

std::ostream& operator<<(std::ostream& out, const Choice& c) {
  return out << c.prefill << " " << c.decode << " " << c.verify;
}

using Flag = std::optional<std::string>;

// What the flags make of one class; the error's text in `prefill` when they are refused.
Choice choose(const std::string& general, Flag prefill = {}, Flag decode = {}, Flag verify = {},
              int head_dim = 64) {
  RouterOptions options;
  options.backend = general;
  options.per_phase = {prefill, decode, verify};
  options.deterministic = true;
  const AttentionDesc desc = desc_with_dim(head_dim);
  const auto router = Router::create(options, {&desc, 1});
  if (!router.ok()) {
    EXPECT_EQ(router.status().code(), StatusCode::invalid_argument);
    return {router.status().message(), "", ""};
  }
  const auto name = [&](Phase phase) { return std::string(router->decide(0, phase).backend->name()); };
  return {name(Phase::prefill), name(Phase::decode), name(Phase::verify)};
}

TEST(Router, BuiltInRuleIsAHybrid) {
  EXPECT_EQ(choose("auto"), (Choice{"tiled", "streaming", "streaming"}));
}

TEST(Router, GeneralFlagServesEveryPhase) {
  EXPECT_EQ(choose("reference"), (Choice{"reference", "reference", "reference"}));
  EXPECT_EQ(choose("tiled"), (Choice{"tiled", "tiled", "tiled"}));
}

TEST(Router, PairInTheGeneralFlag) {
  EXPECT_EQ(choose("streaming,reference"), (Choice{"streaming", "reference", "reference"}));
  EXPECT_EQ(choose("fa3,flashinfer"), (Choice{"tiled", "streaming", "streaming"}));
  EXPECT_EQ(choose("auto,tiled"), (Choice{"tiled", "tiled", "tiled"}));
  for (const char* text : {"tiled,", ",tiled", "tiled,tiled,tiled", ","}) {
    EXPECT_NE(choose(text).prefill.find("is not a pair"), std::string::npos) << text;
  }
}

TEST(Router, PhaseFlagsWin) {
  EXPECT_EQ(choose("reference", "tiled"), (Choice{"tiled", "reference", "reference"}));
  EXPECT_EQ(choose("reference", {}, "streaming"), (Choice{"reference", "streaming", "streaming"}));
  EXPECT_EQ(choose("tiled,tiled", "streaming", "reference", "tiled"),
            (Choice{"streaming", "reference", "tiled"}));
  EXPECT_EQ(choose("reference", "auto", "auto"), (Choice{"tiled", "streaming", "streaming"}));
}

TEST(Router, EqualFlagsMeanThatBackend) {
  EXPECT_EQ(choose("auto", "streaming", "streaming"), (Choice{"streaming", "streaming", "streaming"}));
}

TEST(Router, VerifyFollowsDecode) {
  EXPECT_EQ(choose("auto", {}, "reference"), (Choice{"tiled", "reference", "reference"}));
  EXPECT_EQ(choose("auto", {}, "reference", "tiled"), (Choice{"tiled", "reference", "tiled"}));
}

TEST(Router, UnknownNameListsTheKnownOnes) {
  EXPECT_EQ(choose("auto", {}, "fastest").prefill,
            "--decode-attention-backend: attention backend \"fastest\" is unknown; use auto or one of " +
                describe_backend_names());
  for (const char* name :
       {"tiled", "streaming", "reference", "fa3", "flashinfer", "triton", "torch_native"}) {
    EXPECT_NE(describe_backend_names().find(name), std::string::npos) << name;
  }
  EXPECT_NE(choose("").prefill.find("is unknown"), std::string::npos);
}

TEST(Router, IneligibleNameSaysWhyAndWhatIsEligible) {
  EXPECT_EQ(choose("auto", "fa3", {}, {}, 20).prefill,
            "--prefill-attention-backend fa3 (served by tiled) can't serve prefill of "
            "gqa_h8_kv2_d20_f32_p16: tiled: "
            "head dims 20/20: takes only multiples of 8; eligible: reference");
  // Both halves of a pair share one KV pool: the error names the half that objects.
  EXPECT_NE(choose("reference,streaming", {}, {}, {}, 20)
                .prefill.find("--attention-backend streaming can't serve decode"),
            std::string::npos);
}

TEST(Router, AutoFallsBackToWhatIsEligible) {
  const AttentionDesc desc = desc_with_dim(20);
  const auto router = Router::create({}, {&desc, 1});
  ASSERT_TRUE(router.ok()) << router.status().message();
  const Decision& decision = router->decide(0, Phase::decode);
  EXPECT_EQ(decision.backend->name(), "reference");
  EXPECT_EQ(decision.reason, "built-in rule: streaming is not eligible");
  EXPECT_EQ(decision.rejected.size(), cpu_backends().size() - 1);
}

TEST(Router, NothingForCudaYet) {
  RouterOptions options;
  options.device = DeviceKind::cuda;
  const AttentionDesc desc = desc_with_dim(64);
  const auto router = Router::create(options, {&desc, 1});
  ASSERT_FALSE(router.ok());
  EXPECT_NE(router.status().message().find("runs on cpu, not on cuda"), std::string::npos);
}

TEST(Router, RefusesNonsenseClasses) {
  AttentionDesc desc = desc_with_dim(64);
  desc.num_kv_heads = 3;
  EXPECT_EQ(Router::create({}, {&desc, 1}).status().code(), StatusCode::invalid_argument);
}

TEST(Aliases, ResolveToOurBackends) {
  for (const Alias& alias : backend_aliases()) {
    const Backend* backend = find_backend(alias.name);
    ASSERT_NE(backend, nullptr) << alias.name;
    EXPECT_EQ(backend->name(), alias.backend);
  }
  EXPECT_EQ(find_backend("nope"), nullptr);
  EXPECT_EQ(find_backend(""), nullptr);
}

TEST(Report, MatrixHasARowPerBackend) {
  const auto rows = capability_matrix();
  ASSERT_EQ(rows.size(), cpu_backends().size() + 1);
  EXPECT_EQ(rows[0][0], "backend");
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].size(), rows[0].size());
    EXPECT_EQ(rows[i][0], cpu_backends()[i - 1]->name());
    for (const auto& cell : rows[i]) EXPECT_FALSE(cell.empty());
  }
}

TEST(Report, ExplainHasARowPerClassAndPhase) {
  const AttentionDesc classes[] = {desc_with_dim(64), desc_with_dim(20)};
  RouterOptions options;
  options.per_phase[static_cast<size_t>(Phase::prefill)] = "torch_native";
  const auto router = Router::create(options, classes);
  ASSERT_TRUE(router.ok());
  const auto rows = explain(*router, classes);
  ASSERT_EQ(rows.size(), 6U);
  EXPECT_EQ(to_string(rows[0]),
            "attention gqa_h8_kv2_d64_f32_p16 prefill: reference (--prefill-attention-backend torch_native "
            "(served by "
            "reference))");
  EXPECT_EQ(to_string(rows[1]),
            "attention gqa_h8_kv2_d64_f32_p16 decode: streaming (built-in rule: few query rows per key)");
  EXPECT_EQ(rows[4].backend, "reference");
  EXPECT_NE(rows[4].rejected.find("streaming: head dims 20/20"), std::string::npos);
}

}  // namespace
}  // namespace bifocal::attention
