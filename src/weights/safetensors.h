// The safetensors container: 8 bytes of header length, a JSON header, the tensors' bytes. The rules are those
// of the reference implementation (github.com/huggingface/safetensors, tensor.rs): tensors tile the data
// section exactly, with no hole, overlap or rest. Everything that reads a tensor goes through the header
// checked here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "tensor/dtype.h"

namespace bifocal::weights {

constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t>
      shape;           // at most kMaxRank dimensions, none negative; the bytes below are exactly its size
  uint64_t begin = 0;  // bytes in the data section
  uint64_t end = 0;
  uint64_t num_bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes
  uint64_t data_begin = 0;          // offset of the data section in the file
};

// `file` is the whole file. Errors are data_loss and name path and tensor.
Expected<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file, const std::string& path);

// A mapped file with its header. The bytes are pages of the file: whoever truncates it while weights are
// being read ends the process with SIGBUS; after loading nothing refers to it any more.
class SafetensorsFile {
 public:
  static Expected<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  std::span<const std::byte> bytes(const TensorInfo& tensor) const;  // a tensor of this file

 private:
  SafetensorsFile(std::string path, MappedFile file, SafetensorsHeader header)
      : path_(std::move(path)), file_(std::move(file)), header_(std::move(header)) {}
  std::string path_;
  MappedFile file_;
  SafetensorsHeader header_;
};

// A name from a file, quoted and shortened for a message.
std::string quoted(std::string_view name);

}  // namespace bifocal::weights
