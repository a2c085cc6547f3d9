// Reading the typed components of tokenizer.json: {"type": "NFC", ...}.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "text/regex.h"

namespace bifocal::text {

// The "type" member of a component, an error naming the path when it is missing.
Expected<std::string> component_type(const JsonReader& component, const std::string& path);

// {"Regex": "..."} or {"String": "..."}, or a plain string.
Expected<Regex> read_pattern(const JsonReader& component, std::string_view key);

Expected<bool> read_bool(const JsonReader& component, std::string_view key, bool absent);
Expected<std::string> read_string(const JsonReader& component, std::string_view key);  // required

}  // namespace bifocal::text
