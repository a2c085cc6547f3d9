#include "base/clock.h"

#include <chrono>
#include <cmath>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bifocal {
namespace {

// CPUID's "invariant TSC".
bool has_steady_counter() {
#if defined(__x86_64__)
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) == 1 && (d >> 8 & 1U) != 0;
#else
  return false;
#endif
}

}  // namespace

const bool detail::kCounterIsSteady = has_steady_counter();

int64_t SteadyClock::now_ns() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

const SteadyClock& SteadyClock::instance() {
  static const SteadyClock clock;
  return clock;
}

ClockPoint ClockPoint::now() {
  return {bifocal::ticks(), SteadyClock::instance().now_ns()};
}

int64_t to_ns(int64_t at, const ClockPoint& a, const ClockPoint& b) {
  const auto length = static_cast<double>(b.ticks - a.ticks);
  const double rate = length > 0 ? static_cast<double>(b.ns - a.ns) / length : 0.0;
  return a.ns + static_cast<int64_t>(std::floor(static_cast<double>(at - a.ticks) * rate));
}

}  // namespace bifocal
