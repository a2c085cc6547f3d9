#include "model/weight_loader.h"

#include <fmt/format.h>

#include <vector>

#include "base/check.h"
#include "model/expected_weights.h"

namespace bifocal::model {
using kernels::cpu::PackedMatrix;

float element_as_float(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::f16:
      return to_float(view.as<Float16>()[i]);
    case DType::bf16:
      return to_float(view.as<BFloat16>()[i]);
    default:
      return view.as<float>()[i];
  }
}

Expected<PackedMatrix> WeightLoader::matrix(std::initializer_list<Part> parts, int64_t k, DType dtype) {
  BIFOCAL_CHECK_LE(parts.size(), staging_.size());
  std::vector<TensorView> views;
  for (const auto& [name, n] : parts) {
    const int64_t shape[] = {n, k};
    BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, read(name, shape, staging_[views.size()]));
    views.push_back(view);
  }
  return pack(views, dtype);
}

Expected<PackedMatrix> WeightLoader::pack(std::span<const TensorView> matrices, DType dtype) {
  BIFOCAL_ASSIGN_OR_RETURN(PackedMatrix packed, PackedMatrix::pack(matrices, dtype, pool_));
  num_bytes_ += packed.num_bytes();
  return packed;
}

Expected<Tensor> WeightLoader::vector(std::initializer_list<Part> parts) {
  int64_t total = 0;
  for (const auto& [name, n] : parts) total += n;
  BIFOCAL_ASSIGN_OR_RETURN(Tensor out, Tensor::allocate(DType::f32, {total}));
  float* target = out.view().as<float>();
  for (const auto& [name, n] : parts) {
    const int64_t shape[] = {n};
    BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, read(name, shape, staging_[0]));
    for (int64_t i = 0; i < n; ++i) *target++ = element_as_float(view, i);
  }
  num_bytes_ += out.view().num_bytes();
  return out;
}

Expected<Tensor> WeightLoader::values(const std::string& name, std::span<const int64_t> shape) {
  BIFOCAL_ASSIGN_OR_RETURN(Tensor out, Tensor::allocate(DType::f32, shape));
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, read(name, shape, staging_[0]));
  for (int64_t i = 0; i < view.num_elements(); ++i) out.view().as<float>()[i] = element_as_float(view, i);
  num_bytes_ += out.view().num_bytes();
  return out;
}

Expected<TensorView> WeightLoader::read(const std::string& name, std::span<const int64_t> shape,
                                        Tensor& staging) {
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, source_.read(name, shape, staging));
  if (!is_loadable(view.dtype)) {
    return unsupported(fmt::format("tensor {} is {}, expected f32, f16 or bf16", weights::quoted(name),
                                   to_string(view.dtype)));
  }
  if (progress_ != nullptr) progress_->advance(view.num_bytes());
  return view;
}

}  // namespace bifocal::model
