// The golden directories: tests/text/data/*, and those that BIFOCAL_TOKENIZER_GOLDENS names (separated by
// colons).
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace bifocal::text {

// Directories with a golden.json, sorted by name.
std::vector<std::string> golden_directories();
std::string golden_directory(const std::string& name);  // tests/text/data/<name>

JsonValue load_golden(const std::string& directory);  // golden.json

// Strings of any length in a JSON array, for failure messages: at most a few hundred bytes.
std::string shortened(const std::string& text);

}  // namespace bifocal::text
