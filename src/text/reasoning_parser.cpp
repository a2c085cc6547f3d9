#include "text/reasoning_parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

namespace bifocal::text {
namespace {

struct Format {
  std::string_view name;
  std::string_view open;
  std::string_view close;
  std::string_view interrupt;  // also ends the reasoning, and stays in the content; "": none
  bool always_reasons;         // the text begins inside the block, with or without `open`
};

constexpr std::array<Format, 6> kFormats = {{
    {"qwen3", "<think>", "</think>", "<tool_call>", false},
    {"qwen3-thinking", "<think>", "</think>", "<tool_call>", true},
    {"deepseek-r1", "<think>", "</think>", "", true},
    {"deepseek-v3", "<think>", "</think>", "", false},
    {"glm45", "<think>", "</think>", "<tool_call>", false},
    {"kimi", "◁think▷", "◁/think▷", "", false},
}};

// Bytes at the end of text that could begin `marker`.
size_t partial_marker(std::string_view text, std::string_view marker) {
  size_t n = std::min(text.size(), marker.empty() ? 0 : marker.size() - 1);
  while (n > 0 && !text.ends_with(marker.substr(0, n))) --n;
  return n;
}

class TaggedReasoning : public ReasoningParser {
 public:
  TaggedReasoning(const Format& format, bool in_reasoning)
      : format_(format), state_(in_reasoning ? State::reasoning_start : State::start) {}

  ReasoningDelta push(std::string_view text) override {
    held_ += text;
    ReasoningDelta delta;
    while (step(delta)) {
    }
    return delta;
  }

  ReasoningDelta finish() override {
    ReasoningDelta delta;
    std::string rest = std::exchange(held_, {});
    switch (state_) {
      case State::reasoning:
      case State::reasoning_start:
        add_reasoning(rest, delta);
        break;
      case State::start:
      case State::content:
        delta.content = std::move(rest);
        break;
      case State::content_start:
        break;  // newlines only
    }
    return delta;
  }

 private:
  enum class State {
    start,            // before any block: white space may still turn out to precede it
    reasoning_start,  // in the block, before its first character: `open` and newlines are dropped
    reasoning,
    content_start,  // after the block: newlines are dropped
    content,
  };

  // Consumes some of held_; false when more text is needed.
  bool step(ReasoningDelta& delta) {
    switch (state_) {
      case State::start:
        return step_start(delta);
      case State::reasoning_start:
        return step_reasoning_start();
      case State::reasoning:
        return step_reasoning(delta);
      case State::content_start: {
        held_.erase(0, std::min(held_.find_first_not_of('\n'), held_.size()));
        if (held_.empty()) return false;
        state_ = State::content;
        return true;
      }
      case State::content:
        delta.content += std::exchange(held_, {});
        return false;
    }
    return false;
  }

  bool step_start(ReasoningDelta& delta) {
    const size_t first = held_.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return false;
    const std::string_view rest = std::string_view(held_).substr(first);
    if (rest.starts_with(format_.open)) {
      held_.erase(0, first + format_.open.size());
      state_ = State::reasoning_start;
      return true;
    }
    if (format_.open.starts_with(rest)) return false;
    state_ = State::content;
    return step(delta);
  }

  bool step_reasoning_start() {
    held_.erase(0, std::min(held_.find_first_not_of('\n'), held_.size()));
    if (held_.empty()) return false;
    if (std::string_view(held_).starts_with(format_.open)) {
      held_.erase(0, format_.open.size());
      return true;
    }
    if (format_.open.starts_with(held_)) return false;
    state_ = State::reasoning;
    return true;
  }

  bool step_reasoning(ReasoningDelta& delta) {
    const size_t close = held_.find(format_.close);
    const size_t interrupt = format_.interrupt.empty() ? std::string::npos : held_.find(format_.interrupt);
    const size_t end = std::min(close, interrupt);
    if (end != std::string::npos) {
      add_reasoning(std::string_view(held_).substr(0, end), delta);
      held_.erase(0, end == close ? end + format_.close.size() : end);
      state_ = State::content_start;
      return true;
    }
    const size_t keep =
        std::max(partial_marker(held_, format_.close), partial_marker(held_, format_.interrupt));
    add_reasoning(std::string_view(held_).substr(0, held_.size() - keep), delta);
    held_.erase(0, held_.size() - keep);
    return false;
  }

  // Newlines wait until something follows them, so that those before the end of the block are dropped.
  void add_reasoning(std::string_view text, ReasoningDelta& delta) {
    const size_t last = text.find_last_not_of('\n');
    if (last == std::string_view::npos) {
      newlines_ += text.size();
      return;
    }
    delta.reasoning.append(std::exchange(newlines_, 0), '\n').append(text.substr(0, last + 1));
    newlines_ = text.size() - last - 1;
  }

  const Format& format_;
  State state_;
  std::string held_;
  size_t newlines_ = 0;  // at the end of the reasoning so far, not yet released
};

}  // namespace

Expected<std::unique_ptr<ReasoningParser>> ReasoningParser::create(std::string_view name,
                                                                   bool starts_in_reasoning) {
  for (const Format& format : kFormats) {
    if (format.name != name) continue;
    return std::unique_ptr<ReasoningParser>(
        std::make_unique<TaggedReasoning>(format, starts_in_reasoning || format.always_reasons));
  }
  return invalid_argument(
      fmt::format("reasoning parser \"{}\" is unknown, expected one of {}", name, fmt::join(names(), ", ")));
}

std::vector<std::string_view> ReasoningParser::names() {
  std::vector<std::string_view> out;
  for (const Format& format : kFormats) out.push_back(format.name);
  return out;
}

}  // namespace bifocal::text
