// Every golden conversation, rendered by the model's own template.
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <string>

#include "text/chat_template.h"
#include "text/goldens.h"

namespace bifocal::text {
namespace {

class ChatGolden : public testing::TestWithParam<std::string> {};

ChatInput input_of(const JsonValue& golden) {
  ChatInput input;
  input.messages = *golden.find("messages");
  input.add_generation_prompt = golden.find("add_generation_prompt")->as_bool();
  for (const auto& [name, value] : golden.find("kwargs")->as_object()) {
    if (name == "tools") {
      input.tools = value;
    } else {
      input.template_kwargs.emplace_back(name, value);
    }
  }
  return input;
}

TEST_P(ChatGolden, Renders) {
  const JsonValue golden = load_golden(GetParam());
  const JsonValue* cases = golden.find("chat");
  ASSERT_NE(cases, nullptr);
  const auto chat = ChatTemplate::load(GetParam());
  if (cases->as_array().empty()) {
    EXPECT_EQ(chat.status().code(), StatusCode::not_found);
    return;
  }
  ASSERT_TRUE(chat.ok()) << chat.status().message();
  for (const JsonValue& c : cases->as_array()) {
    SCOPED_TRACE(shortened(to_json(c)));
    const auto rendered = (*chat)->render(input_of(c));
    if (const JsonValue* error = c.find("error")) {
      ASSERT_FALSE(rendered.ok()) << shortened(rendered->text);
      EXPECT_EQ(rendered.status().code(), StatusCode::invalid_argument);
      EXPECT_EQ(rendered.status().message(), error->as_string());
      continue;
    }
    ASSERT_TRUE(rendered.ok()) << rendered.status().message();
    EXPECT_EQ(rendered->text, c.find("text")->as_string());
  }
}

std::string name_of(const testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).filename().string();
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Goldens, ChatGolden, testing::ValuesIn(golden_directories()), name_of);

}  // namespace
}  // namespace bifocal::text
