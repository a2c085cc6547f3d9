// Whether a matrix product is summed in the one order that deterministic mode keeps.
//
// A row's bits don't depend on the algorithm but on the order of its sums. A tensor core adds the products of
// 16 columns to the running sum at a time, so every kernel that goes along the whole of K with one f32
// accumulator gives the same bits, however it tiles the result. Which kernels do so is documented nowhere;
// here all results of random operands are compared with those of run_skinny_link, which does.
#pragma once

#include <cstdint>
#include <functional>

#include "base/status.h"
#include "kernels/cuda/device_memory.h"

namespace bifocal::kernels::cuda {

struct LaunchOptions;
struct LinearArgs;

class OrderCheck {
 public:
  struct Product {
    int max_m = 0;
    int n = 0;
    int k = 0;
    bool bias = false;
    bool f32 = false;  // the result's type, else bf16
  };

  // Computes what is expected of up to max_m rows. unsupported: N is no multiple of 8 or K none of 64.
  // Allocates and synchronises, as does all here.
  static Expected<OrderCheck> create(const Product& product, int num_sms);

  using Run = std::function<Status(const LinearArgs&)>;
  // Whether run's results for m rows, m <= max_m, have the expected bits: as they are and, of bf16, what is
  // left of them when their rounded value is taken away as a residual, which shows eight bits more. A run
  // that fails doesn't pass.
  Expected<bool> passes(int m, const Run& run) const;

 private:
  explicit OrderCheck(const Product& product) : product_(product) {}
  Status fill(int num_sms);
  LinearArgs args(int m) const;
  // Whether run's results, taken apart into a bf16 and the rest, are these.
  Expected<bool> same(const LinearArgs& args, const Run& run, const DeviceMemory& high,
                      const uint16_t* low) const;
  size_t count(int rows, int columns) const {
    return static_cast<size_t>(rows) * static_cast<size_t>(columns);
  }

  Product product_;
  DeviceMemory x_, w_, bias_, out_;
  DeviceMemory sum_;       // bf16 [max_m, N], expected
  DeviceMemory residual_;  // -sum
  DeviceMemory left_;      // bf16 [max_m, N], expected with the residual
  DeviceMemory differing_;
};

}  // namespace bifocal::kernels::cuda
