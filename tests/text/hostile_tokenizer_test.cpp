// Files made to break a loader give an error, or load and work; never undefined behaviour (run under the
// sanitizers).
#include <gtest/gtest.h>

#include <string>

#include "base/file.h"
#include "base/hash.h"
#include "text/goldens.h"
#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

TEST(HostileTokenizer, Ids) {
  const auto with_id = [](JsonValue id) {
    JsonValue json = small_tokenizer();
    at(json, "model", "vocab", "hello") = std::move(id);
    return load_status(json);
  };
  EXPECT_TRUE(with_id(JsonValue(259)).ok());
  EXPECT_TRUE(with_id(JsonValue(500)).ok());  // a small gap, as published files have
  EXPECT_NE(with_id(JsonValue(0)).message().find("id 0 is given to two tokens"), std::string::npos);
  for (const int64_t id : {int64_t{-1}, int64_t{INT32_MAX}, int64_t{1} << 31, int64_t{1} << 32, INT64_MAX,
                           INT64_MIN, int64_t{10'000'000}}) {
    EXPECT_EQ(with_id(JsonValue(id)).code(), StatusCode::invalid_argument) << id;
    EXPECT_NE(with_id(JsonValue(id)).message().find("model.vocab"), std::string::npos) << id;
  }
  EXPECT_EQ(with_id(JsonValue("259")).code(), StatusCode::invalid_argument);
  EXPECT_EQ(with_id(JsonValue(1.5)).code(), StatusCode::invalid_argument);
  EXPECT_EQ(with_id(JsonValue()).code(), StatusCode::invalid_argument);
}

TEST(HostileTokenizer, AddedTokens) {
  const auto with_token = [](JsonValue token) {
    JsonValue json = small_tokenizer();
    at(json, "added_tokens") = JsonValue(JsonValue::Array{std::move(token)});
    return load_status(json);
  };
  EXPECT_TRUE(with_token(added_token("<s>", 262, true)).ok());
  EXPECT_TRUE(with_token(added_token("hello", 259, true)).ok());   // in the vocabulary, the same id
  EXPECT_FALSE(with_token(added_token("hello", 262, true)).ok());  // another id
  EXPECT_FALSE(with_token(added_token("<s>", 259, true)).ok());    // an id that is taken
  EXPECT_FALSE(with_token(added_token("<s>", -5, true)).ok());
  EXPECT_FALSE(with_token(added_token("<s>", INT32_MAX, true)).ok());
  EXPECT_FALSE(with_token(added_token("<s>", INT32_MAX - 1, true)).ok());
  EXPECT_FALSE(with_token(added_token("", 262, true)).ok());
  EXPECT_FALSE(with_token(added_token(std::string(5000, 'x'), 262, true)).ok());
  EXPECT_FALSE(with_token(JsonValue(5)).ok());
  EXPECT_EQ(with_token(added_token("<s>", 259, true)).message().find("added_tokens[0]"), 0u);
}

TEST(HostileTokenizer, AMillionAddedTokens) {
  std::string json = to_json(small_tokenizer());
  std::string tokens;
  for (int i = 0; i < 1'000'000; ++i)
    tokens += (i == 0 ? "" : ",") + std::string("{\"id\":") + std::to_string(262 + i) + ",\"content\":\"t" +
              std::to_string(i) + "\"}";
  const size_t begin = json.find("\"added_tokens\":[]");
  ASSERT_NE(begin, std::string::npos);
  json.insert(begin + std::string("\"added_tokens\":[").size(), tokens);
  EXPECT_EQ(Tokenizer::from_json(json).status().code(), StatusCode::invalid_argument);
}

TEST(HostileTokenizer, Merges) {
  const auto with_merges = [](const std::string& merges) {
    JsonValue json = small_tokenizer();
    at(json, "model", "merges") = parsed(merges);
    return load_status(json);
  };
  EXPECT_TRUE(with_merges("[]").ok());
  EXPECT_EQ(with_merges(R"(["h e", "zz zz"])").message(), "model.merges[1]: \"zz\" is not in model.vocab");
  EXPECT_EQ(with_merges(R"(["o o"])").message(), "model.merges[0]: \"oo\" is not in model.vocab");
  for (const char* bad : {R"(["he"])", R"(["h e l"])", R"([["h"]])", R"([["h", "e", "l"]])", R"([["h", 1]])",
                          "[1]", "[null]", R"([""])", "{}", "5"}) {
    EXPECT_EQ(with_merges(bad).code(), StatusCode::invalid_argument) << bad;
  }
}

TEST(HostileTokenizer, ByteFallbackTokens) {
  const auto load = [](const std::string& from, const std::string& to) {
    auto text = read_file(golden_directory("sentencepiece") + "/tokenizer.json", uint64_t{1} << 24);
    EXPECT_TRUE(text.ok());
    const size_t at = text->find(from);
    EXPECT_NE(at, std::string::npos);
    text->replace(at, from.size(), to);
    return Tokenizer::from_json(*text).status();
  };
  EXPECT_TRUE(load("<0x41>", "<0x41>").ok());
  for (const char* bad : {"<0x-1>", "<0xZZ>", "<0x4>", "<0x041>", "<0x41", "<0X41>", "<0x4G>", "<0x41> "}) {
    EXPECT_NE(load("<0x41>", bad).message().find("<0x41> is missing"), std::string::npos) << bad;
  }
}

TEST(HostileTokenizer, PostProcessorIds) {
  const auto with_ids = [](const std::string& ids) {
    JsonValue json = small_tokenizer();
    at(json, "post_processor") = parsed(
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<s>": {"ids": )" +
        ids + "}}}");
    return load_status(json);
  };
  EXPECT_TRUE(with_ids("[5]").ok());
  for (const char* bad : {"[262]", "[-1]", "[99999999999]", "[\"a\"]", "5"})
    EXPECT_FALSE(with_ids(bad).ok()) << bad;
}

TEST(HostileTokenizer, DeepNesting) {
  JsonValue json = small_tokenizer();
  const auto nested = [](const std::string& open, const std::string& close, int depth) {
    std::string out;
    for (int i = 0; i < depth; ++i) out += open;
    for (int i = 0; i < depth; ++i) out += close;
    return out;
  };
  std::string text = to_json(json);
  const size_t at_null = text.find("\"normalizer\":null");
  ASSERT_NE(at_null, std::string::npos);
  text.replace(at_null + 13, 4, nested(R"({"type":"Sequence","normalizers":[)", "]}", 100'000));
  EXPECT_FALSE(Tokenizer::from_json(text).ok());
  EXPECT_FALSE(Tokenizer::from_json(nested("[", "]", 1'000'000)).ok());
}

// Whatever loads must encode and decode without harm.
bool survives(const std::string& json, uint64_t seed) {
  const auto tokenizer = Tokenizer::from_json(json);
  if (!tokenizer) {
    EXPECT_FALSE(tokenizer.status().message().empty());
    return false;
  }
  const auto ids = (*tokenizer)->encode(random_text(seed, 50) + "<|im_start|> <mask> whole abcd");
  if (ids) (*tokenizer)->decode(*ids, seed % 2 == 0);
  return true;
}

TEST(HostileTokenizer, RandomBytes) {
  for (const char* name : {"qwen", "sentencepiece", "added"}) {
    const auto original = read_file(golden_directory(name) + "/tokenizer.json", uint64_t{1} << 24);
    ASSERT_TRUE(original.ok());
    for (uint64_t seed = 0; seed < 250; ++seed) {
      SplitMix64 random(seed);
      std::string text = *original;
      const size_t where = random.below(text.size());
      switch (random.below(5)) {
        case 0:
          text[where] = static_cast<char>(random.below(256));
          break;
        case 1:
          text.erase(where, 1 + random.below(20));
          break;
        case 2:
          text.insert(where, text.substr(random.below(text.size()), random.below(40)));
          break;
        case 3:
          text[where] = "0123456789{}[]\",:"[random.below(17)];
          break;
        default:
          text.resize(where);
      }
      survives(text, seed);
    }
  }
}

// Members of every object and array, but few of the vocabulary's and the merges'.
void collect(JsonValue& json, SplitMix64& random, std::vector<JsonValue*>& out) {
  const auto visit = [&](JsonValue& child, size_t siblings) {
    if (siblings > 100 && random.below(siblings) > 10) return;
    out.push_back(&child);
    collect(child, random, out);
  };
  if (json.is_object()) {
    for (auto& [name, child] : json.as_object()) visit(child, json.as_object().size());
  } else if (json.is_array()) {
    for (auto& child : json.as_array()) visit(child, json.as_array().size());
  }
}

JsonValue random_value(SplitMix64& random) {
  static const std::vector<JsonValue> kValues = {JsonValue(),
                                                 JsonValue(true),
                                                 JsonValue(false),
                                                 JsonValue(0),
                                                 JsonValue(-1),
                                                 JsonValue(259),
                                                 JsonValue(int64_t{1} << 31),
                                                 JsonValue(1.5),
                                                 JsonValue(""),
                                                 JsonValue("a"),
                                                 JsonValue("▁"),
                                                 JsonValue("NFKC"),
                                                 JsonValue("Removed"),
                                                 JsonValue("ByteLevel"),
                                                 JsonValue("Digits"),
                                                 JsonValue("(a+)+b"),
                                                 JsonValue("<unk>"),
                                                 JsonValue(JsonValue::Array{}),
                                                 JsonValue(JsonValue::Object{})};
  return kValues[random.below(kValues.size())];
}

TEST(HostileTokenizer, RandomValues) {
  for (const char* name : {"qwen", "sentencepiece", "added", "llama3"}) {
    const auto original = read_file(golden_directory(name) + "/tokenizer.json", uint64_t{1} << 24);
    ASSERT_TRUE(original.ok());
    int loaded = 0;
    for (uint64_t seed = 0; seed < 200; ++seed) {
      SplitMix64 random(seed);
      JsonValue json = parsed(*original);
      std::vector<JsonValue*> nodes;
      collect(json, random, nodes);
      JsonValue& target = *nodes[random.below(nodes.size())];
      const JsonValue other = *nodes[random.below(nodes.size())];
      target = random.below(3) == 0 ? other : random_value(random);
      if (survives(to_json(json), seed)) ++loaded;
    }
    EXPECT_GT(loaded, 10) << name;
    EXPECT_LT(loaded, 190) << name;
  }
}

}  // namespace
}  // namespace bifocal::text
