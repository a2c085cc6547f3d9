#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace bifocal {

void check_failed(const char* file, int line, const char* expression, const std::string& detail) {
  std::fprintf(stderr, "bifocal: bug: %s:%d: check failed: %s %s\n", file, line, expression, detail.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace bifocal
