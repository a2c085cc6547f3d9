#include "server/fake_text.h"

#include <algorithm>

#include "base/utf8.h"

namespace bifocal::server {
namespace {

constexpr std::string_view kSpecials[] = {"<eos>", "<|im_start|>", "<|im_end|>"};

const std::string& all_bytes() {
  static const std::string bytes = [] {
    std::string text;
    for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
    return text;
  }();
  return bytes;
}

bool touches(size_t begin, size_t end, std::span<const text::ByteRange> ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const text::ByteRange& r) { return begin < r.end && r.begin < end; });
}

}  // namespace

Expected<std::vector<text::TokenId>> FakeTokenizer::encode(std::string_view text,
                                                           const text::EncodeOptions& options) const {
  std::vector<text::TokenId> ids;
  for (size_t at = 0; at < text.size();) {
    int special = -1;
    for (int i = 0; options.parse_special && i < 3; ++i) {
      const std::string_view name = kSpecials[i];
      if (text.substr(at).starts_with(name) && !touches(at, at + name.size(), options.plain_ranges))
        special = i;
    }
    if (special >= 0) {
      ids.push_back(kEos + special);
      at += kSpecials[special].size();
    } else {
      ids.push_back(static_cast<unsigned char>(text[at++]));
    }
  }
  return ids;
}

std::string FakeTokenizer::decode(std::span<const text::TokenId> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (text::TokenId id : ids) {
    if (!(skip_special_tokens && is_special(id))) bytes += token_bytes(id);
  }
  return replace_invalid_utf8(bytes);
}

std::string_view FakeTokenizer::token_bytes(text::TokenId id) const {
  if (id >= 0 && id < 256) return std::string_view(all_bytes()).substr(static_cast<size_t>(id), 1);
  if (id >= kEos && id <= kImEnd) return kSpecials[id - kEos];
  return {};
}

std::optional<text::TokenId> FakeTokenizer::token_id(std::string_view token) const {
  for (int i = 0; i < 3; ++i) {
    if (kSpecials[i] == token) return kEos + i;
  }
  if (token.size() == 1) return static_cast<unsigned char>(token[0]);
  return std::nullopt;
}

Expected<std::vector<text::TokenId>> GatedTokenizer::encode(std::string_view text,
                                                            const text::EncodeOptions& options) const {
  {
    std::unique_lock lock(mutex_);
    ++waiting_;
    opened_.wait(lock, [&] { return open_; });
    --waiting_;
  }
  return FakeTokenizer::encode(text, options);
}

void GatedTokenizer::open() {
  std::lock_guard lock(mutex_);
  open_ = true;
  opened_.notify_all();
}

Expected<text::RenderedChat> FakeTemplate::render(const text::ChatInput& input) const {
  text::RenderedChat out;
  const auto add_user_text = [&](const std::string& text) {
    out.user_ranges.push_back({out.text.size(), out.text.size() + text.size()});
    out.text += text;
  };
  if (!input.tools.is_null()) {
    out.text += "tools:";
    add_user_text(to_json(input.tools));
    out.text += "\n";
  }
  for (const JsonValue& message : input.messages.as_array()) {
    if (message.find("content")->as_string() == "raise")
      return invalid_argument("the template refused: raised");
    out.text += "<|im_start|>" + message.find("role")->as_string() + "\n";
    add_user_text(message.find("content")->as_string());
    if (const JsonValue* calls = message.find("tool_calls")) add_user_text(to_json(*calls));
    out.text += "<|im_end|>\n";
  }
  if (input.add_generation_prompt) out.text += "<|im_start|>assistant\n";
  for (const auto& [name, value] : input.template_kwargs) {
    if (name == "enable_thinking" && value == JsonValue(true)) out.text += "<think>\n";
    if (name == "show") out.text += to_json(value);
  }
  return out;
}

}  // namespace bifocal::server
