#include "eval/generator.h"

#include <fmt/format.h>

#include <bit>

namespace bifocal::eval {

std::string Answer::fingerprint() const {
  std::string out = text;
  for (const int32_t id : token_ids) out += fmt::format("\n{}", id);
  for (const float logprob : logprobs) out += fmt::format("\n{:08x}", std::bit_cast<uint32_t>(logprob));
  return out;
}

}  // namespace bifocal::eval
