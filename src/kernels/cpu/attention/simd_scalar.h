// Eight plain floats with the interface of the vector units: portable, and what the others are checked
// against.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention/element.h"

namespace bifocal::kernels::cpu {

struct ScalarSimd {
  static constexpr int kWidth = 8;
  static constexpr int kTileRows = 4;  // rows of a register tile, kTileVectors vectors wide
  static constexpr int kTileVectors = 2;
  static constexpr int kAccumulators = 8;
  struct V {
    float lane[kWidth];
  };

  static V zero() { return V{}; }
  static V set1(float x) {
    V r;
    for (float& lane : r.lane) lane = x;
    return r;
  }
  static V load(const float* p) {
    V r;
    std::memcpy(r.lane, p, sizeof(r.lane));
    return r;
  }
  static void store(float* p, V v) { std::memcpy(p, v.lane, sizeof(v.lane)); }
  static V add(V a, V b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static V sub(V a, V b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] -= b.lane[i];
    return a;
  }
  static V mul(V a, V b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] *= b.lane[i];
    return a;
  }
  static V div(V a, V b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] /= b.lane[i];
    return a;
  }
  static V fma(V a, V b, V c) {
    for (int i = 0; i < kWidth; ++i) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
  }
  // b where either is NaN, as the vector units do.
  static V max(V a, V b) {
    for (int i = 0; i < kWidth; ++i) b.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return b;
  }
  static V round(V v) {
    for (float& lane : v.lane) lane = std::nearbyintf(lane);
    return v;
  }
  // p * 2^n for whole n in [-126, 127]
  static V scale_by_power_of_two(V p, V n) {
    for (int i = 0; i < kWidth; ++i) {
      // A NaN logit must stay one, and converting it to an integer is undefined.
      const bool whole = n.lane[i] >= -126.0F && n.lane[i] <= 127.0F;
      const uint32_t exponent =
          whole ? static_cast<uint32_t>(static_cast<int32_t>(n.lane[i]) + 127) << 23 : 0U;
      p.lane[i] *= std::bit_cast<float>(exponent);
    }
    return p;
  }
  static V zero_where_less(V value, V x, V limit) {
    for (int i = 0; i < kWidth; ++i) value.lane[i] = x.lane[i] < limit.lane[i] ? 0.0F : value.lane[i];
    return value;
  }
  // Lanes outside [begin, end) become -inf.
  static V keep_range(V v, int begin, int end) {
    for (int i = 0; i < kWidth; ++i) {
      if (i < begin || i >= end) v.lane[i] = -std::numeric_limits<float>::infinity();
    }
    return v;
  }
  static float reduce_max(V v) {
    for (int step = kWidth / 2; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) {
        v.lane[i] = v.lane[i] > v.lane[i + step] ? v.lane[i] : v.lane[i + step];
      }
    }
    return v.lane[0];
  }
  static float reduce_add(V v) {
    for (int step = kWidth / 2; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) v.lane[i] += v.lane[i + step];
    }
    return v.lane[0];
  }
  // Lane i of the result is the sum over a[i].
  static V reduce_each(const V (&a)[kWidth]) {
    V r;
    for (int i = 0; i < kWidth; ++i) r.lane[i] = reduce_add(a[i]);
    return r;
  }
  static void transpose(V (&rows)[kWidth]) {
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < i; ++j) std::swap(rows[i].lane[j], rows[j].lane[i]);
    }
  }
  template <DType kDType>
  static V load_kv(const void* p) {
    V r;
    for (int i = 0; i < kWidth; ++i) r.lane[i] = load_element<kDType>(p, i);
    return r;
  }
  static void prefetch(const void* p) { __builtin_prefetch(p); }
};

}  // namespace bifocal::kernels::cpu
