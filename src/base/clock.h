// Time as a dependency, so that schedulers can be simulated.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace bifocal {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() const = 0;  // monotonic
  double now_s() const { return static_cast<double>(now_ns()) * 1e-9; }
};

class SteadyClock final : public Clock {
 public:
  int64_t now_ns() const override;
  static const SteadyClock& instance();
};

class VirtualClock final : public Clock {
 public:
  int64_t now_ns() const override { return now_ns_; }
  void advance_ns(int64_t delta_ns) { now_ns_ += delta_ns; }

 private:
  int64_t now_ns_ = 0;
};

// The cheapest steady clock there is, in units of its own: the processor's counter where that runs at one
// rate on all cores, else the steady clock's nanoseconds.
namespace detail {
extern const bool kCounterIsSteady;
}
inline int64_t ticks() {
#if defined(__x86_64__)
  if (detail::kCounterIsSteady) return static_cast<int64_t>(__rdtsc());
#endif
  return SteadyClock::instance().now_ns();
}

// One moment on both clocks; two of them give the rate.
struct ClockPoint {
  int64_t ticks = 0;
  int64_t ns = 0;  // SteadyClock
  static ClockPoint now();
};
// What `at` ticks are on the steady clock, by the line through a and b; b is not before a.
int64_t to_ns(int64_t at, const ClockPoint& a, const ClockPoint& b);

}  // namespace bifocal
