#include "text/unicode.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

TEST(Unicode, NormalForms) {
  EXPECT_EQ(normalize("cafe\u0301", NormalForm::nfc), "caf\u00e9");
  EXPECT_EQ(normalize("caf\u00e9", NormalForm::nfd), "cafe\u0301");
  EXPECT_EQ(normalize("\ufb01 \u00bd", NormalForm::nfkc), "fi 1\u20442");
  EXPECT_EQ(normalize("\u212b", NormalForm::nfkd), "A\u030a");
  EXPECT_EQ(normalize("\u1100\u1161\u11a8", NormalForm::nfc), "\uac01");
  EXPECT_EQ(normalize("q\u0307\u0323", NormalForm::nfc), "q\u0323\u0307");  // marks are put in order
  EXPECT_EQ(normalize("\u0958", NormalForm::nfc), "\u0915\u093c");          // excluded from composition
  EXPECT_EQ(normalize("plain ascii", NormalForm::nfkc), "plain ascii");
}

TEST(Unicode, CharactersAfterUnicode9StayInPlace) {
  // U+1DFA came with Unicode 14 and would sort before U+0301.
  EXPECT_EQ(normalize("a\u0301\u1dfa", NormalForm::nfd), "a\u0301\u1dfa");
  EXPECT_EQ(normalize("\u32ff", NormalForm::nfkc), "\u32ff");
}

TEST(Unicode, NormalizingIsIdempotent) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string text = random_text(seed, 60);
    for (const NormalForm form : {NormalForm::nfc, NormalForm::nfd, NormalForm::nfkc, NormalForm::nfkd}) {
      const std::string once = normalize(text, form);
      ASSERT_EQ(normalize(once, form), once) << "seed " << seed;
    }
    ASSERT_EQ(normalize(normalize(text, NormalForm::nfd), NormalForm::nfc), normalize(text, NormalForm::nfc));
  }
}

// An insertion sort of the marks, which utf8proc does, would need minutes.
TEST(Unicode, LongRunsOfMarksAreOrderedQuickly) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const auto start = std::chrono::steady_clock::now();
  const std::string ordered = normalize(text, NormalForm::nfd);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(ordered.substr(1, 4), "\u0323\u0323");
  EXPECT_EQ(ordered.substr(ordered.size() - 4), "\u0301\u0301");
}

TEST(Unicode, Properties) {
  EXPECT_TRUE(is_white_space(0x3000));
  EXPECT_FALSE(is_white_space(0x180E));
  EXPECT_FALSE(is_white_space(0x200B));
  EXPECT_TRUE(is_word_character('_'));
  EXPECT_TRUE(is_word_character(0xE9));
  EXPECT_TRUE(is_word_character(0x24B6));  // a circled letter
  EXPECT_FALSE(is_word_character('-'));
  EXPECT_TRUE(is_punctuation('$'));
  EXPECT_TRUE(is_punctuation(0x3002));
  EXPECT_FALSE(is_punctuation(0x20AC));
  EXPECT_TRUE(is_numeric(0xBD));
  EXPECT_FALSE(is_decimal_digit(0xBD));
  EXPECT_FALSE(is_printable(0x200B));
  EXPECT_EQ(to_lower(0xC9), 0xE9u);
  EXPECT_EQ(to_upper(0xE9), 0xC9u);
}

}  // namespace
}  // namespace bifocal::text
