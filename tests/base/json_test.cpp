#include "base/json.h"

#include <gtest/gtest.h>

#include <string>

#include "base/hash.h"
#include "base/utf8.h"

namespace bifocal {
namespace {

TEST(Json, ParsesEveryKindOfValue) {
  const auto value = parse_json(R"({"a":[1,-2,2.5,true,false,null,"x\u00e9\ud83d\ude00"],"b":{}})");
  ASSERT_TRUE(value.ok()) << value.status().message();
  const auto& a = value->find("a")->as_array();
  ASSERT_EQ(a.size(), 7U);
  EXPECT_EQ(a[0].as_int(), 1);
  EXPECT_EQ(a[1].as_int(), -2);
  EXPECT_EQ(a[2].as_double(), 2.5);
  EXPECT_TRUE(a[3].as_bool());
  EXPECT_FALSE(a[4].as_bool());
  EXPECT_TRUE(a[5].is_null());
  EXPECT_EQ(a[6].as_string(), "x\u00e9\U0001F600");
  EXPECT_TRUE(value->find("b")->is_object());
  EXPECT_EQ(value->find("c"), nullptr);
}

TEST(Json, RefusesWhatIsNotStrictJson) {
  const char* broken[] = {"",
                          "{",
                          "[1,]",
                          "{\"a\":1,}",
                          "01",
                          "1.",
                          "+1",
                          "nul",
                          "\"\\x\"",
                          "\"\t\"",
                          "[1] 2",
                          "{'a':1}",
                          "NaN",
                          "Infinity",
                          "1e999",
                          "\"\\ud800\"",
                          "[\"\\udc00\"]",
                          "\"\xff\"",
                          "\"\xc0\x80\"",
                          "\"\xed\xa0\x80\"",
                          "9223372036854775808",
                          "-9223372036854775809",
                          "123456789012345678901234567890",
                          "{\"n\":1,\"n\":2}",
                          "// x\n1"};
  for (const char* text : broken) EXPECT_FALSE(parse_json(text).ok()) << text;
}

TEST(Json, AZeroByteIsNotTheEnd) {
  using namespace std::string_view_literals;
  EXPECT_FALSE(parse_json("{}\0garbage"sv).ok());
  EXPECT_FALSE(parse_json("{}\0"sv).ok());
  EXPECT_FALSE(parse_json("\"a\0b\""sv).ok());
}

TEST(Json, KeepsIntegersExact) {
  EXPECT_EQ(parse_json("9223372036854775807")->as_int(), INT64_MAX);
  EXPECT_EQ(parse_json("-9223372036854775808")->as_int(), INT64_MIN);
  EXPECT_TRUE(parse_json("1.0")->is_double());
}

TEST(Json, FindsDuplicateKeysInLargeObjects) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_TRUE(parse_json(text + "\"last\":0}").ok());
  EXPECT_FALSE(parse_json(text + "\"k500\":0}").ok());
}

TEST(Json, BoundsDepthSizeAndCount) {
  JsonLimits limits;
  EXPECT_FALSE(parse_json(std::string(1'000'000, '['), limits).ok());
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(parse_json(objects, limits).ok());
  const std::string deepest = std::string(64, '[') + std::string(64, ']');
  EXPECT_TRUE(parse_json(deepest, limits).ok());
  EXPECT_FALSE(parse_json("[" + deepest + "]", limits).ok());
  limits.max_bytes = 4;
  EXPECT_FALSE(parse_json("[1,2]", limits).ok());
  limits = {};
  limits.max_values = 3;
  EXPECT_TRUE(parse_json("[1,2]", limits).ok());
  EXPECT_FALSE(parse_json("[1,2,3]", limits).ok());
}

TEST(Json, ErrorsNeverRepeatTheInput) {
  const auto result = parse_json("{\"marker-7391\": oops}");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().message().find("marker-7391"), std::string::npos);
  EXPECT_NE(result.status().message().find("byte"), std::string::npos);
}

TEST(JsonReader, NamesTheField) {
  const auto value = parse_json(R"({"n":"3","t":7,"deep":{"list":[1,"x"]},"none":null,"f":1.0})");
  ASSERT_TRUE(value.ok());
  const auto reader = JsonReader::open(*value, "request");
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->get_int("n", 0, 10).status().message(), "request.n: expected integer, got string");
  EXPECT_EQ(reader->get_int("t", 0, 5).status().message(), "request.t: got 7, expected 0 to 5");
  EXPECT_EQ(reader->get_int("f", 0, 5).status().message(), "request.f: expected integer, got number");
  EXPECT_EQ(reader->get_int("none", 0, 5)->has_value(), false);
  EXPECT_EQ(reader->get_int("absent", 0, 5)->has_value(), false);
  const auto deep = reader->get_object("deep");
  ASSERT_TRUE(deep.ok() && deep->has_value());
  EXPECT_EQ((*deep)->get_ints("list", 0, 9, 5).status().message(),
            "request.deep.list[1]: expected integer, got string");
}

TEST(JsonWriter, WritesWhatTheParserReads) {
  JsonWriter writer;
  writer.begin_object()
      .member("s", "quote\" back\\ line\n tab\t nul" + std::string(1, '\0') + " é 😀")
      .member("i", int64_t{-5})
      .member("d", 0.1)
      .member("f", 0.1F)
      .key("a")
      .begin_array()
      .value(true)
      .null()
      .begin_object()
      .end_object()
      .end_array()
      .end_object();
  const auto value = parse_json(writer.text());
  ASSERT_TRUE(value.ok()) << writer.text();
  EXPECT_EQ(to_json(*value), writer.text());
  EXPECT_NE(writer.text().find("\"f\":0.1,"), std::string::npos) << writer.text();
}

TEST(JsonWriter, AnyBytesGiveValidJson) {
  SplitMix64 rng(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (uint64_t i = rng.below(24); i > 0; --i) bytes += static_cast<char>(rng.next());
    std::string json;
    append_json_string(json, bytes);
    const auto back = parse_json(json);
    ASSERT_TRUE(back.ok()) << json;
    EXPECT_EQ(back->as_string(), replace_invalid_utf8(bytes));
  }
}

TEST(JsonWriter, NonFiniteNumbersBecomeNull) {
  JsonWriter writer;
  writer.begin_array().value(1.0 / 0.0).value(0.0 / 0.0).end_array();
  EXPECT_EQ(writer.text(), "[null,null]");
}

TEST(Json, MutatedDocumentsNeverCrash) {
  const std::string seed_text = R"({"a":[1,2.5e3,"\u00e9",{"b":null}],"c":{"d":[[],{}]},"e":true})";
  SplitMix64 rng(11);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = seed_text;
    for (uint64_t edits = 1 + rng.below(3); edits > 0; --edits) {
      text[rng.below(text.size())] = static_cast<char>(rng.next());
    }
    const auto value = parse_json(text);
    if (!value.ok()) continue;
    ++accepted;
    EXPECT_EQ(to_json(*parse_json(to_json(*value))), to_json(*value));
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace bifocal
