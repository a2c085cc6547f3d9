#include "text/goldens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"

namespace bifocal::text {

std::string golden_directory(const std::string& name) {
  return std::string(BIFOCAL_SOURCE_DIR) + "/tests/text/data/" + name;
}

std::vector<std::string> golden_directories() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(golden_directory(""))) {
    if (file_exists(entry.path().string() + "/golden.json")) out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  if (const char* more = std::getenv("BIFOCAL_TOKENIZER_GOLDENS")) {
    std::istringstream list(more);
    for (std::string directory; std::getline(list, directory, ':');) {
      if (!directory.empty()) out.push_back(directory);
    }
  }
  return out;
}

JsonValue load_golden(const std::string& directory) {
  const auto text = read_file(directory + "/golden.json", uint64_t{64} << 20);
  EXPECT_TRUE(text.ok()) << text.status().message();
  if (!text) return {};
  const auto json = parse_json(*text, {.max_bytes = uint64_t{64} << 20});
  EXPECT_TRUE(json.ok()) << json.status().message();
  return json ? *json : JsonValue();
}

std::string shortened(const std::string& text) {
  constexpr size_t kMax = 300;
  std::string out;
  append_json_string(out, text.substr(0, kMax));
  return text.size() > kMax ? out + "..." : out;
}

}  // namespace bifocal::text
