#include "text/normalizer.h"

#include <gtest/gtest.h>

#include <string>

#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

std::string normalized(const std::string& json, std::string text) {
  const JsonValue document = parsed(json);
  const auto normalizer = Normalizer::from_json(&document);
  EXPECT_TRUE(normalizer.ok()) << normalizer.status().message();
  const Status status = normalizer->apply(text);
  EXPECT_TRUE(status.ok()) << status.message();
  return text;
}

TEST(Normalizer, Steps) {
  EXPECT_EQ(normalized(R"({"type": "NFC"})", "e\u0301"), "\u00e9");
  EXPECT_EQ(normalized(R"({"type": "NFKC"})", "Ａ"), "A");
  EXPECT_EQ(normalized(R"({"type": "Lowercase"})", "ÀB İ"), "àb i\u0307");
  EXPECT_EQ(normalized(R"({"type": "Prepend", "prepend": "▁"})", "a"), "▁a");
  EXPECT_EQ(normalized(R"({"type": "Prepend", "prepend": "▁"})", ""), "");
  EXPECT_EQ(normalized(R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})", "a b c"),
            "a▁b▁c");
  EXPECT_EQ(normalized(R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})", "a   b c"),
            "a b c");
  EXPECT_EQ(normalized(R"({"type": "Strip", "strip_left": true, "strip_right": true})", " \u3000a b\n"),
            "a b");
  EXPECT_EQ(normalized(R"({"type": "Strip", "strip_left": false, "strip_right": true})", " a "), " a");
  EXPECT_EQ(normalized(R"({"type": "Strip", "strip_left": true, "strip_right": false})", " a "), "a ");
  EXPECT_EQ(normalized(R"({"type": "Strip"})", "  "), "");
  EXPECT_EQ(
      normalized(R"({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]})", "É"),
      "e\u0301");
  EXPECT_EQ(normalized(R"({"type": "Sequence", "normalizers": []})", "É"), "É");
}

TEST(Normalizer, Errors) {
  const auto status = [](const std::string& json) {
    const JsonValue document = parsed(json);
    return Normalizer::from_json(&document).status();
  };
  EXPECT_EQ(status(R"({"type": "Precompiled"})").code(), StatusCode::unsupported);
  EXPECT_NE(status(R"({"type": "Precompiled"})").message().find("Precompiled"), std::string::npos);
  EXPECT_EQ(status(R"({"type": "Prepend"})").message(), "normalizer.prepend: missing");
  EXPECT_EQ(status(R"({"type": "Prepend", "prepend": 1})").code(), StatusCode::invalid_argument);
  EXPECT_EQ(status(R"({"type": "Replace", "content": "x"})").code(), StatusCode::invalid_argument);
  EXPECT_EQ(status(R"({"type": "Sequence"})").code(), StatusCode::invalid_argument);
}

// "a" to "aa" forty times over would need a terabyte.
TEST(Normalizer, GrowthIsBounded) {
  std::string steps;
  for (int i = 0; i < 40; ++i) {
    steps += std::string(i == 0 ? "" : ",") +
             R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  }
  const JsonValue document = parsed(R"({"type": "Sequence", "normalizers": [)" + steps + "]}");
  const auto normalizer = Normalizer::from_json(&document);
  ASSERT_TRUE(normalizer.ok());
  std::string text = "a";
  EXPECT_EQ(normalizer->apply(text).code(), StatusCode::resource_exhausted);
}

}  // namespace
}  // namespace bifocal::text
