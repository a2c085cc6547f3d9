// The normalizer of tokenizer.json: rewrites text before it is split into pieces.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace bifocal::text {

class NormalizerStep;

class Normalizer {
 public:
  // json may be null (nothing to do). NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, Sequence;
  // others are `unsupported`.
  static Expected<Normalizer> from_json(const JsonValue* json);
  Normalizer();
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  Status apply(std::string& text) const;

 private:
  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

}  // namespace bifocal::text
