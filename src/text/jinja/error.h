// How a template fails: the position and what is wrong. Thrown within the template engine only; compile() and
// render() of ChatTemplate turn it into a Status.
#pragma once

#include <string>

namespace bifocal::text::jinja {

struct Position {
  int line = 1;    // from 1
  int column = 1;  // from 1, in characters
};

struct TemplateError {
  Position position;
  std::string message;
  bool raised_by_template = false;  // raise_exception: the message is meant for the caller as it is
};

}  // namespace bifocal::text::jinja
