#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace bifocal::model {
namespace {

using weights::RopeConfig;
using weights::RopeType;

// 0 where a frequency turns often enough over the original context to be kept, 1 where it is interpolated
// fully.
struct YarnRamp {
  double low = 0;
  double high = 0;
  double at(int j) const { return std::clamp((j - low) / (high - low), 0.0, 1.0); }
};

YarnRamp yarn_ramp(const RopeConfig& config, int rotary_dim, double original_positions) {
  // The (fractional) pair that turns `rotations` times over the original context.
  const auto pair_of = [&](double rotations) {
    return rotary_dim * std::log(original_positions / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.theta));
  };
  double low = pair_of(config.beta_fast);
  double high = pair_of(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotary_dim - 1.0);
  if (low == high) high += 0.001;
  return {low, high};
}

double yarn_attention_factor(const RopeConfig& config) {
  const auto magnitude = [&](double scale) {
    return config.factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(config.factor) + 1.0;
  };
  if (config.attention_factor) return *config.attention_factor;
  if (config.mscale != 0.0 && config.mscale_all_dim != 0.0) {
    return magnitude(config.mscale) / magnitude(config.mscale_all_dim);
  }
  return magnitude(1.0);
}

double llama3_frequency(const RopeConfig& config, double frequency) {
  const auto original = static_cast<double>(config.original_max_positions.value_or(1));
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength < original / config.high_freq_factor) return frequency;
  if (wavelength > original / config.low_freq_factor) return frequency / config.factor;
  const double smooth =
      (original / wavelength - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1.0 - smooth) * frequency / config.factor + smooth * frequency;
}

}  // namespace

RopeSpec make_rope(const RopeConfig& config, int rotary_dim, int max_positions) {
  BIFOCAL_CHECK_EQ(rotary_dim % 2, 0);
  RopeSpec rope;
  rope.rotary_dim = rotary_dim;
  YarnRamp ramp;
  if (config.type == RopeType::yarn) {
    const auto original = static_cast<double>(config.original_max_positions.value_or(max_positions));
    ramp = yarn_ramp(config, rotary_dim, original);
    rope.attention_factor = static_cast<float>(yarn_attention_factor(config));
  }
  for (int j = 0; j < rotary_dim / 2; ++j) {
    double frequency = std::pow(config.theta, -2.0 * j / rotary_dim);
    switch (config.type) {
      case RopeType::plain:
        break;
      case RopeType::linear:
        frequency /= config.factor;
        break;
      case RopeType::llama3:
        frequency = llama3_frequency(config, frequency);
        break;
      case RopeType::yarn:
        frequency = frequency / config.factor * ramp.at(j) + frequency * (1.0 - ramp.at(j));
        break;
    }
    rope.inv_freq.push_back(static_cast<float>(frequency));
  }
  return rope;
}

}  // namespace bifocal::model
