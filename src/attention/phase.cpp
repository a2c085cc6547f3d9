#include "attention/phase.h"

namespace bifocal::attention {

std::string_view to_string(Phase phase) {
  switch (phase) {
    case Phase::prefill:
      return "prefill";
    case Phase::decode:
      return "decode";
    case Phase::verify:
      return "verify";
  }
  return "unknown";
}

}  // namespace bifocal::attention
