#include "text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace bifocal::text {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool keep_stop) : keep_stop_(keep_stop) {
  for (std::string& text : stops) {
    if (text.empty()) continue;
    Stop stop;
    stop.fallback.assign(text.size() + 1, 0);
    for (size_t n = 1, border = 0; n < text.size(); ++n) {
      while (border > 0 && text[n] != text[border]) border = stop.fallback[border];
      if (text[n] == text[border]) ++border;
      stop.fallback[n + 1] = border;
    }
    stop.text = std::move(text);
    stops_.push_back(std::move(stop));
  }
}

void StopMatcher::Stop::advance(char byte) {
  while (matched > 0 && text[matched] != byte) matched = fallback[matched];
  if (text[matched] == byte) ++matched;
}

StopMatcher::Result StopMatcher::push(std::string_view text) {
  Result result;
  if (stopped_) return result;
  for (const char byte : text) {
    held_ += byte;
    const Stop* found = nullptr;
    for (Stop& stop : stops_) {
      stop.advance(byte);
      const bool complete = stop.matched == stop.text.size();
      if (complete && (found == nullptr || stop.text.size() > found->text.size())) found = &stop;
    }
    if (found != nullptr) {
      stopped_ = true;
      if (!keep_stop_) held_.resize(held_.size() - found->text.size());
      result.text = std::exchange(held_, {});
      result.matched = found->text;
      return result;
    }
  }
  size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.matched);
  result.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return result;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace bifocal::text
