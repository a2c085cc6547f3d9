// The usual test main, and --case="...": one attention problem, as a failing test prints it.
#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "attention/attention_case.h"

namespace {

int run_one(std::string_view line) {
  using namespace bifocal::attention;
  const auto spec = parse_case(line);
  if (!spec.ok()) {
    std::fprintf(stderr, "%s\n", spec.status().message().c_str());
    return 2;
  }
  const std::string difference = compare(*spec, run_case(*spec), run_reference(*spec));
  std::printf("%s\n", difference.empty() ? "within the bound" : difference.c_str());
  return difference.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kFlag = "--case=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kFlag)) return run_one(argument.substr(kFlag.size()));
  }
  return RUN_ALL_TESTS();
}
