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
            "--decode-attention-backend: attention backend \"fastest\" is "
            "unknown; eligible for decode of "
            "gqa_h8_kv2_d64_f32_p16: auto, " +
                describe_backend_names(cpu_backends()));
  for (const char* name :
       {"tiled", "streaming", "unified", "reference", "fa3", "flashinfer", "triton", "torch_native"}) {
    EXPECT_NE(describe_backend_names(cpu_backends()).find(name), std::string::npos) << name;
  }
  EXPECT_NE(choose("").prefill.find("is unknown"), std::string::npos);
}

TEST(Router, IneligibleNameSaysWhyAndWhatIsEligible) {
  EXPECT_EQ(choose("auto", "fa3", {}, {}, 20).prefill,
            "--prefill-attention-backend fa3 (served by tiled) can't serve "
            "prefill of "
            "gqa_h8_kv2_d20_f32_p16: "
            "head dims 20/20: takes only multiples of 8; eligible: reference "
            "(also torch_native, "
            "flex_attention)");
  // Both halves of a pair share one KV pool: the error names the half that objects.
  EXPECT_NE(choose("reference,streaming", {}, {}, {}, 20)
                .prefill.find("--attention-backend streaming can't serve decode"),
            std::string::npos);
}

// A backend that takes only some pools; it never runs.
class PickyBackend final : public Backend {
 public:
  PickyBackend(std::string_view name, int min_page_size, std::vector<DType> kv_dtypes) {
    capabilities_.name = name;
    capabilities_.phases = {Phase::prefill, Phase::decode, Phase::verify};
    capabilities_.kv_dtypes = std::move(kv_dtypes);
    capabilities_.min_page_size = min_page_size;
    capabilities_.deterministic = true;
  }
  const Capabilities& capabilities() const override { return capabilities_; }
  Expected<PlanBuffers> make_buffers(const AttentionDesc&, const PlanLimits&) const override {
    return internal_error("never runs");
  }
  Plan plan(const AttentionDesc&, const AttentionBatch&, PlanBuffers&) const override { return {}; }
  Status run(const Plan&, const AttentionDesc&, uint64_t, const LayerInputs&, ThreadPool&) const override {
    return internal_error("never runs");
  }

 private:
  Capabilities capabilities_;
};

TEST(Router, PairSharesOnePool) {
  const PickyBackend easy("easy", 1, {DType::f32, DType::bf16});
  const PickyBackend paged("paged", 64, {DType::f32, DType::bf16});
  const PickyBackend narrow("narrow", 1, {DType::bf16});
  const Backend* const backends[] = {&easy, &paged, &narrow};
  const AttentionDesc desc = desc_with_dim(64);
  const auto error = [&](const std::string& pair) {
    RouterOptions options;
    options.backend = pair;
    options.backends = backends;
    const auto router = Router::create(options, {&desc, 1});
    EXPECT_FALSE(router.ok());
    return router.ok() ? std::string() : std::string(router.status().message());
  };
  EXPECT_EQ(error("easy,paged"),
            "--attention-backend paged can't serve decode of "
            "gqa_h8_kv2_d64_f32_p16: page size 16: takes only "
            "64 to 256; prefill and decode share one KV pool, and easy, asked "
            "for prefill, does not object; "
            "eligible: easy");
  EXPECT_EQ(error("narrow,easy"),
            "--attention-backend narrow can't serve prefill of "
            "gqa_h8_kv2_d64_f32_p16: KV dtype f32: takes "
            "only bf16; prefill and decode share one KV pool, and easy, asked "
            "for decode, does not object; "
            "eligible: easy");
  EXPECT_NE(error("narrow,paged").find("paged, asked for decode, objects too: page size 16"),
            std::string::npos);
  EXPECT_EQ(error("paged").find("share one KV pool"), std::string::npos);
}

TEST(Router, ProfileHasItsSayBetweenFlagsAndRule) {
  const AttentionDesc classes[] = {desc_with_dim(64), desc_with_dim(20)};
  RouterOptions options;
  options.profile = {{to_string(classes[0]), Phase::decode, "tiled", "12 us, streaming 20 us"},
                     {to_string(classes[0]), Phase::prefill, "triton", "7 us"},
                     {to_string(classes[1]), Phase::decode, "tiled", "not eligible here"},
                     {"gqa_h1_kv1_d8_f32_p16", Phase::verify, "reference", "another class"}};
  options.per_phase[static_cast<size_t>(Phase::prefill)] = "streaming";
  const auto router = Router::create(options, classes);
  ASSERT_FALSE(router.ok());  // head dim 20 is not for streaming
  options.per_phase[static_cast<size_t>(Phase::prefill)] = "reference";
  const auto hybrid = Router::create(options, classes);
  ASSERT_TRUE(hybrid.ok()) << hybrid.status().message();
  const auto expect = [&](size_t c, Phase phase, std::string_view name, Say say) {
    EXPECT_EQ(hybrid->decide(c, phase).backend->name(), name);
    EXPECT_EQ(hybrid->decide(c, phase).say, say);
  };
  expect(0, Phase::prefill, "reference", Say::phase_flag);
  expect(0, Phase::decode, "tiled", Say::profile);
  expect(0, Phase::verify, "streaming", Say::built_in_rule);
  expect(1, Phase::decode, "reference", Say::built_in_rule);
  EXPECT_EQ(hybrid->decide(0, Phase::decode).reason, "profile: 12 us, streaming 20 us");
  options.per_phase = {};
  options.backend = "auto,reference";
  const auto pair = Router::create(options, {classes, 1});
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(pair->decide(0, Phase::prefill).backend->name(),
            "unified");  // what triton stands for
  EXPECT_EQ(pair->decide(0, Phase::decode).say, Say::general_flag);
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

// What a GPU's router makes of a class; the error's text in `prefill` when it refuses.
Choice choose_on_gpu(AttentionDesc desc, const std::string& general = "auto") {
  RouterOptions options;
  options.backend = general;
  options.device = DeviceKind::cuda;
  const auto router = Router::create(options, {&desc, 1});
  if (!router.ok()) return {router.status().message(), "", ""};
  const auto name = [&](Phase phase) { return std::string(router->decide(0, phase).backend->name()); };
  return {name(Phase::prefill), name(Phase::decode), name(Phase::verify)};
}

AttentionDesc gpu_desc(int head_dim, int num_heads = 32, int num_kv_heads = 8, int page_size = 64) {
  AttentionDesc desc = desc_with_dim(head_dim);
  desc.num_heads = num_heads;
  desc.num_kv_heads = num_kv_heads;
  desc.page_size = page_size;
  desc.q_dtype = desc.kv_dtype = DType::bf16;
  return desc;
}

TEST(Router, AGpuHasItsOwnHybridAndAliases) {
  const Choice hybrid{"prefill_ws", "decode_mma", "decode_mma"};
  EXPECT_EQ(choose_on_gpu(gpu_desc(128)), hybrid);
  EXPECT_EQ(choose_on_gpu(gpu_desc(128), "fa3,flashinfer"), hybrid);
  EXPECT_EQ(choose_on_gpu(gpu_desc(128), "fa3"), (Choice{"prefill_ws", "prefill_ws", "prefill_ws"}));
  EXPECT_EQ(choose_on_gpu(gpu_desc(128), "decode_mma"), (Choice{"decode_mma", "decode_mma", "decode_mma"}));
  EXPECT_EQ(choose_on_gpu(gpu_desc(128), "flashinfer,fa3"),
            (Choice{"decode_mma", "prefill_ws", "prefill_ws"}));
  // More rows of a KV head than decode's tile has: the prefill kernel takes them.
  EXPECT_EQ(choose_on_gpu(gpu_desc(128, 32, 1)), (Choice{"prefill_ws", "prefill_ws", "prefill_ws"}));
}

TEST(Router, WhatAGpuCantServeIsNamed) {
  const auto refusal = [](const AttentionDesc& desc, const std::string& backend) {
    return choose_on_gpu(desc, backend).prefill;
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(refusal(gpu_desc(96), "prefill_ws"), "head dims 96/96: takes only 64, 128, 256"));
  EXPECT_TRUE(has(refusal(gpu_desc(32), "auto"), "head dims 32/32"));
  EXPECT_TRUE(has(refusal(gpu_desc(64, 32, 8, 16), "prefill_ws"), "page size 16: takes only 64 to 256"));
  EXPECT_TRUE(has(refusal(gpu_desc(64, 32, 8, 96), "prefill_ws"), "page size 96: takes only powers of two"));
  EXPECT_TRUE(has(refusal(gpu_desc(256, 16, 1), "prefill_ws,decode_mma"),
                  "16 query heads on a KV head: takes at most 8 of dim 256"));
  EXPECT_TRUE(has(refusal(gpu_desc(64), "tiled"), "device: runs on cpu, not on cuda"));
  EXPECT_TRUE(has(choose("decode_mma").prefill, "device: runs on cuda, not on cpu"));
  AttentionDesc narrow = gpu_desc(64);
  narrow.kv_dtype = DType::f8_e4m3;
  EXPECT_TRUE(has(refusal(narrow, "auto"), "KV dtype f8_e4m3: takes only bf16"));
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
    EXPECT_EQ(backend->name(), alias.cpu);
  }
  EXPECT_EQ(find_backend("nope"), nullptr);
  EXPECT_EQ(find_backend(""), nullptr);
}

TEST(Report, MatrixHasARowPerBackend) {
  const auto rows = capability_matrix();
  ASSERT_EQ(rows.size(), all_backends().size() + 1);
  EXPECT_EQ(rows[0][0], "backend");
  for (size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].size(), rows[0].size());
    EXPECT_EQ(rows[i][0], all_backends()[i - 1]->name());
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
            "attention gqa_h8_kv2_d64_f32_p16 prefill: reference "
            "(--prefill-attention-backend torch_native "
            "(served by "
            "reference))");
  EXPECT_EQ(to_string(rows[1]),
            "attention gqa_h8_kv2_d64_f32_p16 decode: streaming (built-in "
            "rule: few query rows per key)");
  EXPECT_EQ(rows[4].backend, "reference");
  EXPECT_NE(rows[4].rejected.find("streaming: head dims 20/20"), std::string::npos);
}

}  // namespace
}  // namespace bifocal::attention
