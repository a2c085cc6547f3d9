#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/utf8.h"

namespace bifocal {
namespace {

// Builds a JsonValue from SAX events, with the limits enforced as it goes.
class DocumentBuilder {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  explicit DocumentBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() { return add(JsonValue()); }
  bool boolean(bool v) { return add(JsonValue(v)); }
  bool number_integer(number_integer_t v) { return add(JsonValue(int64_t{v})); }
  bool number_unsigned(number_unsigned_t v) {
    if (v > static_cast<number_unsigned_t>(INT64_MAX)) return fail("an integer does not fit 64 bits");
    return add(JsonValue(static_cast<int64_t>(v)));
  }
  bool number_float(number_float_t v, const string_t& text) {
    if (!std::isfinite(v)) return fail("a number is too large for a double");
    // An integer too long for 64 bits arrives here as a rounded double.
    if (text.find_first_of(".eE") == string_t::npos) return fail("an integer does not fit 64 bits");
    return add(JsonValue(v));
  }
  bool string(string_t& v) { return add(JsonValue(std::move(v))); }
  bool binary(binary_t&) { return fail("binary values are not JSON"); }

  bool start_object(size_t) { return open(JsonValue(JsonValue::Object{})); }
  bool key(string_t& name) {
    Frame& frame = stack_.back();
    auto& object = frame.container.as_object();
    // Small objects are compared directly, large ones (vocabularies) through a set.
    constexpr size_t kSmall = 16;
    if (object.size() < kSmall) {
      for (const auto& [existing, value] : object) {
        if (existing == name) return fail("an object has the same key twice");
      }
    } else {
      if (frame.keys.empty()) {
        for (const auto& [existing, value] : object) frame.keys.insert(existing);
      }
      if (!frame.keys.insert(name).second) return fail("an object has the same key twice");
    }
    object.emplace_back(std::move(name), JsonValue());
    return true;
  }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(JsonValue(JsonValue::Array{})); }
  bool end_array() { return close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    if (error_.empty()) error_ = fmt::format("syntax error at byte {}", position);
    return false;
  }

  const std::string& error() const { return error_; }
  JsonValue take() { return std::move(root_); }

 private:
  struct Frame {
    JsonValue container;
    std::unordered_set<std::string> keys;
  };

  bool fail(std::string why) {
    error_ = std::move(why);
    return false;
  }
  bool count() {
    if (++num_values_ > limits_.max_values)
      return fail(fmt::format("more than {} values", limits_.max_values));
    return true;
  }
  bool open(JsonValue container) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) {
      return fail(fmt::format("nested deeper than {} levels", limits_.max_depth));
    }
    if (!count()) return false;
    stack_.push_back({std::move(container), {}});
    return true;
  }
  bool close() {
    JsonValue done = std::move(stack_.back().container);
    stack_.pop_back();
    return place(std::move(done));
  }
  bool add(JsonValue value) { return count() && place(std::move(value)); }
  bool place(JsonValue value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return true;
    }
    JsonValue& container = stack_.back().container;
    if (container.is_array()) {
      container.as_array().push_back(std::move(value));
    } else {
      container.as_object().back().second = std::move(value);
    }
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Frame> stack_;
  JsonValue root_;
  std::string error_;
  uint64_t num_values_ = 0;
};

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : as_object()) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string_view JsonValue::type_name() const {
  static constexpr std::string_view kNames[] = {"null",   "boolean", "integer", "number",
                                                "string", "array",   "object"};
  return kNames[value_.index()];
}

Expected<JsonValue> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return invalid_argument(
        fmt::format("JSON: {} bytes, expected at most {}", text.size(), limits.max_bytes));
  }
  if (!is_valid_utf8(text)) return invalid_argument("JSON: the text is not valid UTF-8");
  // The library takes a zero byte as the end of its input; JSON text never has one.
  if (text.find('\0') != std::string_view::npos) return invalid_argument("JSON: the text has a zero byte");
  DocumentBuilder builder(limits);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return invalid_argument("JSON: " + (builder.error().empty() ? "syntax error" : builder.error()));
  }
  return builder.take();
}

Status type_error(const std::string& path, std::string_view expected, const JsonValue& got) {
  return invalid_argument(fmt::format("{}: expected {}, got {}", path, expected, got.type_name()));
}

Expected<JsonReader> JsonReader::open(const JsonValue& value, std::string path) {
  if (!value.is_object()) return type_error(path.empty() ? "document" : path, "object", value);
  return JsonReader(value.as_object(), std::move(path));
}

const JsonValue* JsonReader::find(std::string_view key) const {
  for (const auto& [name, value] : *object_) {
    if (name == key) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

std::string JsonReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

namespace {

Expected<int64_t> checked_int(const std::string& path, const JsonValue& value, int64_t min, int64_t max) {
  if (!value.is_int()) return type_error(path, "integer", value);
  const int64_t v = value.as_int();
  if (v < min || v > max) {
    return invalid_argument(fmt::format("{}: got {}, expected {} to {}", path, v, min, max));
  }
  return v;
}

}  // namespace

Expected<std::optional<int64_t>> JsonReader::get_int(std::string_view key, int64_t min, int64_t max) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::optional<int64_t>();
  BIFOCAL_ASSIGN_OR_RETURN(const int64_t v, checked_int(path_of(key), *value, min, max));
  return std::optional<int64_t>(v);
}

Expected<std::optional<double>> JsonReader::get_number(std::string_view key, double min, double max) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) return type_error(path_of(key), "number", *value);
  const double v = value->as_double();
  if (!(v >= min && v <= max)) {
    return invalid_argument(fmt::format("{}: got {}, expected {} to {}", path_of(key), v, min, max));
  }
  return std::optional<double>(v);
}

Expected<std::optional<bool>> JsonReader::get_bool(std::string_view key) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_bool()) return type_error(path_of(key), "boolean", *value);
  return std::optional<bool>(value->as_bool());
}

namespace {

Status check_string(const std::string& path, const JsonValue& value, size_t max_bytes) {
  if (!value.is_string()) return type_error(path, "string", value);
  if (value.as_string().size() > max_bytes) {
    return invalid_argument(
        fmt::format("{}: {} bytes, expected at most {}", path, value.as_string().size(), max_bytes));
  }
  return {};
}

}  // namespace

Expected<std::optional<std::string>> JsonReader::get_string(std::string_view key, size_t max_bytes) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::optional<std::string>();
  BIFOCAL_RETURN_IF_ERROR(check_string(path_of(key), *value, max_bytes));
  return std::optional<std::string>(value->as_string());
}

Expected<std::vector<std::string>> JsonReader::get_strings(std::string_view key, size_t max_count,
                                                           size_t max_bytes) const {
  std::vector<std::string> out;
  const JsonValue* value = find(key);
  if (value == nullptr) return out;
  if (value->is_string()) {
    BIFOCAL_RETURN_IF_ERROR(check_string(path_of(key), *value, max_bytes));
    out.push_back(value->as_string());
    return out;
  }
  if (!value->is_array()) return type_error(path_of(key), "string or array of strings", *value);
  const auto& array = value->as_array();
  if (array.size() > max_count) {
    return invalid_argument(
        fmt::format("{}: {} entries, expected at most {}", path_of(key), array.size(), max_count));
  }
  for (size_t i = 0; i < array.size(); ++i) {
    BIFOCAL_RETURN_IF_ERROR(check_string(fmt::format("{}[{}]", path_of(key), i), array[i], max_bytes));
    out.push_back(array[i].as_string());
  }
  return out;
}

Expected<std::optional<std::vector<int64_t>>> JsonReader::get_ints(std::string_view key, int64_t min,
                                                                   int64_t max, size_t max_count) const {
  using Result = std::optional<std::vector<int64_t>>;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* array, get_array(key));
  if (array == nullptr) return Result();
  if (array->size() > max_count) {
    return invalid_argument(
        fmt::format("{}: {} entries, expected at most {}", path_of(key), array->size(), max_count));
  }
  std::vector<int64_t> out;
  out.reserve(array->size());
  for (size_t i = 0; i < array->size(); ++i) {
    const JsonValue& item = (*array)[i];
    if (!item.is_int() || item.as_int() < min || item.as_int() > max) {
      BIFOCAL_RETURN_IF_ERROR(checked_int(fmt::format("{}[{}]", path_of(key), i), item, min, max).status());
    }
    out.push_back(item.as_int());
  }
  return Result(std::move(out));
}

Expected<std::optional<JsonReader>> JsonReader::get_object(std::string_view key) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::optional<JsonReader>();
  BIFOCAL_ASSIGN_OR_RETURN(JsonReader reader, JsonReader::open(*value, path_of(key)));
  return std::optional<JsonReader>(std::move(reader));
}

Expected<const JsonValue::Array*> JsonReader::get_array(std::string_view key) const {
  const JsonValue* value = find(key);
  if (value == nullptr) return static_cast<const JsonValue::Array*>(nullptr);
  if (!value->is_array()) return type_error(path_of(key), "array", *value);
  return &value->as_array();
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (!c.valid) {
      append_utf8(out, kReplacementCharacter);
    } else if (c.code_point == '"' || c.code_point == '\\') {
      out += '\\';
      out += static_cast<char>(c.code_point);
    } else if (c.code_point < 0x20) {
      switch (c.code_point) {
        case '\n':
          out += "\\n";
          break;
        case '\r':
          out += "\\r";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\b':
          out += "\\b";
          break;
        case '\f':
          out += "\\f";
          break;
        default:
          out += fmt::format("\\u{:04x}", c.code_point);
      }
    } else {
      out.append(text.substr(0, static_cast<size_t>(c.length)));
    }
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  out += '"';
}

void JsonWriter::separate() {
  if (need_comma_) out_ += ',';
  need_comma_ = true;
}

JsonWriter& JsonWriter::begin_object() {
  separate();
  out_ += '{';
  need_comma_ = false;
  return *this;
}
JsonWriter& JsonWriter::end_object() {
  out_ += '}';
  need_comma_ = true;
  return *this;
}
JsonWriter& JsonWriter::begin_array() {
  separate();
  out_ += '[';
  need_comma_ = false;
  return *this;
}
JsonWriter& JsonWriter::end_array() {
  out_ += ']';
  need_comma_ = true;
  return *this;
}
JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  append_json_string(out_, name);
  out_ += ':';
  need_comma_ = false;
  return *this;
}
JsonWriter& JsonWriter::null() {
  separate();
  out_ += "null";
  return *this;
}
JsonWriter& JsonWriter::value(bool v) {
  separate();
  out_ += v ? "true" : "false";
  return *this;
}
JsonWriter& JsonWriter::value(int64_t v) {
  separate();
  fmt::format_to(std::back_inserter(out_), "{}", v);
  return *this;
}
JsonWriter& JsonWriter::value(uint64_t v) {
  separate();
  fmt::format_to(std::back_inserter(out_), "{}", v);
  return *this;
}
JsonWriter& JsonWriter::value(double v) {
  if (!std::isfinite(v)) return null();
  separate();
  fmt::format_to(std::back_inserter(out_), "{}", v);
  return *this;
}
JsonWriter& JsonWriter::value(float v) {
  if (!std::isfinite(v)) return null();
  separate();
  fmt::format_to(std::back_inserter(out_), "{}", v);
  return *this;
}
JsonWriter& JsonWriter::value(std::string_view v) {
  separate();
  append_json_string(out_, v);
  return *this;
}
JsonWriter& JsonWriter::value(const JsonValue& v) {
  if (v.is_null()) return null();
  if (v.is_bool()) return value(v.as_bool());
  if (v.is_int()) return value(v.as_int());
  if (v.is_double()) return value(v.as_double());
  if (v.is_string()) return value(std::string_view(v.as_string()));
  if (v.is_array()) {
    begin_array();
    for (const auto& item : v.as_array()) value(item);
    return end_array();
  }
  begin_object();
  for (const auto& [name, item] : v.as_object()) key(name).value(item);
  return end_object();
}
JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_ += json;
  return *this;
}

std::string to_json(const JsonValue& value) {
  JsonWriter writer;
  writer.value(value);
  return writer.take();
}

}  // namespace bifocal
