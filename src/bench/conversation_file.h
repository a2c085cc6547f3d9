// Files of conversations: ShareGPT's JSON array, or one JSON object per line.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace bifocal::bench {

struct Conversation {
  std::string question;  // the first turn
  std::string answer;    // the second
};

// Those of at least two turns, in order. Errors: reading the file; data_loss naming the entry that is wrong.
Expected<std::vector<Conversation>> read_sharegpt(const std::string& path);
Expected<std::vector<Conversation>> read_conversation_lines(const std::string& path);

}  // namespace bifocal::bench
