#include "weights/checkpoint_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/json.h"

namespace bifocal::weights {

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "bifocal_test_XXXXXX").string();
  EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_text(const std::string& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  ASSERT_TRUE(out.good()) << path;
}

FileTensor f32_tensor(std::string name, std::vector<int64_t> shape, const std::vector<float>& values) {
  FileTensor tensor{std::move(name), "F32", std::move(shape),
                    std::string(values.size() * sizeof(float), '\0')};
  if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(uint64_t{header.size()} >> (8 * i) & 0xff);
  out += header;
  out += data;
  return out;
}

std::string safetensors_bytes(const std::vector<FileTensor>& tensors, size_t padding) {
  JsonWriter header;
  std::string data;
  header.begin_object();
  header.key("__metadata__").begin_object().member("format", "pt").end_object();
  for (const FileTensor& tensor : tensors) {
    header.key(tensor.name).begin_object().member("dtype", tensor.dtype).key("shape").begin_array();
    for (const int64_t dim : tensor.shape) header.value(dim);
    header.end_array().key("data_offsets").begin_array().value(uint64_t{data.size()});
    data += tensor.bytes;
    header.value(uint64_t{data.size()}).end_array().end_object();
  }
  header.end_object();
  return safetensors_bytes(header.text() + std::string(padding, ' '), data);
}

}  // namespace bifocal::weights
