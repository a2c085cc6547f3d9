// Renders a template for tests.
#pragma once

#include <string>

#include "base/json.h"
#include "text/chat_template.h"

namespace bifocal::text {

// `variables` are a JSON object; a member "messages" of it becomes the messages.
Expected<RenderedChat> try_render(const std::string& source, const std::string& variables = "{}",
                                  const TemplateLimits& limits = {});
// The text; failing the test on an error.
std::string render(const std::string& source, const std::string& variables = "{}");
// The error's message; failing the test when there is none.
std::string render_error(const std::string& source, const std::string& variables = "{}",
                         const TemplateLimits& limits = {});

}  // namespace bifocal::text
