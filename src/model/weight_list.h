// The names and shapes of a decoder's tensors, block by block.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/spec.h"

namespace bifocal::model {

struct ExpectedWeight {
  std::string name;
  std::vector<int64_t> shape;
  bool in_f32 = false;  // in memory, whatever the matrices' dtype
  int64_t num_elements() const;
};

// What a layer's tensors are called: "model.layers.3." and a part of WeightNames.
class LayerNames {
 public:
  LayerNames(const ModelSpec& spec, size_t layer);

  std::string plain(const std::string& part) const { return prefix_ + part; }
  std::string weight(const std::string& projection) const { return prefix_ + projection + ".weight"; }
  std::string bias(const std::string& projection) const { return prefix_ + projection + ".bias"; }

 private:
  std::string prefix_;
};

// Collects a layer's tensors.
class WeightList {
 public:
  WeightList(LayerNames names, std::vector<ExpectedWeight>& out) : names_(std::move(names)), out_(out) {}

  void tensor(const std::string& part, std::vector<int64_t> shape, bool in_f32 = false) {
    out_.push_back({names_.plain(part), std::move(shape), in_f32});
  }
  void vector(const std::string& part, int64_t n) { tensor(part, {n}, true); }
  void linear(const std::string& projection, int64_t n, int64_t k, bool bias) {
    tensor(projection + ".weight", {n, k});
    if (bias) vector(projection + ".bias", n);
  }

 private:
  LayerNames names_;
  std::vector<ExpectedWeight>& out_;
};

}  // namespace bifocal::model
