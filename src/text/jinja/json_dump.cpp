#include "text/jinja/json_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace bifocal::text::jinja {
namespace {

std::string json_real(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return real_to_string(value);
}

class Dumper {
 public:
  Dumper(const JsonStyle& style, size_t max_bytes, Text& out)
      : style_(style), max_bytes_(max_bytes), out_(out) {}

  // Recursion is bounded by the depth of values.
  bool dump(const Value& value) {
    if (out_.size() > max_bytes_) return true;
    switch (value.kind()) {
      case Kind::none:
        out_.append("null");
        return true;
      case Kind::boolean:
        out_.append(value.as_boolean() ? "true" : "false");
        return true;
      case Kind::integer:
        out_.append(fmt::format("{}", value.as_integer()));
        return true;
      case Kind::real:
        out_.append(json_real(value.as_real()));
        return true;
      case Kind::text:
        dump_text(value.as_text());
        return true;
      case Kind::list:
        if (value.as_list().kind != ListKind::generator) return dump_list(value.as_list());
        break;
      case Kind::mapping:
        return dump_mapping(value.as_mapping());
      default:
        break;
    }
    failed_type_ = value.type_name();
    return false;
  }

  std::string_view failed_type() const { return failed_type_; }

 private:
  void new_line() {
    if (!style_.indent) return;
    out_.append("\n");
    for (int i = 0; i < level_; ++i) out_.append(*style_.indent);
  }

  void separate() {
    out_.append(style_.item_separator);
    new_line();
  }

  bool dump_list(const List& list) {
    if (list.items.empty()) {
      out_.append("[]");
      return true;
    }
    out_.append("[");
    ++level_;
    new_line();
    for (size_t i = 0; i < list.items.size() && out_.size() <= max_bytes_; ++i) {
      if (i > 0) separate();
      if (!dump(list.items[i])) return false;
    }
    --level_;
    new_line();
    out_.append("]");
    return true;
  }

  bool dump_mapping(const Mapping& mapping) {
    if (mapping.items.empty()) {
      out_.append("{}");
      return true;
    }
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : mapping.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(), [](const auto* a, const auto* b) {
        return to_text(a->first).bytes() < to_text(b->first).bytes();
      });
    }
    out_.append("{");
    ++level_;
    new_line();
    for (size_t i = 0; i < items.size() && out_.size() <= max_bytes_; ++i) {
      if (i > 0) separate();
      if (!dump_key(items[i]->first)) return false;
      out_.append(style_.key_separator);
      if (!dump(items[i]->second)) return false;
    }
    --level_;
    new_line();
    out_.append("}");
    return true;
  }

  bool dump_key(const Value& key) {
    if (key.is_text()) {
      dump_text(key.as_text());
      return true;
    }
    out_.append("\"");
    const bool ok = (key.is_none() || key.is_number()) && dump(key);
    out_.append("\"");
    if (!ok) failed_type_ = key.type_name();
    return ok;
  }

  void dump_text(const Text& text) {
    out_.append("\"");
    text.for_each_character([&](uint32_t c, std::string_view bytes, bool from_user) {
      switch (c) {
        case '"':
          return out_.append("\\\"", from_user);
        case '\\':
          return out_.append("\\\\", from_user);
        case '\n':
          return out_.append("\\n", from_user);
        case '\r':
          return out_.append("\\r", from_user);
        case '\t':
          return out_.append("\\t", from_user);
        case '\b':
          return out_.append("\\b", from_user);
        case '\f':
          return out_.append("\\f", from_user);
        default:
          break;
      }
      if (c >= 0x20 && (c < 0x7F || !style_.ensure_ascii)) return out_.append(bytes, from_user);
      if (c < 0x10000) return out_.append(fmt::format("\\u{:04x}", c), from_user);
      out_.append(fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + (c & 0x3FF)),
                  from_user);
    });
    out_.append("\"");
  }

  const JsonStyle& style_;
  size_t max_bytes_;
  Text& out_;
  int level_ = 0;
  std::string_view failed_type_;
};

}  // namespace

bool dump_json(const Value& value, const JsonStyle& style, size_t max_bytes, Text& out,
               std::string_view& unserializable) {
  Dumper dumper(style, max_bytes, out);
  if (dumper.dump(value)) return true;
  unserializable = dumper.failed_type();
  return false;
}

}  // namespace bifocal::text::jinja
