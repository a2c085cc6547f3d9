#include "base/utf8.h"

#include <gtest/gtest.h>

namespace bifocal {
namespace {

TEST(Utf8, EveryScalarValueRoundTrips) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Char back = decode_utf8(text);
    ASSERT_TRUE(back.valid) << c;
    ASSERT_EQ(back.code_point, c);
    ASSERT_EQ(static_cast<size_t>(back.length), text.size());
  }
}

TEST(Utf8, RefusesIllFormedText) {
  const std::string_view broken[] = {
      "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x80\x80",
      "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80",
      "\xff",         "\xe2\x82"};
  for (const auto text : broken) EXPECT_FALSE(is_valid_utf8(text));
  EXPECT_TRUE(is_valid_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // The example of the Unicode standard, table 3-8 and 3-11.
  EXPECT_EQ(replace_invalid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80\x41"), "\uFFFD\uFFFD\uFFFDA");
}

TEST(Utf8, FindsTheUnfinishedCharacter) {
  EXPECT_EQ(incomplete_utf8_suffix("abc"), 0);
  EXPECT_EQ(incomplete_utf8_suffix("a\xf0"), 1);
  EXPECT_EQ(incomplete_utf8_suffix("a\xf0\x9f"), 2);
  EXPECT_EQ(incomplete_utf8_suffix("a\xf0\x9f\x98"), 3);
  EXPECT_EQ(incomplete_utf8_suffix("a\xf0\x9f\x98\x80"), 0);
  EXPECT_EQ(incomplete_utf8_suffix("a\xe2\x28"), 0);
  EXPECT_EQ(incomplete_utf8_suffix("\x80\x80\x80\x80"), 0);
  EXPECT_EQ(incomplete_utf8_suffix("a\xed\xa0"), 0);  // can't become a character any more
}

}  // namespace
}  // namespace bifocal
