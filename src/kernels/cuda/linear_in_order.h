// Deterministic mode's products: for every number of rows a kernel, and all have the same bits.
#pragma once

#include <map>
#include <tuple>

#include "base/status.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear_measure.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/linear_table.h"

namespace bifocal::kernels::cuda {

// What products are tried on.
struct OrderedDevice {
  const CublasLt* cublaslt = nullptr;
  int num_sms = 0;
  void* skinny_workspace = nullptr;
  void* cublaslt_workspace = nullptr;
};

class InOrderProducts {
 public:
  // Finds what serves each bucket of rows: the table's choice if it passes an OrderCheck, else the fastest
  // that does. Up to kLinkMaxM rows of bf16 none is needed: they have run_skinny_link, whose order it
  // is. unsupported: for some number of rows nothing passes; the product then has to be served in another
  // order.
  Status prepare(const LinearProduct& product, const LinearTable& table, const OrderedDevice& device);

  bool has(const LinearArgs& args) const { return max_rows_.count(key_of(args)) != 0; }
  // Of a product that it has. unsupported: more rows than prepared.
  Expected<LinearChoice> choice(const LinearArgs& args) const;

 private:
  using Key = std::tuple<int, int, bool, DType>;  // N, K, bias, the result's type
  static Key key_of(const LinearArgs& args);

  std::map<Key, int> max_rows_;
  std::map<std::pair<Key, int>, LinearChoice> choices_;  // by bucket
};

// The fastest for product.max_m rows of those that pass. unsupported: none.
Expected<LinearMeasured> measure_in_order(const LinearProduct& product, const OrderedDevice& device);

}  // namespace bifocal::kernels::cuda
