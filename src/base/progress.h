// A progress bar on a terminal, or a line every few seconds where stderr is not one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bifocal {

class Progress {
 public:
  // unit "B" prints bytes as MiB and GiB with a rate; anything else prints counts ("tokens").
  Progress(std::string what, uint64_t total, std::string unit);
  ~Progress();  // finishes
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(uint64_t amount);
  void finish();

  static void set_enabled(bool enabled);  // --no-progress, tests

 private:
  void draw(bool last);
  std::string what_;
  std::string unit_;
  uint64_t total_;
  uint64_t done_ = 0;
  int64_t start_ns_;
  int64_t drawn_ns_ = 0;
  bool terminal_;
  bool finished_ = false;
};

std::string format_bytes(uint64_t bytes);  // "512 B", "1.5 MiB"
// "8GiB", "512MiB", "1.5G", "1048576": binary multiples. Errors are left to the caller: negative result.
int64_t parse_bytes(std::string_view text);

}  // namespace bifocal
