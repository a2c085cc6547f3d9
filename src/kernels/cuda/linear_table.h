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

// A product's shape: what a choice is made for. Gated: N is 2 I, and the gate is part of what was measured.
struct LinearShape {
  int m_bucket = 0;  // serves M in (m_bucket / 2, m_bucket]
  int n = 0;
  int k = 0;
  bool gated = false;
  bool in_order = false;  // of deterministic mode: sums along the whole of K in one order (OrderCheck)
  bool operator==(const LinearShape&) const = default;
};

struct LinearChoice {
  LinearShape shape;
  LinearKind kind = LinearKind::cublaslt;
  std::array<uint64_t, 8> algorithm{};  // cublasLtMatmulAlgo_t, as the version below wrote it
  double us = 0.0;                      // measured, weights cold
};

struct LinearTable {
  std::string device;             // "NVIDIA H200": where it was measured
  uint64_t cublaslt_version = 0;  // that wrote the algorithms
  std::vector<LinearChoice> choices;

  const LinearChoice* find(const LinearShape& shape) const;
  void add(const LinearChoice& choice);  // in the place of one for the same shape
};

// Smallest power of two from M up, at least 8.
int linear_bucket(int m);

std::string to_json(const LinearTable& table);
// invalid_argument names the field that is missing or wrong.
Expected<LinearTable> parse_linear_table(std::string_view text);

// ok, or unsupported: why a table that was measured elsewhere is of no use here.
Status check_linear_table(const LinearTable& table, std::string_view device, uint64_t cublaslt_version);

}  // namespace bifocal::kernels::cuda
