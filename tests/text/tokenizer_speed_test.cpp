// One long piece, in every way that has made tokenizers quadratic; and many threads on one tokenizer.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "text/chat_template.h"
#include "text/goldens.h"
#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

std::string repeated(const std::string& unit, size_t bytes) {
  std::string out;
  while (out.size() < bytes) out += unit;
  return out;
}

std::string random_letters(size_t bytes) {
  SplitMix64 random(1);
  std::string out;
  while (out.size() < bytes) out += static_cast<char>('a' + random.below(26));
  return out;
}

// Quadratic work on 256 KiB takes a minute and more; the bound leaves room for sanitizers and loaded
// machines. (Without them 1 MiB takes some 0.1 to 0.4 s.)
TEST(TokenizerSpeed, LongPieces) {
  constexpr size_t kBytes = size_t{256} << 10;
  std::vector<std::pair<std::string, std::string>> texts = {{"random letters", random_letters(kBytes)}};
  for (const char* unit : {"x",     "_",     " ",  "\n",       "=", "0",           "ab",      " x",
                           "   x",  "\n \n", "河", "河流安静", "😀", "👩‍🚀", "e\u0301", "\u0301\u0323",
                           "<|im_", "<",     "'s", "\t\r\n"}) {
    texts.emplace_back(unit, repeated(unit, kBytes));
  }
  texts.emplace_back("zero bytes", std::string(kBytes, '\0'));
  for (const std::string& directory : golden_directories()) {
    const auto tokenizer = Tokenizer::load(directory + "/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    for (const auto& [name, text] : texts) {
      const auto start = std::chrono::steady_clock::now();
      const auto ids = (*tokenizer)->encode(text);
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15))
          << directory << " " << shortened(name);
      ASSERT_TRUE(ids.ok()) << ids.status().message();
      EXPECT_GT(ids->size(), 100u);
    }
  }
}

TEST(TokenizerSpeed, ManyThreadsShareATokenizerAndATemplate) {
  const auto tokenizer = Tokenizer::load(golden_directory("qwen") + "/tokenizer.json");
  const auto chat = ChatTemplate::load(golden_directory("qwen"));
  ASSERT_TRUE(tokenizer.ok() && chat.ok());
  const auto work = [&](uint64_t seed) {
    ChatInput input;
    input.messages = JsonValue(JsonValue::Array{JsonValue(
        JsonValue::Object{{"role", JsonValue("user")}, {"content", JsonValue(random_text(seed, 200))}})});
    const auto rendered = (*chat)->render(input);
    if (!rendered) return std::vector<TokenId>();
    const auto ids = (*tokenizer)->encode(rendered->text, {.plain_ranges = rendered->user_ranges});
    return ids ? *ids : std::vector<TokenId>();
  };
  constexpr size_t kThreads = 4;
  constexpr size_t kTexts = 20;
  std::vector<std::vector<std::vector<TokenId>>> results(kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < kTexts; ++i) results[t].push_back(work(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < kTexts; ++i) {
    const auto alone = work(i);
    EXPECT_FALSE(alone.empty());
    for (size_t t = 0; t < kThreads; ++t) EXPECT_EQ(results[t][i], alone);
  }
}

}  // namespace
}  // namespace bifocal::text
