#include "model/families.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/hash.h"

namespace bifocal::model {
namespace {

constexpr std::string_view kDocument = R"({"vocab_size":100,"hidden_size":64,"intermediate_size":96,
    "num_hidden_layers":4,"num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":512})";

constexpr const char* kDense[] = {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"};

// Fields that an architecture can't do without, beside kDocument's.
std::string_view required_fields(std::string_view architecture) {
  if (architecture == "GptOssForCausalLM") {
    return R"("num_local_experts":8,"num_experts_per_tok":2,"sliding_window":8,)";
  }
  if (architecture.starts_with("Deepseek")) {
    return R"("kv_lora_rank":32,"qk_nope_head_dim":24,"qk_rope_head_dim":16,"v_head_dim":40,
        "n_routed_experts":16,"num_experts_per_tok":4,"moe_intermediate_size":24,)";
  }
  if (architecture == "Qwen3MoeForCausalLM") {
    return R"("num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":24,)";
  }
  return "";
}

// kDocument with an architecture and more fields.
Expected<ModelSpec> spec_of(std::string_view architecture, std::string_view fields = "{}",
                            std::string_view generation = "{}") {
  weights::ConfigOptions options;
  options.override_args = fields;
  std::string text(kDocument);
  text.insert(1, fmt::format("\"architectures\":[\"{}\"],{}", architecture, required_fields(architecture)));
  auto config = weights::parse_model_config(text, "config.json", options);
  if (!config.ok()) return config.status();
  auto parsed = weights::parse_generation_config(generation, "generation_config.json");
  if (!parsed.ok()) return parsed.status();
  config->generation = *parsed;
  return make_spec(*config);
}

ModelSpec good(std::string_view architecture, std::string_view fields = "{}",
               std::string_view generation = "{}") {
  auto spec = spec_of(architecture, fields, generation);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? std::move(*spec) : ModelSpec{};
}

std::vector<int> windows(const ModelSpec& spec) {
  std::vector<int> out;
  for (const LayerSpec& layer : spec.layers) out.push_back(layer.attention.window);
  return out;
}

TEST(Families, EachHasItsArchitecture) {
  for (const Family* family : families()) {
    const ModelSpec spec = good(family->architecture);
    EXPECT_EQ(spec.family, family->name);
    EXPECT_EQ(spec.architecture, family->architecture);
    EXPECT_EQ(spec.vocab_size, 100);
    EXPECT_EQ(spec.hidden_size, 64);
    EXPECT_EQ(spec.max_positions, 512);
    EXPECT_EQ(spec.layers.size(), 4U);
    if (spec.layers[3].mla) {
      EXPECT_EQ(spec.layers[3].mla->num_heads, 4);
    } else {
      EXPECT_EQ(spec.layers[3].attention.num_heads, 4);
      EXPECT_EQ(spec.layers[3].attention.num_kv_heads, 2);
    }
    EXPECT_EQ(spec.layers[3].mlp.intermediate_size, spec.layers[3].moe ? 0 : 96);
    EXPECT_FLOAT_EQ(spec.norm_eps, 1e-6F);
    EXPECT_FALSE(spec.tied_output);
  }
}

TEST(Families, UnsupportedArchitecture) {
  const auto spec = spec_of("MambaForCausalLM");
  ASSERT_FALSE(spec.ok());
  EXPECT_EQ(spec.status().code(), StatusCode::unsupported);
  for (const Family* family : families()) {
    EXPECT_NE(spec.status().message().find(family->architecture), std::string::npos)
        << spec.status().message();
  }
}

TEST(Families, HeadDim) {
  EXPECT_EQ(good("LlamaForCausalLM").layers[0].attention.head_dim, 16);
  EXPECT_EQ(good("Qwen2ForCausalLM").layers[0].attention.head_dim, 16);
  EXPECT_EQ(good("Qwen3ForCausalLM").layers[0].attention.head_dim, 128);
  for (const Family* family : families()) {
    const ModelSpec spec =
        good(family->architecture, R"({"head_dim":32,"rope_parameters":{"rope_type":"default"}})");
    if (spec.layers[0].mla) continue;  // whose dims have names of their own
    EXPECT_EQ(spec.layers[0].attention.head_dim, 32);
    EXPECT_FLOAT_EQ(spec.layers[0].attention.scale, 1.0F / std::sqrt(32.0F));
    EXPECT_EQ(spec.rope.rotary_dim, 32);
  }
  EXPECT_NE(spec_of("LlamaForCausalLM", R"({"hidden_size":66})").status().message().find("hidden_size"),
            std::string::npos);
  EXPECT_NE(spec_of("LlamaForCausalLM", R"({"head_dim":7})").status().message().find("head_dim"),
            std::string::npos);
}

TEST(Families, BiasesAndNorms) {
  struct Row {
    const char* architecture;
    const char* fields;
    bool qkv, output, mlp, qk_norm;
  };
  const Row rows[] = {
      {"LlamaForCausalLM", "{}", false, false, false, false},
      {"LlamaForCausalLM", R"({"attention_bias":true})", true, true, false, false},
      {"LlamaForCausalLM", R"({"mlp_bias":true})", false, false, true, false},
      {"Qwen2ForCausalLM", "{}", true, false, false, false},
      {"Qwen2ForCausalLM", R"({"attention_bias":false})", true, false, false, false},
      {"Qwen3ForCausalLM", "{}", false, false, false, true},
      {"Qwen3ForCausalLM", R"({"attention_bias":true})", true, true, false, true},
  };
  for (const Row& row : rows) {
    const LayerSpec layer = good(row.architecture, row.fields).layers[0];
    EXPECT_EQ(layer.attention.qkv_bias, row.qkv) << row.architecture << row.fields;
    EXPECT_EQ(layer.attention.output_bias, row.output) << row.architecture << row.fields;
    EXPECT_EQ(layer.mlp.bias, row.mlp) << row.architecture << row.fields;
    EXPECT_EQ(layer.attention.qk_norm, row.qk_norm) << row.architecture << row.fields;
  }
}

TEST(Families, SlidingLayers) {
  using Windows = std::vector<int>;
  for (const char* architecture : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    EXPECT_EQ(windows(good(architecture, R"({"sliding_window":8})")), Windows({0, 0, 0, 0}));
    EXPECT_EQ(windows(good(architecture,
                           R"({"sliding_window":8,"use_sliding_window":false,"max_window_layers":1})")),
              Windows({0, 0, 0, 0}));
    EXPECT_EQ(windows(good(architecture,
                           R"({"sliding_window":8,"use_sliding_window":true,"max_window_layers":3})")),
              Windows({0, 0, 0, 8}));
    EXPECT_EQ(windows(good(architecture,
                           R"({"sliding_window":8,"use_sliding_window":true,"max_window_layers":28})")),
              Windows({0, 0, 0, 0}));
    // The list has the last word.
    EXPECT_EQ(
        windows(good(architecture, R"({"sliding_window":8,"use_sliding_window":true,"max_window_layers":28,
        "layer_types":["sliding_attention","full_attention","sliding_attention","full_attention"]})")),
        Windows({8, 0, 8, 0}));
    const auto missing = spec_of(architecture, R"({"sliding_window":8,"use_sliding_window":true})");
    EXPECT_NE(missing.status().message().find("max_window_layers"), std::string::npos);
    const auto contradiction = spec_of(
        architecture,
        R"({"layer_types":["sliding_attention","full_attention","full_attention","full_attention"]})");
    EXPECT_NE(contradiction.status().message().find("layer_types[0]"), std::string::npos);
    const auto unknown =
        spec_of(architecture,
                R"({"layer_types":["full_attention","linear_attention","full_attention","full_attention"]})");
    EXPECT_EQ(unknown.status().code(), StatusCode::unsupported);
    EXPECT_NE(unknown.status().message().find("linear_attention"), std::string::npos);
  }
  EXPECT_FALSE(spec_of("LlamaForCausalLM", R"({"sliding_window":8,"use_sliding_window":true,
      "layer_types":["sliding_attention","full_attention","full_attention","full_attention"]})")
                   .ok());
}

TEST(Families, SettingsOfOtherArchitecturesAreRefused) {
  for (const char* architecture : kDense) {
    for (const char* setting :
         {R"("quantization_config":{"quant_method":"fp8"})", R"("num_experts":8)", R"("kv_lora_rank":512)",
          R"("attn_logit_softcapping":50.0)", R"("residual_multiplier":0.22)",
          R"("partial_rotary_factor":0.5)", R"("logit_scale":0.0625)", R"("hidden_act":"gelu")",
          R"("rope_scaling":{"rope_type":"longrope"})"}) {
      const auto spec = spec_of(architecture, fmt::format("{{{}}}", setting));
      ASSERT_FALSE(spec.ok()) << setting;
      const std::string key(setting + 1, std::string_view(setting).find('"', 1) - 1);
      EXPECT_NE(spec.status().message().find(key), std::string::npos) << spec.status().message();
      EXPECT_EQ(spec.status().code(), StatusCode::unsupported) << spec.status().message();
    }
    // Neutral values and settings of training or caching change nothing.
    EXPECT_TRUE(spec_of(architecture,
                        R"({"quantization_config":null,"num_experts":0,"partial_rotary_factor":1.0,
        "residual_multiplier":1.0,"pretraining_tp":2,"attention_dropout":0.1,"use_cache":false,"auto_map":{}})")
                    .ok());
  }
}

std::vector<bool> sparse(const ModelSpec& spec) {
  std::vector<bool> out;
  for (const LayerSpec& layer : spec.layers) out.push_back(layer.moe.has_value());
  return out;
}

TEST(Families, Qwen3MoeReadsItsExperts) {
  constexpr const char* kName = "Qwen3MoeForCausalLM";
  const ModelSpec spec = good(kName);
  ASSERT_EQ(sparse(spec), (std::vector<bool>{true, true, true, true}));
  const MoeSpec& moe = *spec.layers[2].moe;
  EXPECT_EQ(moe.num_experts, 8);
  EXPECT_EQ(moe.experts_per_token, 2);
  EXPECT_EQ(moe.intermediate_size, 24);
  EXPECT_EQ(moe.shared_intermediate_size, 0);
  EXPECT_EQ(moe.router.scoring, RouterSpec::Scoring::softmax);
  EXPECT_FALSE(moe.router.bias);
  EXPECT_FLOAT_EQ(moe.router.scale, 1.0F);
  // Not renormalised unless the file says so.
  EXPECT_FALSE(moe.router.renormalize);
  EXPECT_TRUE(good(kName, R"({"norm_topk_prob":true})").layers[0].moe->router.renormalize);
  EXPECT_EQ(good(kName, R"({"num_experts":null,"num_local_experts":16})").layers[0].moe->num_experts, 16);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 16);  // hidden / heads where absent
  EXPECT_TRUE(spec.layers[0].attention.qk_norm);
}

TEST(Families, Qwen3MoeLayersThatStayDense) {
  constexpr const char* kName = "Qwen3MoeForCausalLM";
  EXPECT_EQ(sparse(good(kName, R"({"decoder_sparse_step":2})")),
            (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(sparse(good(kName, R"({"mlp_only_layers":[0,3,77]})")),
            (std::vector<bool>{false, true, true, false}));
  EXPECT_EQ(sparse(good(kName, R"({"decoder_sparse_step":2,"mlp_only_layers":[1]})")),
            (std::vector<bool>{false, false, false, true}));
  EXPECT_EQ(good(kName, R"({"mlp_only_layers":[0]})").layers[0].mlp.intermediate_size, 96);
  // A window concerns every layer.
  EXPECT_EQ(windows(good(kName, R"({"sliding_window":8,"use_sliding_window":true,"max_window_layers":2})")),
            (std::vector<int>{8, 8, 8, 8}));
  EXPECT_EQ(windows(good(kName, R"({"sliding_window":8})")), (std::vector<int>{0, 0, 0, 0}));
}

TEST(Families, Qwen3MoeNamesTheFieldThatIsWrong) {
  for (const auto& [fields, part] :
       {std::pair{R"({"num_experts":null})", "num_experts: missing"},
        std::pair{R"({"num_experts":0})", "num_experts"},
        std::pair{R"({"num_experts":1000000})", "num_experts"},
        std::pair{R"({"num_local_experts":9})", "num_experts and num_local_experts"},
        std::pair{R"({"num_experts_per_tok":9})", "num_experts_per_tok"},
        std::pair{R"({"num_experts_per_tok":null})", "num_experts_per_tok: missing"},
        std::pair{R"({"moe_intermediate_size":"24"})", "moe_intermediate_size"},
        std::pair{R"({"norm_topk_prob":1})", "norm_topk_prob"},
        std::pair{R"({"decoder_sparse_step":0})", "decoder_sparse_step"},
        std::pair{R"({"mlp_only_layers":[-1]})", "mlp_only_layers"},
        std::pair{R"({"kv_lora_rank":4})", "kv_lora_rank"}}) {
    const auto spec = spec_of("Qwen3MoeForCausalLM", fields);
    ASSERT_FALSE(spec.ok()) << fields;
    EXPECT_NE(spec.status().message().find(part), std::string::npos) << spec.status().message();
    EXPECT_NE(spec.status().message().find("config.json"), std::string::npos) << spec.status().message();
  }
}

TEST(Families, GptOssReadsItsExpertsSinksAndWindows) {
  constexpr const char* kName = "GptOssForCausalLM";
  const ModelSpec spec = good(kName);
  ASSERT_EQ(sparse(spec), (std::vector<bool>{true, true, true, true}));
  EXPECT_EQ(windows(spec), (std::vector<int>{8, 0, 8, 0}));
  EXPECT_EQ(windows(good(kName, R"({"layer_types":
      ["full_attention","sliding_attention","sliding_attention","full_attention"]})")),
            (std::vector<int>{0, 8, 8, 0}));
  const MoeSpec& moe = *spec.layers[1].moe;
  EXPECT_EQ(moe.num_experts, 8);
  EXPECT_EQ(moe.experts_per_token, 2);
  EXPECT_EQ(moe.intermediate_size, 96);
  EXPECT_EQ(moe.activation, Activation::clamped_swiglu);
  EXPECT_EQ(moe.layout, ExpertLayout::fused_in_out);
  EXPECT_TRUE(moe.bias && moe.router.bias && moe.router.renormalize);
  EXPECT_FLOAT_EQ(moe.swiglu_limit, 7.0F);
  EXPECT_FLOAT_EQ(good(kName, R"({"swiglu_limit":1.5})").layers[0].moe->swiglu_limit, 1.5F);
  EXPECT_TRUE(spec.layers[0].attention.sinks);
  EXPECT_TRUE(spec.layers[0].attention.qkv_bias && spec.layers[0].attention.output_bias);
  EXPECT_FALSE(good(kName, R"({"attention_bias":false})").layers[0].attention.qkv_bias);
  EXPECT_FALSE(spec.layers[0].attention.qk_norm);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 64);
  // Without rotary settings: the released models', without truncation.
  EXPECT_NEAR(spec.rope.attention_factor, 1.3465735903, 1e-6);
  ASSERT_EQ(spec.rope.inv_freq.size(), 32U);
  EXPECT_NEAR(spec.rope.inv_freq[12], 6.794959489732e-03, 1e-8);
  EXPECT_NEAR(spec.rope.inv_freq[17], 1.293187012451e-04, 1e-9);
  EXPECT_FLOAT_EQ(good(kName, R"({"rope_theta":1000.0})").rope.attention_factor, 1.0F);
}

TEST(Families, GptOssNamesTheFieldThatIsWrong) {
  for (const auto& [fields, part] : {std::pair{R"({"sliding_window":null})", "sliding_window: missing"},
                                     std::pair{R"({"num_local_experts":null})", "num_experts: missing"},
                                     std::pair{R"({"num_experts_per_tok":9})", "num_experts_per_tok"},
                                     std::pair{R"({"swiglu_limit":-1})", "swiglu_limit"},
                                     std::pair{R"({"attention_bias":3})", "attention_bias"}}) {
    const auto spec = spec_of("GptOssForCausalLM", fields);
    ASSERT_FALSE(spec.ok()) << fields;
    EXPECT_NE(spec.status().message().find(part), std::string::npos) << spec.status().message();
  }
}

TEST(Families, EndTokensOfBothFiles) {
  const ModelSpec spec = good("Qwen3ForCausalLM", R"({"eos_token_id":7})", R"({"eos_token_id":[9,7,3]})");
  EXPECT_EQ(spec.eos_token_ids, (std::vector<int32_t>{3, 7, 9}));
  EXPECT_TRUE(good("Qwen3ForCausalLM").eos_token_ids.empty());
}

TEST(Families, MutatedConfigsGiveASaneSpecOrAnError) {
  const std::string_view fields[] = {"hidden_size",       "num_attention_heads", "num_key_value_heads",
                                     "head_dim",          "num_hidden_layers",   "sliding_window",
                                     "max_window_layers", "intermediate_size",   "max_position_embeddings",
                                     "kv_lora_rank",      "qk_rope_head_dim",    "v_head_dim"};
  const int64_t values[] = {-1, 0, 1, 2, 3, 4, 7, 8, 64, 65, 1000, 4096, 1 << 20, 1 << 24, INT32_MAX};
  SplitMix64 random(3);
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string patch = "{\"use_sliding_window\":true,\"max_window_layers\":1";
    for (uint64_t n = random.below(3); n < 3; ++n) {
      const auto field = fields[random.below(std::size(fields))];
      if (patch.find(fmt::format("\"{}\":", field)) != std::string::npos) continue;
      patch += fmt::format(",\"{}\":{}", field, values[random.below(std::size(values))]);
    }
    const auto spec = spec_of(families()[random.below(families().size())]->architecture, patch + "}");
    if (!spec.ok()) continue;
    ++accepted;
    if (const auto& mla = spec->layers.front().mla) {
      ASSERT_GT(mla->kv_lora_rank, 0);
      ASSERT_GT(mla->v_head_dim, 0);
      ASSERT_EQ(spec->rope.inv_freq.size(), static_cast<size_t>(mla->qk_rope_head_dim / 2));
      ASSERT_TRUE(attention::validate(attention_classes(*spec, DType::f32, 16).descs[0]).ok());
      continue;
    }
    const AttentionSpec& attention = spec->layers.front().attention;
    ASSERT_GT(attention.head_dim, 0);
    ASSERT_EQ(attention.num_heads % attention.num_kv_heads, 0);
    ASSERT_EQ(spec->rope.inv_freq.size(), static_cast<size_t>(attention.head_dim / 2));
    ASSERT_GT(attention.qkv_rows(), 0);
  }
  EXPECT_GT(accepted, 100);
}

TEST(Families, DeepseekReadsItsLatents) {
  for (const char* name : {"DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"}) {
    const ModelSpec spec = good(name, R"({"first_k_dense_replace":1,"n_shared_experts":2})");
    EXPECT_EQ(sparse(spec), (std::vector<bool>{false, true, true, true}));
    const MlaSpec& mla = *spec.layers[0].mla;
    EXPECT_EQ(mla.num_heads, 4);
    EXPECT_EQ(mla.q_lora_rank, 0);
    EXPECT_EQ(mla.latent_dim(), 48);
    EXPECT_EQ(mla.qk_head_dim(), 40);
    EXPECT_FLOAT_EQ(mla.scale, 1.0F / std::sqrt(40.0F));
    EXPECT_FLOAT_EQ(mla.norm_eps, 1e-6F);
    EXPECT_EQ(spec.layers[0].attention_out_dim(), 160);
    EXPECT_EQ(spec.rope.rotary_dim, 16);
    EXPECT_EQ(spec.rope.style, kernels::cpu::RopeStyle::interleaved);
    EXPECT_EQ(good(name, R"({"rope_interleave":false})").rope.style, kernels::cpu::RopeStyle::half);
    EXPECT_EQ(good(name, R"({"q_lora_rank":24})").layers[1].mla->q_lora_rank, 24);
    EXPECT_TRUE(good(name, R"({"attention_bias":true})").layers[0].attention_out_bias());
    EXPECT_FLOAT_EQ(good(name, R"({"rms_norm_eps":0.001})").layers[0].mla->norm_eps, 1e-6F);
    EXPECT_EQ(spec.layers[1].moe->shared_intermediate_size, 48);
    // A page holds one latent per token and layer.
    const auto shapes = kv_layer_shapes(spec);
    EXPECT_EQ(kv::KvCache::bytes_per_page(shapes, DType::bf16, 16), 4U * 48U * 16U * 2U);
    const AttentionClasses classes = attention_classes(spec, DType::bf16, 16);
    ASSERT_EQ(classes.descs.size(), 2U);
    EXPECT_EQ(classes.of_layer, (std::vector<size_t>{0, 0, 0, 0}));
    EXPECT_EQ(classes.descs[1], attention::expanded_class(classes.descs[0]));
  }
}

// Computed from the released settings, see DeepSeek-V3's inference/model.py.
TEST(Families, DeepseekYarnStretchesTheScale) {
  constexpr const char* kDims = R"("qk_nope_head_dim":128,"qk_rope_head_dim":64)";
  const auto scale = [&](const char* name, const char* mscale) {
    const auto fields = fmt::format(
        R"({{{},"rope_theta":10000,"rope_scaling":{{"type":"yarn","factor":40,"beta_fast":32,"beta_slow":1,
            "original_max_position_embeddings":4096,"mscale":{},"mscale_all_dim":{}}}}})",
        kDims, mscale, mscale);
    const ModelSpec spec = good(name, fields);
    EXPECT_FLOAT_EQ(spec.rope.attention_factor, 1.0F);
    return static_cast<double>(spec.layers[0].mla->scale);
  };
  EXPECT_NEAR(scale("DeepseekV3ForCausalLM", "1.0"), 0.135233778861, 1e-7);
  EXPECT_NEAR(scale("DeepseekV2ForCausalLM", "0.707"), 0.114721386793, 1e-7);
}

TEST(Families, DeepseekRoutersAreTheirVersions) {
  constexpr const char* kGroups = R"({"n_group":4,"topk_group":2,"norm_topk_prob":true,
      "routed_scaling_factor":2.5})";
  const RouterSpec third = good("DeepseekV3ForCausalLM", kGroups).layers[0].moe->router;
  EXPECT_EQ(third.scoring, RouterSpec::Scoring::sigmoid);
  EXPECT_EQ(third.group_score, RouterSpec::GroupScore::two_largest);
  EXPECT_TRUE(third.choice_bias && third.renormalize);
  EXPECT_EQ(third.num_groups, 4);
  EXPECT_EQ(third.groups_per_token, 2);
  EXPECT_FLOAT_EQ(third.scale, 2.5F);

  const char* second = "DeepseekV2ForCausalLM";
  const RouterSpec greedy = good(second, kGroups).layers[0].moe->router;
  EXPECT_EQ(greedy.scoring, RouterSpec::Scoring::softmax);
  EXPECT_EQ(greedy.num_groups, 1);  // unless topk_method says so
  EXPECT_FALSE(greedy.choice_bias);
  EXPECT_TRUE(greedy.renormalize);
  EXPECT_FLOAT_EQ(greedy.scale, 1.0F);  // weights that sum to 1 are not scaled
  const RouterSpec limited = good(second, R"({"topk_method":"group_limited_greedy","n_group":4,"topk_group":2,
      "routed_scaling_factor":16.0})")
                                 .layers[0]
                                 .moe->router;
  EXPECT_EQ(limited.num_groups, 4);
  EXPECT_EQ(limited.group_score, RouterSpec::GroupScore::largest);
  EXPECT_FALSE(limited.renormalize);
  EXPECT_FLOAT_EQ(limited.scale, 16.0F);
}

TEST(Families, DeepseekNamesTheFieldThatIsWrong) {
  for (const auto& [fields, part] :
       {std::pair{R"({"kv_lora_rank":null})", "kv_lora_rank: missing"},
        std::pair{R"({"kv_lora_rank":4096})", "kv_lora_rank"},
        std::pair{R"({"qk_nope_head_dim":0})", "qk_nope_head_dim"},
        std::pair{R"({"qk_rope_head_dim":15})", "qk_rope_head_dim: got 15, expected an even number"},
        std::pair{R"({"kv_lora_rank":2040,"qk_rope_head_dim":16})", "at most 2048 together"},
        std::pair{R"({"v_head_dim":"40"})", "v_head_dim"},
        std::pair{R"({"n_routed_experts":0})", "n_routed_experts"}, std::pair{R"({"n_group":3})", "n_group"},
        std::pair{R"({"n_group":4,"topk_group":5})", "topk_group"},
        std::pair{R"({"n_group":8,"topk_group":1})", "num_experts_per_tok"},
        std::pair{R"({"first_k_dense_replace":5})", "first_k_dense_replace"},
        std::pair{R"({"moe_layer_freq":2})", "moe_layer_freq"},
        std::pair{R"({"topk_method":"greedy"})", "topk_method"},
        std::pair{R"({"scoring_func":"softmax"})", "scoring_func"}}) {
    const auto spec = spec_of("DeepseekV3ForCausalLM", fields);
    ASSERT_FALSE(spec.ok()) << fields;
    EXPECT_NE(spec.status().message().find(part), std::string::npos) << spec.status().message();
    EXPECT_NE(spec.status().message().find("config.json"), std::string::npos) << spec.status().message();
  }
}

}  // namespace
}  // namespace bifocal::model
