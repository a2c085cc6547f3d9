// The tojson filter: what Python's json.dumps writes.
#pragma once

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace bifocal::text::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level; absent: everything on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// False when the value holds what JSON has no form for (undefined values, functions); `unserializable` is its
// type then. Stops soon after max_bytes.
bool dump_json(const Value& value, const JsonStyle& style, size_t max_bytes, Text& out,
               std::string_view& unserializable);

}  // namespace bifocal::text::jinja
