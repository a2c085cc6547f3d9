// Makes directories with safetensors files for tests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace bifocal::weights {

// A fresh directory, removed with its content at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

void write_text(const std::string& path, std::string_view content);

struct FileTensor {
  std::string name;
  std::string dtype = "F32";
  std::vector<int64_t> shape;
  std::string bytes;
};

FileTensor f32_tensor(std::string name, std::vector<int64_t> shape, const std::vector<float>& values);

// The 8 length bytes, the header, the data.
std::string safetensors_bytes(std::string_view header, std::string_view data);
// A well-formed file: tensors one after another. `padding` spaces end the header.
std::string safetensors_bytes(const std::vector<FileTensor>& tensors, size_t padding = 0);

}  // namespace bifocal::weights
