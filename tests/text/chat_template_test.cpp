#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "text/jinja/render.h"
#include "text/small_tokenizer.h"

namespace bifocal::text {
namespace {

class ChatTemplateFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "bifocal_text_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(directory_ + "/" + name) << content;
  }
  std::string loaded(const std::string& tools = "null") const {
    const auto chat = ChatTemplate::load(directory_);
    if (!chat) return "error: " + chat.status().message();
    ChatInput input;
    input.messages = parsed(R"([{"role": "user", "content": "hi"}])");
    input.tools = parsed(tools);
    const auto rendered = (*chat)->render(input);
    return rendered ? rendered->text : "error: " + rendered.status().message();
  }

  std::string directory_;
};

TEST_F(ChatTemplateFiles, SpecialTokensInBothSpellings) {
  write("tokenizer_config.json",
        R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
    "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}"})");
  EXPECT_EQ(loaded(), "<s>hi</s>False");
}

TEST_F(ChatTemplateFiles, AFileOfItsOwnComesFirst) {
  write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": "config"})");
  write("chat_template.jinja", "{{ bos_token }}file\n");
  EXPECT_EQ(loaded(), "<s>file");
}

TEST_F(ChatTemplateFiles, NamedTemplates) {
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"},
    {"name": "rag", "template": "{{ broken"}]})");
  EXPECT_EQ(loaded(), "plain");
  EXPECT_EQ(loaded("[]"), "tools");
}

TEST_F(ChatTemplateFiles, Errors) {
  EXPECT_EQ(ChatTemplate::load(directory_).status().code(), StatusCode::not_found);
  write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(ChatTemplate::load(directory_).status().code(), StatusCode::not_found);
  write("tokenizer_config.json", "{");
  EXPECT_EQ(loaded().find("error: " + directory_ + "/tokenizer_config.json: JSON"), 0u);
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_NE(loaded().find("chat_template: expected string or array, got integer"), std::string::npos);
  write("tokenizer_config.json", R"({"chat_template": "a\n{{"})");
  EXPECT_NE(loaded().find("line 2, column 1"), std::string::npos);
  write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": ""}]})");
  EXPECT_NE(loaded().find("named default"), std::string::npos);
}

TEST(ChatTemplate, ArgumentsDoNotShadow) {
  const auto chat =
      ChatTemplate::compile("{{ bos_token }}{{ enable_thinking }}", {{"bos_token", JsonValue("<s>")}});
  ASSERT_TRUE(chat.ok());
  ChatInput input;
  input.messages = JsonValue(JsonValue::Array{});
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "range",
                           "raise_exception", "namespace", "loop"}) {
    input.template_kwargs = {{name, JsonValue(1)}};
    EXPECT_EQ((*chat)->render(input).status().code(), StatusCode::invalid_argument) << name;
  }
  input.template_kwargs = {{"enable_thinking", JsonValue(false)}};
  EXPECT_EQ((*chat)->render(input)->text, "<s>False");
}

TEST(ChatTemplate, NullMembersOfMessagesAreAbsent) {
  const std::string messages =
      R"({"messages": [{"role": "user", "content": null, "tool_calls": null, "x": {"y": null}}]})";
  EXPECT_EQ(render("{% set m = messages[0] %}{{ m.content }}|{{ m.content is defined }}|{{ 'content' in m "
                   "}}|{{ m | length }}",
                   messages),
            "|False|False|2");
  // Older templates ask for none.
  EXPECT_EQ(render("{{ messages[0]['content'] is none }}{{ messages[0].content is none }}{{ "
                   "messages[0].other is none }}",
                   messages),
            "TrueTrueFalse");
  EXPECT_EQ(render("{{ messages[0].x }}", messages), "{'y': None}");
}

TEST(ChatTemplate, ReasoningHasBothNames) {
  const auto both = [](const std::string& message) {
    return render("{{ messages[0].reasoning_content }}|{{ messages[0].thinking }}",
                  R"({"messages": [)" + message + "]}");
  };
  EXPECT_EQ(both(R"({"reasoning_content": "r"})"), "r|r");
  EXPECT_EQ(both(R"({"thinking": "t"})"), "t|t");
  EXPECT_EQ(both(R"({"reasoning": "q", "thinking": null})"), "q|q");
  EXPECT_EQ(both(R"({"reasoning_content": "r", "thinking": "t"})"), "r|t");
  EXPECT_EQ(both(R"({})"), "|");
}

TEST(ChatTemplate, WhateverTheMessagesAre) {
  for (const char* messages : {"null", "5", "\"text\"", "{}", "[1, null, [], {}]", "[{\"role\": 5}]"}) {
    const std::string variables = std::string(R"({"messages": )") + messages + "}";
    (void)try_render("{% for m in messages %}{{ m.role }}{{ m['content'] }}{% endfor %}", variables);
    EXPECT_TRUE(try_render("{{ messages }}{{ messages | tojson }}", variables).ok()) << messages;
  }
}

TEST(ChatTemplate, SourcesMustBeTexts) {
  EXPECT_FALSE(ChatTemplate::compile("\xff", {}).ok());
  EXPECT_FALSE(ChatTemplate::compile(std::string(size_t{2} << 20, 'x'), {}).ok());
  EXPECT_EQ(render(std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(render(""), "");
}

TEST(ChatTemplate, ClockHasTheAskedFormat) {
  const std::string date = render("{{ strftime_now('%Y-%m-%d') }}");
  EXPECT_EQ(date.size(), 10u);
  EXPECT_EQ(date.substr(0, 2), "20");
}

}  // namespace
}  // namespace bifocal::text
