// The one tensor view, and the owner of its memory.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/host_memory.h"

namespace bifocal {

constexpr int kMaxRank = 5;

// Shape, element strides and address; owns nothing. Row-major unless made with other strides.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> strides{};  // in elements
  Device device;

  static TensorView contiguous(void* data, DType dtype, std::span<const int64_t> shape, Device device = {});

  int64_t num_elements() const;
  size_t num_bytes() const { return static_cast<size_t>(num_elements()) * size_of(dtype); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

std::string shape_to_string(std::span<const int64_t> shape);  // "[2,3]"
std::string to_string(const TensorView& view);                // "bf16[2,3]"

// Memory on a device, aligned to 64 bytes (a cache line, an AVX-512 register), zeroed.
class Tensor {
 public:
  Tensor() = default;
  static Expected<Tensor> allocate(DType dtype, std::span<const int64_t> shape, Device device = {});
  static Expected<Tensor> allocate(DType dtype, std::initializer_list<int64_t> shape, Device device = {}) {
    return allocate(dtype, std::span<const int64_t>(shape.begin(), shape.size()), device);
  }

  const TensorView& view() const { return view_; }
  bool empty() const { return view_.data == nullptr; }

 private:
  HostMemory memory_;
  TensorView view_;
};

}  // namespace bifocal
