#include "text/normalizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/utf8.h"
#include "text/json_access.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace bifocal::text {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  virtual Status apply(std::string& text) const = 0;
};

namespace {

class UnicodeForm : public NormalizerStep {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  Status apply(std::string& text) const override {
    text = normalize(text, form_);
    return {};
  }

 private:
  NormalForm form_;
};

class Lowercase : public NormalizerStep {
 public:
  Status apply(std::string& text) const override {
    std::string out;
    out.reserve(text.size());
    for (std::string_view rest = text; !rest.empty();) {
      const Utf8Char c = decode_utf8(rest);
      append_utf8(out, c.code_point == 0x130 ? 'i' : to_lower(c.code_point));
      if (c.code_point == 0x130) append_utf8(out, 0x307);  // the one character whose lower case is two
      rest.remove_prefix(static_cast<size_t>(c.length));
    }
    text = std::move(out);
    return {};
  }
};

class Prepend : public NormalizerStep {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  Status apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, prefix_);
    return {};
  }

 private:
  std::string prefix_;
};

class Replace : public NormalizerStep {
 public:
  Replace(Regex pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Status apply(std::string& text) const override {
    std::vector<ByteRange> matches;
    BIFOCAL_RETURN_IF_ERROR(pattern_.find_all(text, matches));
    if (matches.empty()) return {};
    std::string out;
    size_t done = 0;
    for (const ByteRange match : matches) {
      out.append(text, done, match.begin - done).append(content_);
      done = match.end;
    }
    text = out.append(text, done);
    return {};
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Strip : public NormalizerStep {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Status apply(std::string& text) const override {
    size_t begin = 0;
    size_t end = 0;  // after the last character that is kept
    bool started = !left_;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
      const auto length = static_cast<size_t>(c.length);
      const bool space = is_white_space(c.code_point);
      if (!started && space) begin = at + length;
      started = started || !space;
      if (!space || !right_) end = at + length;
      at += length;
    }
    text = begin < end ? text.substr(begin, end - begin) : "";
    return {};
  }

 private:
  bool left_;
  bool right_;
};

// Bound how much a hostile file can make a text grow. One character becomes 18 in NFKD at most.
constexpr size_t kMaxInsertedBytes = 64;
constexpr size_t kMaxGrowth = 32;

Expected<std::string> read_inserted(const JsonReader& reader, std::string_view key) {
  BIFOCAL_ASSIGN_OR_RETURN(std::string text, read_string(reader, key));
  if (text.size() > kMaxInsertedBytes) {
    return invalid_argument(fmt::format("{}: {} bytes, expected at most {}", reader.path_of(key), text.size(),
                                        kMaxInsertedBytes));
  }
  return text;
}

constexpr std::array<std::pair<std::string_view, NormalForm>, 4> kNormalForms = {{
    {"NFC", NormalForm::nfc},
    {"NFD", NormalForm::nfd},
    {"NFKC", NormalForm::nfkc},
    {"NFKD", NormalForm::nfkd},
}};

using Steps = std::vector<std::unique_ptr<NormalizerStep>>;

// Recursion over Sequence is bounded by the depth limit of the JSON parser.
Status add_steps(const JsonValue& json, const std::string& path, Steps& steps) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(json, path));
  BIFOCAL_ASSIGN_OR_RETURN(const std::string type, component_type(reader, path));
  const auto* form =
      std::find_if(kNormalForms.begin(), kNormalForms.end(), [&](const auto& f) { return f.first == type; });
  if (type == "Sequence") {
    BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* parts, reader.get_array("normalizers"));
    if (parts == nullptr) return invalid_argument(path + ".normalizers: missing");
    for (size_t i = 0; i < parts->size(); ++i) {
      BIFOCAL_RETURN_IF_ERROR(add_steps((*parts)[i], fmt::format("{}.normalizers[{}]", path, i), steps));
    }
  } else if (form != kNormalForms.end()) {
    steps.push_back(std::make_unique<UnicodeForm>(form->second));
  } else if (type == "Lowercase") {
    steps.push_back(std::make_unique<Lowercase>());
  } else if (type == "Prepend") {
    BIFOCAL_ASSIGN_OR_RETURN(std::string prefix, read_inserted(reader, "prepend"));
    steps.push_back(std::make_unique<Prepend>(std::move(prefix)));
  } else if (type == "Replace") {
    BIFOCAL_ASSIGN_OR_RETURN(Regex pattern, read_pattern(reader, "pattern"));
    BIFOCAL_ASSIGN_OR_RETURN(std::string content, read_inserted(reader, "content"));
    steps.push_back(std::make_unique<Replace>(std::move(pattern), std::move(content)));
  } else if (type == "Strip") {
    BIFOCAL_ASSIGN_OR_RETURN(const bool left, read_bool(reader, "strip_left", true));
    BIFOCAL_ASSIGN_OR_RETURN(const bool right, read_bool(reader, "strip_right", true));
    steps.push_back(std::make_unique<Strip>(left, right));
  } else {
    return unsupported(fmt::format(
        "{}: type \"{}\", expected NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip or Sequence",
        path, type));
  }
  return {};
}

}  // namespace

Normalizer::Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

Expected<Normalizer> Normalizer::from_json(const JsonValue* json) {
  Normalizer out;
  if (json != nullptr && !json->is_null())
    BIFOCAL_RETURN_IF_ERROR(add_steps(*json, "normalizer", out.steps_));
  return out;
}

Status Normalizer::apply(std::string& text) const {
  const size_t max_bytes = kMaxGrowth * (text.size() + kMaxInsertedBytes);
  for (const auto& step : steps_) {
    BIFOCAL_RETURN_IF_ERROR(step->apply(text));
    if (text.size() > max_bytes) {
      return resource_exhausted(
          fmt::format("the normalizer makes the text grow more than {} times", kMaxGrowth));
    }
  }
  return {};
}

}  // namespace bifocal::text
