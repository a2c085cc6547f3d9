// How much of max_new_tokens a sequence is expected to generate: what admission leaves room for.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bifocal::engine {

// SGLang's rule: start cautious, relax while all goes well, become cautious again when memory ran out.
class NewTokenRatio {
 public:
  // conservativeness 1 is SGLang's default; 0 expects nothing, so that memory is only ever found out to be
  // short.
  explicit NewTokenRatio(double conservativeness)
      : initial_(std::clamp(kInitial * conservativeness, 0.0, 1.0)) {
    on_idle();
  }
  double value() const { return value_; }
  void on_step() { value_ = std::max(kFloor * initial_, value_ - (1 - kFloor) * initial_ / kDecaySteps); }
  // granted: max_new_tokens of those that went on running; generated: what they had when memory ran out.
  void on_retraction(int64_t generated, int64_t granted) {
    const double seen = granted > 0 ? static_cast<double>(generated) / static_cast<double>(granted) : 1.0;
    value_ = std::clamp(seen, initial_, 1.0);
  }
  void on_idle() { value_ = initial_; }

 private:
  static constexpr double kInitial = 0.7;
  static constexpr double kFloor = 0.14;  // of the initial value
  static constexpr double kDecaySteps = 600;
  double initial_;
  double value_ = 0;
};

}  // namespace bifocal::engine
