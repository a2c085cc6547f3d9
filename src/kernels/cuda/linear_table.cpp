#include "kernels/cuda/linear_table.h"

#include <algorithm>
#include <charconv>

#include "base/json.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr size_t kWordDigits = 16;
constexpr int kMaxSize = 1 << 24;

std::string to_hex(const std::array<uint64_t, 8>& words) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint64_t word : words) {
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(word >> shift) & 15U];
  }
  return text;
}

bool from_hex(std::string_view text, std::array<uint64_t, 8>* words) {
  if (text.size() != words->size() * kWordDigits) return false;
  for (size_t i = 0; i < words->size(); ++i) {
    const char* begin = text.data() + i * kWordDigits;
    const auto parsed = std::from_chars(begin, begin + kWordDigits, (*words)[i], 16);
    if (parsed.ec != std::errc{} || parsed.ptr != begin + kWordDigits) return false;
  }
  return true;
}

Expected<int> required_int(const JsonReader& reader, std::string_view key, int min) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto value, reader.get_int(key, min, kMaxSize));
  if (!value) return invalid_argument(reader.path_of(key) + ": missing");
  return static_cast<int>(*value);
}

Expected<LinearChoice> parse_choice(const JsonValue& value, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(value, path));
  LinearChoice choice;
  BIFOCAL_ASSIGN_OR_RETURN(choice.shape.m_bucket, required_int(reader, "m_bucket", 1));
  BIFOCAL_ASSIGN_OR_RETURN(choice.shape.n, required_int(reader, "n", 1));
  BIFOCAL_ASSIGN_OR_RETURN(choice.shape.k, required_int(reader, "k", 1));
  BIFOCAL_ASSIGN_OR_RETURN(const auto gated, reader.get_bool("gated"));
  choice.shape.gated = gated.value_or(false);
  BIFOCAL_ASSIGN_OR_RETURN(const auto in_order, reader.get_bool("in_order"));
  choice.shape.in_order = in_order.value_or(false);
  BIFOCAL_ASSIGN_OR_RETURN(const auto us, reader.get_number("us", 0.0, 1e12));
  choice.us = us.value_or(0.0);
  BIFOCAL_ASSIGN_OR_RETURN(const auto kind, reader.get_string("kind", 16));
  BIFOCAL_ASSIGN_OR_RETURN(const auto algorithm, reader.get_string("algorithm", 8 * kWordDigits));
  if (kind == "skinny") {
    choice.kind = LinearKind::skinny;
  } else if (kind != "cublaslt") {
    return invalid_argument(reader.path_of("kind") + ": expected \"cublaslt\" or \"skinny\"");
  } else if (!algorithm || !from_hex(*algorithm, &choice.algorithm)) {
    return invalid_argument(reader.path_of("algorithm") + ": expected 128 hexadecimal digits");
  }
  return choice;
}

}  // namespace

const LinearChoice* LinearTable::find(const LinearShape& shape) const {
  const auto found = std::find_if(choices.begin(), choices.end(),
                                  [&](const LinearChoice& choice) { return choice.shape == shape; });
  return found != choices.end() ? &*found : nullptr;
}

void LinearTable::add(const LinearChoice& choice) {
  for (LinearChoice& known : choices) {
    if (known.shape != choice.shape) continue;
    known = choice;
    return;
  }
  choices.push_back(choice);
}

int linear_bucket(int m) {
  int bucket = 8;
  while (bucket < m) bucket *= 2;
  return bucket;
}

std::string to_json(const LinearTable& table) {
  JsonWriter json;
  json.begin_object();
  json.member("device", table.device).member("cublaslt_version", table.cublaslt_version);
  json.key("choices").begin_array();
  for (const LinearChoice& choice : table.choices) {
    const bool skinny = choice.kind == LinearKind::skinny;
    json.begin_object();
    json.member("m_bucket", choice.shape.m_bucket).member("n", choice.shape.n).member("k", choice.shape.k);
    if (choice.shape.gated) json.member("gated", true);
    if (choice.shape.in_order) json.member("in_order", true);
    json.member("kind", skinny ? "skinny" : "cublaslt");
    if (!skinny) json.member("algorithm", to_hex(choice.algorithm));
    json.member("us", choice.us).end_object();
  }
  json.end_array().end_object();
  return json.take();
}

Expected<LinearTable> parse_linear_table(std::string_view text) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue document, parse_json(text));
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(document));
  LinearTable table;
  BIFOCAL_ASSIGN_OR_RETURN(const auto device, reader.get_string("device", 256));
  if (!device) return invalid_argument("device: missing");
  table.device = *device;
  BIFOCAL_ASSIGN_OR_RETURN(const auto version, reader.get_int("cublaslt_version", 0, INT64_MAX));
  if (!version) return invalid_argument("cublaslt_version: missing");
  table.cublaslt_version = static_cast<uint64_t>(*version);
  BIFOCAL_ASSIGN_OR_RETURN(const auto* choices, reader.get_array("choices"));
  if (choices == nullptr) return invalid_argument("choices: missing");
  for (size_t i = 0; i < choices->size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(const LinearChoice choice,
                             parse_choice((*choices)[i], "choices[" + std::to_string(i) + "]"));
    table.add(choice);
  }
  return table;
}

Status check_linear_table(const LinearTable& table, std::string_view device, uint64_t cublaslt_version) {
  if (table.device != device) {
    return unsupported("it was measured on " + table.device + ", this is " + std::string(device));
  }
  if (table.cublaslt_version != cublaslt_version) {
    return unsupported("it was measured with cuBLASLt " + std::to_string(table.cublaslt_version) +
                       ", this is " + std::to_string(cublaslt_version));
  }
  return {};
}

}  // namespace bifocal::kernels::cuda
