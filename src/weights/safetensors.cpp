#include "weights/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/check.h"
#include "base/json.h"
#include "tensor/tensor.h"

namespace bifocal::weights {
namespace {

constexpr uint64_t kLengthBytes = 8;

struct DtypeName {
  std::string_view name;
  DType dtype;
};
constexpr DtypeName kDtypes[] = {
    {"F32", DType::f32},         {"F16", DType::f16}, {"BF16", DType::bf16},    {"F8_E4M3", DType::f8_e4m3},
    {"F8_E5M2", DType::f8_e5m2}, {"I8", DType::i8},   {"U8", DType::u8},        {"I16", DType::i16},
    {"I32", DType::i32},         {"I64", DType::i64}, {"BOOL", DType::boolean},
};

Expected<DType> parse_safetensors_dtype(const std::string& name) {
  std::string known;
  for (const DtypeName& entry : kDtypes) {
    if (entry.name == name) return entry.dtype;
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  return data_loss(fmt::format("dtype {} is unknown; expected one of {}", quoted(name), known));
}

// The header's length, so that length bytes follow the first eight.
Expected<uint64_t> read_header_length(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes) {
    return data_loss(
        fmt::format("{} bytes, expected at least {} for the header's length", file.size(), kLengthBytes));
  }
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<uint64_t>(file[i]);
  if (length > kMaxSafetensorsHeaderBytes) {
    return data_loss(
        fmt::format("the header claims {} bytes, expected at most {}", length, kMaxSafetensorsHeaderBytes));
  }
  const uint64_t rest = file.size() - kLengthBytes;
  if (length > rest) {
    return data_loss(
        fmt::format("the header claims {} bytes, but only {} follow: the file is truncated", length, rest));
  }
  return length;
}

Expected<uint64_t> checked_num_bytes(DType dtype, std::span<const int64_t> shape) {
  uint64_t bytes = size_of(dtype);
  for (const int64_t dim : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) {
      return data_loss(fmt::format("shape {} overflows 64 bits", shape_to_string(shape)));
    }
  }
  return bytes;
}

// One entry of the header; offsets are checked against its own shape, not yet against its neighbours.
Expected<TensorInfo> read_entry(const std::string& name, const JsonValue& value) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader entry, JsonReader::open(value, "entry"));
  for (const auto& [key, member] : entry.members()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return data_loss(fmt::format("unknown member {}, expected dtype, shape, data_offsets", quoted(key)));
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto dtype_name, entry.get_string("dtype"));
  BIFOCAL_ASSIGN_OR_RETURN(auto shape, entry.get_ints("shape", 0, INT64_MAX, kMaxRank));
  BIFOCAL_ASSIGN_OR_RETURN(const auto offsets, entry.get_ints("data_offsets", 0, INT64_MAX, 2));
  if (!dtype_name || !shape || !offsets) return data_loss("dtype, shape or data_offsets is missing");
  if (offsets->size() != 2) return data_loss(fmt::format("{} data_offsets, expected 2", offsets->size()));

  TensorInfo tensor;
  tensor.name = name;
  BIFOCAL_ASSIGN_OR_RETURN(tensor.dtype, parse_safetensors_dtype(*dtype_name));
  tensor.shape = std::move(*shape);
  tensor.begin = static_cast<uint64_t>((*offsets)[0]);
  tensor.end = static_cast<uint64_t>((*offsets)[1]);
  if (tensor.end < tensor.begin) {
    return data_loss(fmt::format("data_offsets end before they begin: [{},{}]", tensor.begin, tensor.end));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const uint64_t expected, checked_num_bytes(tensor.dtype, tensor.shape));
  if (tensor.num_bytes() != expected) {
    return data_loss(fmt::format("data_offsets hold {} bytes, expected {} for {}{}", tensor.num_bytes(),
                                 expected, to_string(tensor.dtype), shape_to_string(tensor.shape)));
  }
  return tensor;
}

Status check_metadata(const JsonValue& value) {
  if (!value.is_object()) return type_error("__metadata__", "object of strings", value);
  for (const auto& [key, member] : value.as_object()) {
    if (!member.is_string()) return type_error("__metadata__." + quoted(key), "string", member);
  }
  return {};
}

// Sorts by offset and requires that the tensors tile [0, data_bytes).
Status check_tiling(std::vector<TensorInfo>& tensors, uint64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t expected = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.begin != expected) {
      return data_loss(
          fmt::format("tensor {}: begins at byte {} of the data, expected {}: tensors must follow each other "
                      "without gap or overlap",
                      quoted(tensor.name), tensor.begin, expected));
    }
    expected = tensor.end;
  }
  if (expected != data_bytes) {
    return data_loss(fmt::format("the tensors take {} bytes, but {} follow the header: the file is {}",
                                 expected, data_bytes,
                                 data_bytes < expected ? "truncated" : "longer than its header says"));
  }
  return {};
}

Expected<SafetensorsHeader> parse(std::span<const std::byte> file) {
  BIFOCAL_ASSIGN_OR_RETURN(const uint64_t length, read_header_length(file));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  // JSON has no zero byte, but parsers like to take one for the end of the text.
  if (text.find('\0') != std::string_view::npos)
    return data_loss("the header is not JSON: it holds a zero byte");
  JsonLimits limits;
  limits.max_depth = 4;
  limits.max_bytes = kMaxSafetensorsHeaderBytes;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue document, parse_json(text, limits));
  if (!document.is_object()) return type_error("header", "object", document);

  SafetensorsHeader header;
  header.data_begin = kLengthBytes + length;
  for (const auto& [name, value] : document.as_object()) {
    if (name == "__metadata__") {
      BIFOCAL_RETURN_IF_ERROR(check_metadata(value));
      continue;
    }
    auto tensor = read_entry(name, value);
    if (!tensor.ok()) return tensor.status().with_context("tensor " + quoted(name));
    header.tensors.push_back(std::move(*tensor));
  }
  BIFOCAL_RETURN_IF_ERROR(check_tiling(header.tensors, file.size() - header.data_begin));
  return header;
}

}  // namespace

std::string quoted(std::string_view name) {
  constexpr size_t kMaxBytes = 120;
  std::string out;
  append_json_string(out, name.substr(0, kMaxBytes));
  if (name.size() > kMaxBytes) out += "...";
  return out;
}

Expected<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file, const std::string& path) {
  auto header = parse(file);
  // Whatever the reader of a field calls it, a header that can't be read is a damaged file.
  if (!header.ok()) return data_loss(fmt::format("{}: {}", path, header.status().message()));
  return header;
}

Expected<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path));
  BIFOCAL_ASSIGN_OR_RETURN(SafetensorsHeader header, parse_safetensors(file.bytes(), path));
  return SafetensorsFile(path, std::move(file), std::move(header));
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& tensor) const {
  const auto file = file_.bytes();
  BIFOCAL_CHECK_LE(header_.data_begin + tensor.end, file.size());
  return file.subspan(header_.data_begin + tensor.begin, tensor.num_bytes());
}

}  // namespace bifocal::weights
