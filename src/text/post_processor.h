// The post-processor of tokenizer.json: tokens put around the encoded text (a BOS token, for example).
#pragma once

#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace bifocal::text {

class PostProcessor {
 public:
  // json may be null. TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (which only moves
  // offsets), Sequence; others are `unsupported`.
  static Expected<PostProcessor> from_json(const JsonValue* json, const Vocabulary& vocabulary);

  void apply(std::vector<TokenId>& ids) const;

 private:
  Status add(const JsonValue& json, const std::string& path, const Vocabulary& vocabulary);
  Status add_template(const JsonReader& reader, const Vocabulary& vocabulary);
  Status add_pair(const JsonReader& reader, const Vocabulary& vocabulary);

  std::vector<TokenId> before_;
  std::vector<TokenId> after_;
};

}  // namespace bifocal::text
