#include "cli/option.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "cli/command.h"
#include "cli/settings.h"

namespace bifocal::cli {
namespace {

Command serve_command(Settings& settings) {
  return {
      "serve", "",
      join({model_options(settings.model), serve_options(settings.serve), engine_options(settings.engine)})};
}

TEST(Options, FlagsFillTheirTargets) {
  Settings settings;
  const auto result =
      parse_options(serve_command(settings),
                    {"/models/x", "--port", "9000", "--enable-deterministic-inference", "--api-key", "a,b",
                     "--mem-fraction-static=0.25", "--page-size", "64", "--chunked-prefill-size", "-1"});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(settings.model.model_path, "/models/x");
  EXPECT_EQ(settings.serve.port, 9000);
  EXPECT_TRUE(settings.engine.deterministic);
  EXPECT_EQ(settings.serve.api_keys, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(settings.engine.mem_fraction_static, 0.25);
  EXPECT_EQ(settings.engine.page_size, 64);
  EXPECT_EQ(settings.engine.chunked_prefill_size, -1);
}

TEST(Options, ModelMayBePositionalOrAFlag) {
  for (const char* flag : {"--model-path", "--model"}) {
    Settings settings;
    ASSERT_TRUE(parse_options(serve_command(settings), {flag, "/m"}).ok());
    EXPECT_EQ(settings.model.model_path, "/m");
  }
  Settings settings;
  EXPECT_FALSE(parse_options(serve_command(settings), {}).ok());
}

TEST(Options, ListsSplitAtCommasUnlessTheirWordsAreWhole) {
  std::vector<std::string> split, whole;
  Option first{"Group", "--split", "LIST", "help", &split};
  Option second{"Group", "--whole", "TEXT", "help", &whole};
  second.whole_words = true;
  const Command command{"test", "", {first, second}};
  ASSERT_TRUE(parse_options(command, {"--split", "a,b", "--whole", "a=1,b=2", "--whole", "c"}).ok());
  EXPECT_EQ(split, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(whole, (std::vector<std::string>{"a=1,b=2", "c"}));
}

TEST(Options, RefusalsNameTheFlag) {
  const std::vector<std::vector<std::string>> wrong = {
      {"m", "--port", "70000"},    {"m", "--port", "x"},        {"m", "--page-size", "0"},
      {"m", "--page-size", "257"}, {"m", "--dtype", "float8"},  {"m", "--mem-fraction-static", "1.5"},
      {"m", "--threads", "-1"},    {"m", "--load-format", "pt"}};
  for (const auto& words : wrong) {
    Settings settings;
    const auto result = parse_options(serve_command(settings), words);
    ASSERT_FALSE(result.ok()) << words[1] << " " << words[2];
    EXPECT_EQ(result.status().code(), StatusCode::invalid_argument);
    EXPECT_NE(result.status().message().find(words[1]), std::string::npos) << result.status().message();
  }
  Settings settings;
  EXPECT_NE(parse_options(serve_command(settings), {"m", "--no-such-flag"})
                .status()
                .message()
                .find("--no-such-flag"),
            std::string::npos);
}

TEST(Options, EnvironmentIsTheFlagsTwinAndLoses) {
  ::setenv("BIFOCAL_PORT", "9001", 1);
  ::setenv("BIFOCAL_DETERMINISTIC", "true", 1);
  Settings from_environment;
  ASSERT_TRUE(parse_options(serve_command(from_environment), {"m"}).ok());
  EXPECT_EQ(from_environment.serve.port, 9001);
  EXPECT_TRUE(from_environment.engine.deterministic);
  Settings from_flags;
  ASSERT_TRUE(parse_options(serve_command(from_flags), {"m", "--port", "9002", "--no-deterministic"}).ok());
  EXPECT_EQ(from_flags.serve.port, 9002);
  EXPECT_FALSE(from_flags.engine.deterministic);
  ::unsetenv("BIFOCAL_PORT");
  ::unsetenv("BIFOCAL_DETERMINISTIC");
}

TEST(Options, EveryCommandsTableIsSound) {
  for (const Verb& verb : verbs()) {
    Settings settings;
    std::set<std::string_view> names;
    for (const Option& option : verb.options(settings)) {
      EXPECT_TRUE(option.flag.starts_with("--")) << option.flag;
      EXPECT_TRUE(names.insert(option.flag).second) << verb.name << " has " << option.flag << " twice";
      for (const auto alias : option.aliases) EXPECT_TRUE(names.insert(alias).second) << alias;
      EXPECT_FALSE(option.help.empty()) << option.flag;
      EXPECT_EQ(option.value.empty(), std::holds_alternative<bool*>(option.target)) << option.flag;
    }
  }
}

}  // namespace
}  // namespace bifocal::cli
