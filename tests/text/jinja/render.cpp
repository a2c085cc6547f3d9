#include "text/jinja/render.h"

#include <gtest/gtest.h>

#include "text/small_tokenizer.h"

namespace bifocal::text {

Expected<RenderedChat> try_render(const std::string& source, const std::string& variables,
                                  const TemplateLimits& limits) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto chat, ChatTemplate::compile(source, {}, limits));
  ChatInput input;
  input.messages = JsonValue(JsonValue::Array{});
  const JsonValue given = parsed(variables);
  for (const auto& [name, value] : given.as_object()) {
    if (name == "messages") {
      input.messages = value;
    } else {
      input.template_kwargs.emplace_back(name, value);
    }
  }
  return chat->render(input);
}

std::string render(const std::string& source, const std::string& variables) {
  const auto rendered = try_render(source, variables);
  EXPECT_TRUE(rendered.ok()) << rendered.status().message() << "\n" << source;
  return rendered ? rendered->text : "";
}

std::string render_error(const std::string& source, const std::string& variables,
                         const TemplateLimits& limits) {
  const auto rendered = try_render(source, variables, limits);
  EXPECT_FALSE(rendered.ok()) << source.substr(0, 200);
  EXPECT_EQ(rendered.status().code(), StatusCode::invalid_argument);
  return rendered.status().message();
}

}  // namespace bifocal::text
