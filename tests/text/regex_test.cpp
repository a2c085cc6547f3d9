#include "text/regex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "text/regex_syntax.h"

namespace bifocal::text {
namespace {

std::vector<std::string> find(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status().message();
  std::vector<ByteRange> matches;
  const Status status = regex->find_all(text, matches);
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<std::string> out;
  for (const ByteRange m : matches) out.push_back(text.substr(m.begin, m.end - m.begin));
  return out;
}

using Strings = std::vector<std::string>;

TEST(Regex, FindsFromLeftToRight) {
  EXPECT_EQ(find(R"(\p{L}+|\p{N})", "ab12é"), (Strings{"ab", "1", "2", "é"}));
  EXPECT_EQ(find(R"(\s+(?!\S)|\s+)", "a   b "), (Strings{"  ", " ", " "}));
  EXPECT_EQ(find("(?i:'s|'t)", "it'S can't"), (Strings{"'S", "'t"}));
  EXPECT_EQ(find("a|", "ba"), (Strings{"", "a"}));  // empty matches move on
}

// What Ruby's expressions mean and PCRE2's would not.
TEST(Regex, OnigurumaSyntax) {
  EXPECT_EQ(find(R"(\s)", "a\u180eb\u3000c"), (Strings{"\u3000"}));
  EXPECT_EQ(find(R"([^\s]+)", "a\u180eb\u3000c"), (Strings{"a\u180eb", "c"}));
  EXPECT_EQ(find(R"(\S+)", "a b"), (Strings{"a", "b"}));
  EXPECT_EQ(find(R"(\w+)", "a\u0301b_\u203fc\u24b6d\u200de"), (Strings{"a\u0301b_\u203fc\u24b6d", "e"}));
  EXPECT_EQ(find(R"(\W)", "a-b"), (Strings{"-"}));
  EXPECT_EQ(find(R"(\h+)", "xyz1fg"), (Strings{"1f"}));
  EXPECT_EQ(find(R"(\p{N}{1,3}+)", "1234567"), (Strings{"1234567"}));  // an interval is never possessive
  EXPECT_EQ(find(R"(\p{N}{2}+)", "1234567"), (Strings{"123456"}));
  EXPECT_EQ(find(R"((ab|c){2}+d)", "ababcabd"), (Strings{"ababcabd"}));
  EXPECT_EQ(find(R"(a{,2}b)", "aaab"), (Strings{"aab"}));
  EXPECT_EQ(find(R"(x{y)", "x{y"), (Strings{"x{y"}));
  EXPECT_EQ(find(R"([a-z&&[^b]]+)", "abcb"), (Strings{"a", "c"}));
  EXPECT_EQ(find(R"(\p{Han}+)", "漢字、かな"), (Strings{"漢字"}));
  EXPECT_EQ(find(R"([[:alpha:]]+)", "a1\u0903b"), (Strings{"a", "\u0903b"}));
  EXPECT_EQ(find(R"(^a)", "a\na\nba"), (Strings{"a", "a"}));
  EXPECT_EQ(find(R"((?m:a.b))", "a\nb"), (Strings{"a\nb"}));
  EXPECT_EQ(find(R"(\p{Letter}+)", "ab1"), (Strings{"ab"}));
  EXPECT_EQ(find("[\r\n]+", "a\r\nb"), (Strings{"\r\n"}));
  EXPECT_EQ(find("[一-龥]+", "abc河流"), (Strings{"河流"}));
}

TEST(Regex, RefusesWhatItCannotMean) {
  EXPECT_EQ(Regex::compile("[a[bc]]").status().code(), StatusCode::unsupported);
  EXPECT_EQ(Regex::compile("[[:punct:]]").status().code(), StatusCode::unsupported);
  EXPECT_EQ(Regex::compile(R"([\W])").status().code(), StatusCode::unsupported);
  for (const char* broken : {"(a", "a)", "[a", "\\", "*a", R"(\p{Nope})", R"(\p{L)", "(?<=a+)b"}) {
    EXPECT_EQ(Regex::compile(broken).status().code(), StatusCode::invalid_argument) << broken;
  }
  EXPECT_FALSE(Regex::compile(std::string(100'000, '(')).ok());
  EXPECT_FALSE(Regex::compile(std::string(10'000, '(') + std::string(10'000, ')')).ok());
  EXPECT_FALSE(Regex::literal("").ok());
}

TEST(Regex, LiteralsFindTheTextItself) {
  const auto regex = Regex::literal("a.");
  ASSERT_TRUE(regex.ok());
  std::vector<ByteRange> matches;
  ASSERT_TRUE(regex->find_all("ab a.a.", matches).ok());
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(matches[0].begin, 3u);
  EXPECT_EQ(matches[1].end, 7u);
}

// Backtracking that explodes, and backtracking over the whole text at every position, end in an error soon.
TEST(Regex, StaysLinearOrFails) {
  const std::string text = std::string(65536, 'a') + "!";
  for (const char* pattern :
       {"(a+)+b", "(a|a)*b", "(a|aa)+$c", "([a-z]+)*[0-9]", "a*a*a*a*b", "(?:a?){30}a{30}b"}) {
    const auto regex = Regex::compile(pattern);
    ASSERT_TRUE(regex.ok()) << pattern;
    std::vector<ByteRange> matches;
    const auto start = std::chrono::steady_clock::now();
    const Status status = regex->find_all(text, matches);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5)) << pattern;
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::resource_exhausted)
        << pattern << ": " << status.message();
  }
}

// Look-behinds must see the character before, also where no match can begin by itself.
TEST(Regex, LookBehind) {
  EXPECT_EQ(find("(?<=a)b", "abb"), (Strings{"b"}));
  EXPECT_EQ(find(R"(\bx)", "ax x"), (Strings{"x"}));
}

}  // namespace
}  // namespace bifocal::text
