// Which kind of matrix product serves which shape: measured once per device, kept as JSON.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace bifocal::kernels::cuda {

enum class LinearKind : uint8_t { cublaslt, skinny };

struct LinearChoice {
  int m_bucket = 0;  // serves M in (m_bucket / 2, m_bucket]; 0: every M
  int n = 0;
  int k = 0;
  LinearKind kind = LinearKind::cublaslt;
  std::array<uint64_t, 8> algorithm{};  // cublasLtMatmulAlgo_t, as the version below wrote it
  double us = 0.0;                      // measured, weights cold
};

struct LinearTable {
  uint64_t cublaslt_version = 0;  // algorithms of another version are not used
  std::vector<LinearChoice> choices;

  const LinearChoice* find(int m_bucket, int n, int k) const;
  void add(const LinearChoice& choice);  // in the place of one for the same shape
};

// Smallest power of two from M up, at least 8.
int linear_bucket(int m);

std::string to_json(const LinearTable& table);
Expected<LinearTable> parse_linear_table(std::string_view text);

}  // namespace bifocal::kernels::cuda
