// Bounded JSON: parse to a small document, read it with errors that name the field, write it back.
// The parser behind it (nlohmann's SAX reader, iterative) stays in json.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"

namespace bifocal {

struct JsonLimits {
  int max_depth = 64;
  uint64_t max_bytes = uint64_t{8} << 20;
  uint64_t max_values = uint64_t{4} << 20;  // all values of the document together
};

class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;  // in document order, keys unique

  JsonValue() = default;                                        // null
  JsonValue(std::nullptr_t) {}                                  // NOLINT(google-explicit-constructor)
  JsonValue(bool value) : value_(value) {}                      // NOLINT(google-explicit-constructor)
  JsonValue(int value) : value_(int64_t{value}) {}              // NOLINT(google-explicit-constructor)
  JsonValue(int64_t value) : value_(value) {}                   // NOLINT(google-explicit-constructor)
  JsonValue(double value) : value_(value) {}                    // NOLINT(google-explicit-constructor)
  JsonValue(const char* value) : value_(std::string(value)) {}  // NOLINT(google-explicit-constructor)
  JsonValue(std::string value) : value_(std::move(value)) {}    // NOLINT(google-explicit-constructor)
  JsonValue(Array value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  JsonValue(Object value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // Each requires the matching type.
  bool as_bool() const { return std::get<bool>(value_); }
  int64_t as_int() const { return std::get<int64_t>(value_); }
  double as_double() const { return is_int() ? static_cast<double>(as_int()) : std::get<double>(value_); }
  const std::string& as_string() const { return std::get<std::string>(value_); }
  const Array& as_array() const { return std::get<Array>(value_); }
  Array& as_array() { return std::get<Array>(value_); }
  const Object& as_object() const { return std::get<Object>(value_); }
  Object& as_object() { return std::get<Object>(value_); }

  // The member of an object, or nullptr when absent or when this is not an object. Linear in the object's
  // size.
  const JsonValue* find(std::string_view key) const;

  std::string_view type_name() const;  // "null", "boolean", "integer", "number", "string", "array", "object"

  friend bool operator==(const JsonValue&, const JsonValue&) = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

// Strict RFC 8259: valid UTF-8 (lone surrogate escapes are refused), no duplicate keys, integers within
// int64, finite numbers, nothing after the value. Errors never repeat the input's bytes.
Expected<JsonValue> parse_json(std::string_view text, const JsonLimits& limits = {});

// Reads the members of one object; every error names the field: `messages[2].content: expected string, got
// array`. Absent and null count as the same thing: not given.
class JsonReader {
 public:
  // `path` is printed in front of member names ("" for the document itself).
  static Expected<JsonReader> open(const JsonValue& value, std::string path = "");

  const JsonValue* find(std::string_view key) const;  // nullptr when absent or null
  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::string path_of(std::string_view key) const;
  const JsonValue::Object& members() const { return *object_; }

  // Integers must be JSON integers (1.0 is refused); numbers may be either.
  Expected<std::optional<int64_t>> get_int(std::string_view key, int64_t min, int64_t max) const;
  Expected<std::optional<double>> get_number(std::string_view key, double min, double max) const;
  Expected<std::optional<bool>> get_bool(std::string_view key) const;
  Expected<std::optional<std::string>> get_string(std::string_view key, size_t max_bytes = SIZE_MAX) const;
  // A string or an array of strings.
  Expected<std::vector<std::string>> get_strings(std::string_view key, size_t max_count,
                                                 size_t max_bytes = SIZE_MAX) const;
  // Array of integers within bounds; nullopt when absent.
  Expected<std::optional<std::vector<int64_t>>> get_ints(std::string_view key, int64_t min, int64_t max,
                                                         size_t max_count) const;
  Expected<std::optional<JsonReader>> get_object(std::string_view key) const;
  Expected<const JsonValue::Array*> get_array(std::string_view key) const;  // nullptr when absent

 private:
  JsonReader(const JsonValue::Object& object, std::string path) : object_(&object), path_(std::move(path)) {}
  const JsonValue::Object* object_;
  std::string path_;
};

Status type_error(const std::string& path, std::string_view expected, const JsonValue& got);

// Appends JSON text. Strings that are not UTF-8 get U+FFFD where they are broken; nothing throws. Non-finite
// numbers become null.
class JsonWriter {
 public:
  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);

  JsonWriter& null();
  JsonWriter& value(bool v);
  JsonWriter& value(int v) { return value(int64_t{v}); }
  JsonWriter& value(int64_t v);
  JsonWriter& value(uint64_t v);
  JsonWriter& value(double v);  // shortest text that reads back equal
  JsonWriter& value(float v);   // shortest text that reads back equal as float
  JsonWriter& value(std::string_view v);
  JsonWriter& value(const char* v) { return value(std::string_view(v)); }
  JsonWriter& value(const std::string& v) { return value(std::string_view(v)); }
  JsonWriter& value(const JsonValue& v);
  template <class T>
  JsonWriter& value(const std::optional<T>& v) {
    return v ? value(*v) : null();
  }
  template <class T>
  JsonWriter& member(std::string_view name, const T& v) {
    return key(name).value(v);
  }
  // A complete JSON text made elsewhere.
  JsonWriter& raw(std::string_view json);

  const std::string& text() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  void separate();
  std::string out_;
  bool need_comma_ = false;
};

std::string to_json(const JsonValue& value);
void append_json_string(std::string& out, std::string_view text);  // with quotes; non-ASCII kept as UTF-8

}  // namespace bifocal
