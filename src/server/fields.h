// Fields that are not simply read: known ones that this server doesn't offer yet (refused, never silently
// ignored), known ones that change nothing here (their type is checked), and the engine's internals, which
// clients may not choose. All other unknown fields are ignored, as the APIs expect.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace bifocal::server {

struct FieldRule {
  std::string_view name;
  std::string_view instead;  // what to do about it: ends the message
};

enum class FieldType : uint8_t { boolean, string, object };
struct IdleField {
  std::string_view name;
  FieldType type;
};

std::span<const FieldRule> unsupported_fields();
std::span<const IdleField> idle_fields();
std::span<const std::string_view> internal_fields();

// A field counts as given unless it is null, false, 0, or an empty string, array or object.
bool is_given(const JsonValue* value);

// `body`: the request, or its sampling_params.
Status check_fields(const JsonReader& body);

}  // namespace bifocal::server
