#include "tensor/tensor.h"

#include <fmt/format.h>

#include "base/check.h"

namespace bifocal {

std::string_view to_string(DeviceKind kind) {
  return kind == DeviceKind::cpu ? "cpu" : "cuda";
}

std::string to_string(Device device) {
  return device.kind == DeviceKind::cpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

TensorView TensorView::contiguous(void* data, DType dtype, std::span<const int64_t> shape, Device device) {
  BIFOCAL_CHECK_LE(shape.size(), static_cast<size_t>(kMaxRank));
  TensorView view;
  view.data = data;
  view.dtype = dtype;
  view.rank = static_cast<int>(shape.size());
  view.device = device;
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    view.shape[i] = shape[i];
    view.strides[i] = stride;
    if (i > 0) stride *= shape[i];  // the product of all need not fit
  }
  return view;
}

int64_t TensorView::num_elements() const {
  int64_t count = 1;
  for (int i = 0; i < rank; ++i) count *= shape[static_cast<size_t>(i)];
  return count;
}

std::string shape_to_string(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ","));
}

std::string to_string(const TensorView& view) {
  return fmt::format("{}{}", to_string(view.dtype),
                     shape_to_string({view.shape.data(), static_cast<size_t>(view.rank)}));
}

Expected<Tensor> Tensor::allocate(DType dtype, std::span<const int64_t> shape, Device device) {
  if (device.kind != DeviceKind::cpu) return unsupported(fmt::format("no memory on {}", to_string(device)));
  if (shape.size() > static_cast<size_t>(kMaxRank)) {
    return invalid_argument(fmt::format("rank {}, expected at most {}", shape.size(), kMaxRank));
  }
  uint64_t bytes = size_of(dtype);
  for (const int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) {
      return invalid_argument(
          fmt::format("{}{} does not fit memory", to_string(dtype), shape_to_string(shape)));
    }
  }
  Expected<HostMemory> memory = HostMemory::allocate(bytes);
  if (!memory.ok()) {
    return resource_exhausted(
        fmt::format("{}{}: {}", to_string(dtype), shape_to_string(shape), memory.status().message()));
  }
  Tensor tensor;
  tensor.memory_ = *std::move(memory);
  tensor.view_ = TensorView::contiguous(tensor.memory_.data(), dtype, shape, device);
  return tensor;
}

}  // namespace bifocal
