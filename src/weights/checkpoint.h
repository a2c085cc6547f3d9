// The weights of a Hugging Face directory: model.safetensors, or shards with model.safetensors.index.json.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "weights/quantised.h"
#include "weights/safetensors.h"
#include "weights/weight_source.h"

namespace bifocal::weights {

class Checkpoint final : public WeightSource {
 public:
  // Maps every file and checks every header. With an index, it and the files must agree exactly: each tensor
  // in one shard, the one that the index says. Shard names are plain file names: no path leads out of the
  // directory. Where both forms are present, model.safetensors is read, as transformers does.
  //
  // Quantised tensors appear as what they stand for, under that name, and without their scales: fp8 as f32,
  // mxfp4 as bf16, its matrices [..., K, N] as in an unquantised file.
  static Expected<Checkpoint> open(const std::string& directory, const Quantisation& quantisation = {});

  struct Entry {
    const TensorInfo* info = nullptr;
    size_t file = 0;
    std::optional<QuantisedTensor> quantised;
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  const TensorInfo* find(std::string_view name) const;  // null when absent
  const std::string& path_of(
      std::string_view name) const;  // of the file with this tensor, which must be present
  const std::string& directory() const { return directory_; }
  uint64_t num_bytes() const;  // of all tensors
  // Whether two tensors, both present, have equal dtype, shape and bytes; false for quantised ones.
  bool same_values(std::string_view a, std::string_view b) const;

  bool has(std::string_view name) const override { return find(name) != nullptr; }
  Expected<TensorView> read(const std::string& name, std::span<const int64_t> shape,
                            Tensor& staging) override;

 private:
  Status add_file(const std::string& path);
  Status open_shards(const std::string& index_path);
  Status fold_fp8(const Quantisation& quantisation);
  Status fold_mxfp4(const Quantisation& quantisation);
  Status check_scales(const std::string& name, const Entry& scales, std::span<const int64_t> shape) const;
  std::span<const std::byte> bytes(const Entry& entry) const { return files_[entry.file].bytes(*entry.info); }

  std::string directory_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::deque<TensorInfo> unquantised_;  // what quantised tensors stand for; addresses are kept
};

}  // namespace bifocal::weights
