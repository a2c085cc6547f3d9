#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/clock.h"

namespace bifocal {
namespace {

std::atomic<bool> g_enabled{true};

int64_t now_ns() {
  return SteadyClock::instance().now_ns();
}

}  // namespace

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < std::size(kUnits)) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

int64_t parse_bytes(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0) return -1;
  std::string unit(end, text.data() + text.size());
  std::erase_if(unit, [](char c) { return c == ' '; });
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::string_view kUnits[][4] = {{"", "b", "b", "b"},
                                                   {"k", "kb", "kib", "ki"},
                                                   {"m", "mb", "mib", "mi"},
                                                   {"g", "gb", "gib", "gi"},
                                                   {"t", "tb", "tib", "ti"}};
  double scale = 1;
  for (const auto& names : kUnits) {
    if (std::find(std::begin(names), std::end(names), unit) != std::end(names)) {
      const double bytes = value * scale;
      return bytes < 9.0e18 ? static_cast<int64_t>(bytes) : -1;
    }
    scale *= 1024.0;
  }
  return -1;
}

Progress::Progress(std::string what, uint64_t total, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      start_ns_(now_ns()),
      terminal_(::isatty(STDERR_FILENO) == 1) {
  drawn_ns_ = start_ns_;
}

Progress::~Progress() {
  finish();
}

void Progress::set_enabled(bool enabled) {
  g_enabled.store(enabled);
}

void Progress::advance(uint64_t amount) {
  done_ += amount;
  const int64_t interval_ns = terminal_ ? 100'000'000 : 5'000'000'000;
  if (now_ns() - drawn_ns_ >= interval_ns) draw(false);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  draw(true);
}

void Progress::draw(bool last) {
  drawn_ns_ = now_ns();
  if (!g_enabled.load()) return;
  const double seconds = std::max(1e-9, static_cast<double>(drawn_ns_ - start_ns_) * 1e-9);
  const double rate = static_cast<double>(done_) / seconds;
  const double fraction =
      total_ == 0 ? 1.0 : std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const std::string amounts = unit_ == "B"
                                  ? fmt::format("{} of {}, {}/s", format_bytes(done_), format_bytes(total_),
                                                format_bytes(static_cast<uint64_t>(rate)))
                                  : fmt::format("{} of {} {}, {:.0f}/s", done_, total_, unit_, rate);
  if (terminal_) {
    constexpr int kWidth = 24;
    const int filled = static_cast<int>(std::lround(fraction * kWidth));
    std::fprintf(stderr, "\r%s [%s%s] %3.0f%% %s\x1b[K%s", what_.c_str(),
                 std::string(static_cast<size_t>(filled), '#').c_str(),
                 std::string(static_cast<size_t>(kWidth - filled), '.').c_str(), fraction * 100,
                 amounts.c_str(), last ? "\n" : "");
  } else {
    std::fprintf(stderr, "%s %3.0f%% %s\n", what_.c_str(), fraction * 100, amounts.c_str());
  }
  std::fflush(stderr);
}

}  // namespace bifocal
