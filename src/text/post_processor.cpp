#include "text/post_processor.h"

#include <fmt/format.h>

#include "text/json_access.h"

namespace bifocal::text {
namespace {

// ["</s>", 2]
Expected<TokenId> read_token_pair(const JsonReader& reader, std::string_view key,
                                  const Vocabulary& vocabulary) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* pair, reader.get_array(key));
  if (pair == nullptr || pair->size() != 2 || !(*pair)[1].is_int()) {
    return invalid_argument(reader.path_of(key) + ": expected [token, id]");
  }
  const int64_t id = (*pair)[1].as_int();
  if (id < 0 || id > INT32_MAX || !vocabulary.contains(static_cast<TokenId>(id))) {
    return invalid_argument(fmt::format("{}: id {} is not in the vocabulary", reader.path_of(key), id));
  }
  return static_cast<TokenId>(id);
}

// The ids of a special token that a template names.
Expected<std::vector<TokenId>> read_template_ids(const JsonReader& reader, const std::string& name,
                                                 const Vocabulary& vocabulary) {
  const std::string path = fmt::format("{}.{}", reader.path_of("special_tokens"), name);
  const JsonValue* tokens = reader.find("special_tokens");
  const JsonValue* token = tokens == nullptr ? nullptr : tokens->find(name);
  if (token == nullptr) return invalid_argument(path + ": missing");
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader entry, JsonReader::open(*token, path));
  BIFOCAL_ASSIGN_OR_RETURN(const auto ids, entry.get_ints("ids", 0, INT32_MAX, 16));
  std::vector<TokenId> out;
  for (const int64_t id : ids.value_or(std::vector<int64_t>())) {
    if (!vocabulary.contains(static_cast<TokenId>(id))) {
      return invalid_argument(fmt::format("{}: id {} is not in the vocabulary", path, id));
    }
    out.push_back(static_cast<TokenId>(id));
  }
  return out;
}

}  // namespace

Expected<PostProcessor> PostProcessor::from_json(const JsonValue* json, const Vocabulary& vocabulary) {
  PostProcessor out;
  if (json != nullptr && !json->is_null())
    BIFOCAL_RETURN_IF_ERROR(out.add(*json, "post_processor", vocabulary));
  return out;
}

// Recursion over Sequence is bounded by the depth limit of the JSON parser.
Status PostProcessor::add(const JsonValue& json, const std::string& path, const Vocabulary& vocabulary) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(json, path));
  BIFOCAL_ASSIGN_OR_RETURN(const std::string type, component_type(reader, path));
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return add_template(reader, vocabulary);
  if (type == "BertProcessing" || type == "RobertaProcessing") return add_pair(reader, vocabulary);
  if (type != "Sequence") {
    return unsupported(
        fmt::format("{}: type \"{}\", expected TemplateProcessing, BertProcessing, RobertaProcessing, "
                    "ByteLevel or Sequence",
                    path, type));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* parts, reader.get_array("processors"));
  if (parts == nullptr) return invalid_argument(path + ".processors: missing");
  for (size_t i = 0; i < parts->size(); ++i) {
    BIFOCAL_RETURN_IF_ERROR(add((*parts)[i], fmt::format("{}.processors[{}]", path, i), vocabulary));
  }
  return {};
}

Status PostProcessor::add_template(const JsonReader& reader, const Vocabulary& vocabulary) {
  const std::string path = reader.path_of("single");
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* items, reader.get_array("single"));
  if (items == nullptr) return invalid_argument(path + ": missing");
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  bool seen_text = false;
  for (const JsonValue& item : *items) {
    if (item.find("Sequence") != nullptr) {
      if (seen_text) return unsupported(path + ": the text appears more than once");
      seen_text = true;
      continue;
    }
    const JsonValue* token = item.find("SpecialToken");
    const JsonValue* name = token == nullptr ? nullptr : token->find("id");
    if (name == nullptr || !name->is_string())
      return invalid_argument(path + ": expected SpecialToken or Sequence entries");
    BIFOCAL_ASSIGN_OR_RETURN(const auto ids, read_template_ids(reader, name->as_string(), vocabulary));
    auto& side = seen_text ? after : before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!seen_text) return invalid_argument(path + ": the text does not appear");
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
  return {};
}

Status PostProcessor::add_pair(const JsonReader& reader, const Vocabulary& vocabulary) {
  BIFOCAL_ASSIGN_OR_RETURN(const TokenId cls, read_token_pair(reader, "cls", vocabulary));
  BIFOCAL_ASSIGN_OR_RETURN(const TokenId sep, read_token_pair(reader, "sep", vocabulary));
  before_.insert(before_.begin(), cls);
  after_.push_back(sep);
  return {};
}

void PostProcessor::apply(std::vector<TokenId>& ids) const {
  ids.insert(ids.begin(), before_.begin(), before_.end());
  ids.insert(ids.end(), after_.begin(), after_.end());
}

}  // namespace bifocal::text
