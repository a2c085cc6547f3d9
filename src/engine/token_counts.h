// Which tokens a choice has seen, and how often it wrote each: what the penalties read.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace bifocal::engine {

class TokenCounts {
 public:
  struct Entry {
    int32_t token = 0;
    int32_t written = 0;  // times in the output; 0: in the prompt only
  };

  void add_prompt(std::span<const int32_t> tokens) {
    for (const int32_t token : tokens) entry(token);
  }
  void add_output(int32_t token) { ++entry(token).written; }
  std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& entry(int32_t token) {
    const auto [it, inserted] = index_.try_emplace(token, entries_.size());
    if (inserted) entries_.push_back({token, 0});
    return entries_[it->second];
  }

  std::unordered_map<int32_t, size_t> index_;
  std::vector<Entry> entries_;
};

}  // namespace bifocal::engine
