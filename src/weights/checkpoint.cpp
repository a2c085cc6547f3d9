#include "weights/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "weights/checkpoint_quantised.h"

namespace bifocal::weights {
namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;
constexpr size_t kMaxShards = 4096;

// Only names of files in the same directory: "model-00001-of-00002.safetensors".
bool is_plain_shard_name(std::string_view name) {
  constexpr size_t kMaxBytes = 255;
  return name.size() <= kMaxBytes && name.ends_with(".safetensors") && name.front() != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor to shard

Expected<WeightMap> read_index(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxIndexBytes));
  JsonLimits limits;
  limits.max_bytes = kMaxIndexBytes;
  limits.max_depth = 8;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue document, parse_json(text, limits));
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(document));
  BIFOCAL_ASSIGN_OR_RETURN(const auto weight_map, reader.get_object("weight_map"));
  if (!weight_map) return data_loss("weight_map: missing");
  WeightMap shards;
  for (const auto& [tensor, shard] : weight_map->members()) {
    const std::string where = "weight_map." + quoted(tensor);
    if (!shard.is_string()) return type_error(where, "string", shard);
    if (!is_plain_shard_name(shard.as_string())) {
      return data_loss(fmt::format("{}: {} is not the plain name of a .safetensors file in this directory",
                                   where, quoted(shard.as_string())));
    }
    shards.emplace(tensor, shard.as_string());
  }
  if (shards.empty()) return data_loss("weight_map: empty");
  return shards;
}

}  // namespace

Expected<Checkpoint> Checkpoint::open(const std::string& directory, const Quantisation& quantisation) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const std::string single = fmt::format("{}/{}", directory, kSingleFile);
  const std::string index = fmt::format("{}/{}", directory, kIndexFile);
  if (file_exists(single)) {
    BIFOCAL_RETURN_IF_ERROR(checkpoint.add_file(single));
  } else if (file_exists(index)) {
    BIFOCAL_RETURN_IF_ERROR(checkpoint.open_shards(index));
  } else {
    return not_found(
        fmt::format("{}: neither {} nor {}; expected a Hugging Face directory with safetensors weights",
                    directory, kSingleFile, kIndexFile));
  }
  if (quantisation.method == QuantMethod::fp8) BIFOCAL_RETURN_IF_ERROR(checkpoint.fold_fp8(quantisation));
  if (quantisation.method == QuantMethod::mxfp4) BIFOCAL_RETURN_IF_ERROR(checkpoint.fold_mxfp4(quantisation));
  return checkpoint;
}

Status Checkpoint::add_file(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::open(path));
  files_.push_back(std::move(opened));
  const size_t file = files_.size() - 1;
  for (const TensorInfo& tensor : files_[file].tensors()) {
    const auto [at, inserted] = entries_.try_emplace(tensor.name, Entry{&tensor, file, {}});
    if (!inserted) {
      return data_loss(fmt::format("{}: tensor {} is also in {}", path, quoted(tensor.name),
                                   files_[at->second.file].path()));
    }
  }
  return {};
}

Status Checkpoint::open_shards(const std::string& index_path) {
  auto index = read_index(index_path);
  if (!index.ok()) return index.status().with_context(index_path);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : *index) shards.insert(shard);
  if (shards.size() > kMaxShards) {
    return data_loss(
        fmt::format("{}: {} shards, expected at most {}", index_path, shards.size(), kMaxShards));
  }
  files_.reserve(shards.size());
  for (const std::string& shard : shards) {
    const std::string path = fmt::format("{}/{}", directory_, shard);
    if (!file_exists(path))
      return not_found(fmt::format("{}: the index names this shard, but it is missing", path));
    BIFOCAL_RETURN_IF_ERROR(add_file(path));
  }
  for (const auto& [tensor, shard] : *index) {
    if (!has(tensor)) {
      return data_loss(
          fmt::format("{}: tensor {} should be in {}, but is not", index_path, quoted(tensor), shard));
    }
  }
  for (const auto& [tensor, entry] : entries_) {
    const std::string& path = files_[entry.file].path();
    const auto listed = index->find(tensor);
    if (listed == index->end()) {
      return data_loss(fmt::format("{}: tensor {} is not in {}", path, quoted(tensor), kIndexFile));
    }
    if (fmt::format("{}/{}", directory_, listed->second) != path) {
      return data_loss(fmt::format("{}: tensor {} should be in {} according to {}", path, quoted(tensor),
                                   listed->second, kIndexFile));
    }
  }
  return {};
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto at = entries_.find(name);
  return at == entries_.end() ? nullptr : at->second.info;
}

const std::string& Checkpoint::path_of(std::string_view name) const {
  const auto at = entries_.find(name);
  BIFOCAL_CHECK(at != entries_.end());
  return files_[at->second.file].path();
}

uint64_t Checkpoint::num_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, entry] : entries_) bytes += entry.info->num_bytes();
  return bytes;
}

bool Checkpoint::same_values(std::string_view a, std::string_view b) const {
  const auto at_a = entries_.find(a);
  const auto at_b = entries_.find(b);
  BIFOCAL_CHECK(at_a != entries_.end() && at_b != entries_.end());
  const TensorInfo& info_a = *at_a->second.info;
  const TensorInfo& info_b = *at_b->second.info;
  if (at_a->second.quantised || at_b->second.quantised) return false;
  if (info_a.dtype != info_b.dtype || info_a.shape != info_b.shape) return false;
  const auto bytes_a = bytes(at_a->second);
  const auto bytes_b = bytes(at_b->second);
  return std::equal(bytes_a.begin(), bytes_a.end(), bytes_b.begin(), bytes_b.end());
}

Expected<TensorView> Checkpoint::read(const std::string& name, std::span<const int64_t> shape,
                                      Tensor& staging) {
  const auto at = entries_.find(name);
  if (at == entries_.end()) return not_found(fmt::format("{}: no tensor {}", directory_, quoted(name)));
  const TensorInfo& info = *at->second.info;
  if (!std::equal(shape.begin(), shape.end(), info.shape.begin(), info.shape.end())) {
    return invalid_argument(fmt::format("{}: tensor {} has shape {}, expected {}", path_of(name),
                                        quoted(name), shape_to_string(info.shape), shape_to_string(shape)));
  }
  if (at->second.quantised) return dequantise(*at->second.quantised, shape, staging);
  const auto data = bytes(at->second);
  if (reinterpret_cast<uintptr_t>(data.data()) % size_of(info.dtype) == 0) {
    // Read-only pages: the view's data is never written through.
    return TensorView::contiguous(const_cast<std::byte*>(data.data()), info.dtype, shape);
  }
  // The format does not align tensors; our kernels read whole elements.
  BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, stage(staging, info.dtype, shape));
  if (!data.empty()) std::memcpy(view.data, data.data(), data.size());
  return view;
}

}  // namespace bifocal::weights
