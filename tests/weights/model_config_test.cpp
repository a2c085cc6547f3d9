#include "weights/model_config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/hash.h"
#include "weights/checkpoint_files.h"

namespace bifocal::weights {
namespace {

constexpr std::string_view kQwen3 = R"({
  "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "eos_token_id": 151645,
  "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
  "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
  "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
  "vocab_size": 151936})";

Expected<ModelConfig> parse(std::string_view text, std::string overrides = "") {
  ConfigOptions options;
  options.override_args = std::move(overrides);
  return parse_model_config(text, "config.json", options);
}

// kQwen3 with one field set to the given JSON.
Expected<ModelConfig> with(std::string_view field, std::string_view value) {
  return parse(kQwen3, fmt::format("{{\"{}\":{}}}", field, value));
}

TEST(ModelConfig, ReadsTheSharedFields) {
  const auto config = parse(kQwen3);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(config->vocab_size, 151936);
  EXPECT_EQ(config->hidden_size, 1024);
  EXPECT_EQ(config->intermediate_size, 3072);
  EXPECT_EQ(config->num_layers, 28);
  EXPECT_EQ(config->num_heads, 16);
  EXPECT_EQ(config->num_kv_heads, 8);
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->max_positions, 40960);
  EXPECT_DOUBLE_EQ(config->rms_norm_eps, 1e-6);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->dtype, DType::bf16);
  EXPECT_DOUBLE_EQ(config->rope.theta, 1e6);
  EXPECT_EQ(config->rope.type, RopeType::plain);
  EXPECT_EQ(config->eos_token_ids, std::vector<int32_t>{151645});
  EXPECT_FALSE(config->sliding_window);
}

TEST(ModelConfig, Defaults) {
  const auto config = parse(R"({"architectures":["X"],"vocab_size":8,"hidden_size":8,"intermediate_size":8,
                                "num_hidden_layers":1,"num_attention_heads":2})");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_FALSE(config->head_dim);
  EXPECT_FALSE(config->dtype);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_DOUBLE_EQ(config->rope.theta, 10000.0);
  EXPECT_TRUE(config->eos_token_ids.empty());
}

TEST(ModelConfig, RefusesHostileNumbersAndNamesTheField) {
  const char* required[] = {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads"};
  const char* optional[] = {"num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window"};
  const char* hostile[] = {"0",   "-1", "2147483648", "9223372036854775807", "1.5", "\"16\"", "true",
                           "[1]", "{}", "1e30",       "-2147483649"};
  const auto expect_refused = [&](const char* field) {
    for (const char* value : hostile) {
      const auto config = with(field, value);
      ASSERT_FALSE(config.ok()) << field << " " << value;
      EXPECT_TRUE(config.status().message().starts_with(fmt::format("config.json: {}: ", field)))
          << config.status().message();
    }
  };
  for (const char* field : required) {
    expect_refused(field);
    const auto missing = with(field, "null");
    ASSERT_FALSE(missing.ok()) << field;
    EXPECT_EQ(missing.status().message(), fmt::format("config.json: {}: missing", field));
  }
  for (const char* field : optional) expect_refused(field);
}

TEST(ModelConfig, RefusesWrongTypesAndRanges) {
  const std::pair<const char*, const char*> cases[] = {
      {"architectures", "[]"},
      {"architectures", "7"},
      {"architectures", "[7]"},
      {"architectures", "null"},
      {"rms_norm_eps", "0"},
      {"rms_norm_eps", "-1e-6"},
      {"rms_norm_eps", "2"},
      {"rms_norm_eps", "\"x\""},
      {"tie_word_embeddings", "1"},
      {"attention_bias", "\"true\""},
      {"mlp_bias", "0"},
      {"use_sliding_window", "[]"},
      {"max_window_layers", "-1"},
      {"hidden_act", "7"},
      {"layer_types", "7"},
      {"layer_types", "[1]"},
      {"dtype", "\"float99\""},
      {"dtype", "16"},
      {"eos_token_id", "-1"},
      {"eos_token_id", "\"</s>\""},
      {"eos_token_id", "[1,-2]"},
      {"eos_token_id", "[1.5]"},
      {"eos_token_id", "2147483648"},
      {"model_type", "7"},
      {"rope_theta", "0"},
      {"rope_theta", "-10000"},
      {"rope_theta", "\"1e6\""},
  };
  for (const auto& [field, value] : cases) {
    const auto config = with(field, value);
    ASSERT_FALSE(config.ok()) << field << " " << value;
    EXPECT_NE(config.status().message().find(std::string("config.json: ") + field), std::string::npos)
        << config.status().message();
  }
}

TEST(ModelConfig, HeadsMustFitKvHeads) {
  const auto config = with("num_key_value_heads", "5");
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().message(),
            "config.json: num_attention_heads: got 16, expected a multiple of num_key_value_heads 5");
  EXPECT_FALSE(with("num_key_value_heads", "32").ok());
}

TEST(ModelConfig, LayerTypesMustCoverTheLayers) {
  const auto config = with("layer_types", R"(["full_attention"])");
  ASSERT_FALSE(config.ok());
  EXPECT_NE(config.status().message().find("layer_types: 1 entries, expected 28"), std::string::npos)
      << config.status().message();
}

TEST(ModelConfig, DtypeUnderEitherName) {
  EXPECT_EQ(with("torch_dtype", "\"float16\"")->dtype, DType::f16);
  EXPECT_EQ(with("torch_dtype", "\"torch.float32\"")->dtype, DType::f32);
  EXPECT_EQ(with("torch_dtype", "\"auto\"")->dtype, std::nullopt);
  EXPECT_EQ(with("dtype", "\"bfloat16\"")->dtype, DType::bf16);
  const auto both = with("dtype", "\"float32\"");
  ASSERT_FALSE(both.ok());
  EXPECT_NE(both.status().message().find("torch_dtype"), std::string::npos);
}

TEST(ModelConfig, ListOfEndTokens) {
  EXPECT_EQ(with("eos_token_id", "[1,2,3]")->eos_token_ids, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_TRUE(with("eos_token_id", "null")->eos_token_ids.empty());
}

TEST(ModelConfig, UnsupportedArchitectureListsTheOthersBeforeAnythingElse) {
  const std::string_view names[] = {"LlamaForCausalLM", "Qwen3ForCausalLM"};
  ConfigOptions options;
  options.architectures = names;
  EXPECT_TRUE(parse_model_config(kQwen3, "config.json", options).ok());
  const auto config = parse_model_config(R"({"architectures":["BertModel"]})", "config.json", options);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), StatusCode::unsupported);
  EXPECT_EQ(config.status().message(),
            "config.json: architectures: \"BertModel\" is not supported; expected one of LlamaForCausalLM, "
            "Qwen3ForCausalLM");
}

TEST(ModelConfig, OverridesMergeDeeply) {
  const auto config =
      parse(R"({"architectures":["X"],"vocab_size":8,"hidden_size":8,"intermediate_size":8,
                                "num_hidden_layers":1,"num_attention_heads":2,
                                "rope_parameters":{"rope_type":"yarn","rope_theta":5e5,"factor":2.0}})",
            R"({"vocab_size":16,"rope_parameters":{"factor":8.0,"original_max_position_embeddings":64}})");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->vocab_size, 16);
  EXPECT_EQ(config->rope.type, RopeType::yarn);
  EXPECT_DOUBLE_EQ(config->rope.theta, 5e5);
  EXPECT_DOUBLE_EQ(config->rope.factor, 8.0);
  EXPECT_EQ(config->rope.original_max_positions, 64);
  EXPECT_EQ(config->document.find("vocab_size")->as_int(), 16);
}

TEST(ModelConfig, OverridesReplaceWhatIsNoObject) {
  const auto config =
      parse(kQwen3, R"({"rope_scaling":{"rope_type":"linear","factor":2},"eos_token_id":[1,2]})");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->rope.type, RopeType::linear);
  EXPECT_EQ(config->eos_token_ids.size(), 2U);
}

TEST(ModelConfig, BrokenOverrides) {
  for (const char* overrides : {"{", "[]", "7", "null", "{\"a\":1,\"a\":2}", "hidden_size=7"}) {
    const auto config = parse(kQwen3, overrides);
    ASSERT_FALSE(config.ok()) << overrides;
    EXPECT_NE(config.status().message().find("--json-model-override-args"), std::string::npos)
        << config.status().message();
  }
}

TEST(ModelConfig, BrokenDocuments) {
  for (const char* text : {"", "[]", "null", "{", "{\"architectures\":[\"X\"]", "\xff"}) {
    const auto config = parse(text);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_TRUE(config.status().message().starts_with("config.json: ")) << config.status().message();
  }
  EXPECT_FALSE(parse(std::string(200000, '[')).ok());
  EXPECT_FALSE(parse("{\"x\":\"" + std::string(2 << 20, 'x') + "\"}").ok());
}

TEST(ModelConfig, LoadsADirectory) {
  const TemporaryDirectory directory;
  EXPECT_EQ(load_model_config(directory.path(), {}).status().code(), StatusCode::not_found);
  write_text(directory.file("config.json"), kQwen3);
  const auto alone = load_model_config(directory.path(), {});
  ASSERT_TRUE(alone.ok()) << alone.status().message();
  EXPECT_TRUE(alone->generation.eos_token_ids.empty());
  EXPECT_NE(alone->error("x").message().find("config.json: x"), std::string::npos);

  write_text(directory.file("generation_config.json"), R"({"eos_token_id":[1,2],"temperature":0.6,"top_k":20,
      "top_p":0.95,"do_sample":true,"bos_token_id":7,"transformers_version":"4.51.0"})");
  const auto both = load_model_config(directory.path(), {});
  ASSERT_TRUE(both.ok()) << both.status().message();
  EXPECT_EQ(both->generation.eos_token_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(both->generation.top_k, 20);
  EXPECT_EQ(both->generation.do_sample, true);
  EXPECT_EQ(both->generation.temperature, 0.6);
  EXPECT_EQ(both->generation.top_p, 0.95);
  EXPECT_FALSE(both->generation.repetition_penalty);

  write_text(directory.file("generation_config.json"), R"({"top_p":7})");
  const auto bad = load_model_config(directory.path(), {});
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.status().message().find("generation_config.json: top_p"), std::string::npos)
      << bad.status().message();
}

TEST(GenerationConfig, RefusesBadFields) {
  const std::pair<const char*, const char*> cases[] = {
      {"temperature", "-1"},
      {"temperature", "\"hot\""},
      {"top_k", "-2"},
      {"top_k", "2.5"},
      {"top_p", "1.5"},
      {"min_p", "-0.1"},
      {"repetition_penalty", "0"},
      {"do_sample", "1"},
      {"eos_token_id", "{}"},
      {"max_new_tokens", "0"},
  };
  for (const auto& [field, value] : cases) {
    const auto config = parse_generation_config(fmt::format("{{\"{}\":{}}}", field, value), "g.json");
    ASSERT_FALSE(config.ok()) << field << " " << value;
    EXPECT_TRUE(config.status().message().starts_with(fmt::format("g.json: {}", field)))
        << config.status().message();
  }
}

TEST(ModelConfig, MutantsNeverCrash) {
  const std::string seed = std::string(kQwen3.substr(0, kQwen3.size() - 1)) +
                           R"(,"rope_parameters":{"rope_type":"yarn","factor":4.0,"rope_theta":1e6}})";
  SplitMix64 random(7);
  int accepted = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = seed;
    const uint64_t edits = 1 + random.below(3);
    for (uint64_t edit = 0; edit < edits; ++edit) {
      const size_t at = random.below(text.size());
      switch (random.below(3)) {
        case 0:
          text[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          text[at] = static_cast<char>('0' + random.below(10));
          break;
        default:
          text.erase(at, 1 + random.below(4));
      }
    }
    const auto config = parse(text);
    if (!config.ok()) continue;
    ++accepted;
    EXPECT_GE(config->hidden_size, 1);
    EXPECT_GE(config->num_layers, 1);
    EXPECT_EQ(config->num_heads % config->num_kv_heads, 0);
  }
  EXPECT_GT(accepted, 10);
}

}  // namespace
}  // namespace bifocal::weights
