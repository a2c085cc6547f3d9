// The quantised tensors of a checkpoint under the names of what they stand for.
#include "weights/checkpoint_quantised.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "weights/checkpoint.h"
#include "weights/weight_source.h"

namespace bifocal::weights {
namespace {

constexpr int64_t kMxValues = 32;
constexpr std::string_view kFp8Scales = "_scale_inv";
constexpr std::string_view kMxBlocks = "_blocks";
constexpr std::string_view kMxScales = "_scales";

int64_t num_blocks(int64_t n, int64_t block) {
  return (n + block - 1) / block;
}

TensorInfo stand_in(std::string name, DType dtype, std::vector<int64_t> shape) {
  TensorInfo info;
  info.name = std::move(name);
  info.dtype = dtype;
  info.shape = std::move(shape);
  info.end = size_of(dtype);
  for (const int64_t dim : info.shape) info.end *= static_cast<uint64_t>(dim);
  return info;
}

}  // namespace

Status Checkpoint::check_scales(const std::string& name, const Entry& scales,
                                std::span<const int64_t> shape) const {
  if (std::equal(shape.begin(), shape.end(), scales.info->shape.begin(), scales.info->shape.end())) return {};
  return data_loss(fmt::format("{}: tensor {} has shape {}, expected {} from the tensor that it scales",
                               files_[scales.file].path(), quoted(name), shape_to_string(scales.info->shape),
                               shape_to_string(shape)));
}

Status Checkpoint::fold_fp8(const Quantisation& quantisation) {
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    auto& [name, entry] = *at;
    if (entry.info->dtype != DType::f8_e4m3) continue;
    const std::string scale_name = name + std::string(kFp8Scales);
    const auto scales = entries_.find(scale_name);
    if (scales == entries_.end() || entry.info->shape.size() != 2 || entry.info->num_bytes() == 0) {
      return data_loss(fmt::format("{}: tensor {} is f8_e4m3 {}, expected two dimensions and a tensor {}",
                                   files_[entry.file].path(), quoted(name),
                                   shape_to_string(entry.info->shape), quoted(scale_name)));
    }
    const int64_t shape[] = {num_blocks(entry.info->shape[0], quantisation.block_rows),
                             num_blocks(entry.info->shape[1], quantisation.block_columns)};
    BIFOCAL_RETURN_IF_ERROR(check_scales(scale_name, scales->second, shape));
    const DType dtype = scales->second.info->dtype;
    if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16) {
      return unsupported(fmt::format("{}: tensor {} is {}, expected f32, f16 or bf16",
                                     files_[scales->second.file].path(), quoted(scale_name),
                                     to_string(dtype)));
    }
    entry.quantised = QuantisedTensor{quantisation, bytes(entry), bytes(scales->second), dtype};
    unquantised_.push_back(stand_in(name, DType::f32, entry.info->shape));
    entry.info = &unquantised_.back();
    entries_.erase(scales);  // another node of the map: `at` stays valid
  }
  return {};
}

Status Checkpoint::fold_mxfp4(const Quantisation& quantisation) {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    if (entry.info->dtype == DType::u8 && name.ends_with(kMxBlocks)) {
      names.push_back(name.substr(0, name.size() - kMxBlocks.size()));
    }
  }
  for (const std::string& name : names) {
    const std::string block_name = name + std::string(kMxBlocks);
    const std::string scale_name = name + std::string(kMxScales);
    const auto blocks = entries_.find(block_name);
    const auto scales = entries_.find(scale_name);
    const std::vector<int64_t>& shape = blocks->second.info->shape;
    if (scales == entries_.end() || scales->second.info->dtype != DType::u8 || shape.size() < 3 ||
        shape.back() != kMxValues / 2 || blocks->second.info->num_bytes() == 0) {
      return data_loss(
          fmt::format("{}: tensor {} is u8 {}, expected [..., N, K/32, 16] and a tensor {} in u8",
                      files_[blocks->second.file].path(), quoted(block_name), shape_to_string(shape),
                      quoted(scale_name)));
    }
    BIFOCAL_RETURN_IF_ERROR(check_scales(scale_name, scales->second, {shape.data(), shape.size() - 1}));
    if (entries_.contains(name)) {
      return data_loss(fmt::format("{}: tensors {} and {} are both present",
                                   files_[blocks->second.file].path(), quoted(name), quoted(block_name)));
    }
    std::vector<int64_t> matrices(shape.begin(), shape.end() - 1);
    matrices.back() *= kMxValues;
    std::swap(matrices.back(), matrices[matrices.size() - 2]);
    unquantised_.push_back(stand_in(name, DType::bf16, std::move(matrices)));
    Entry entry;
    entry.info = &unquantised_.back();
    entry.file = blocks->second.file;
    entry.quantised = QuantisedTensor{quantisation, bytes(blocks->second), bytes(scales->second), DType::u8};
    entries_.erase(blocks);
    entries_.erase(scales);
    entries_.emplace(name, std::move(entry));
  }
  return {};
}

Expected<TensorView> dequantise(const QuantisedTensor& tensor, std::span<const int64_t> shape,
                                Tensor& staging) {
  if (tensor.quantisation.method == QuantMethod::fp8) {
    BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, stage(staging, DType::f32, shape));
    dequantise_fp8(tensor, shape[0], shape[1], view.as<float>());
    return view;
  }
  BIFOCAL_ASSIGN_OR_RETURN(TensorView view, stage(staging, DType::bf16, shape));
  dequantise_mxfp4(tensor, view.as<BFloat16>());
  const auto last = static_cast<size_t>(view.rank) - 1;
  view.strides[last - 1] = 1;
  view.strides[last] = view.shape[last - 1];
  return view;
}

}  // namespace bifocal::weights
