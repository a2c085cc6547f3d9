// The usual test main, and
//   --case="..."       one attention problem, as a failing test prints it
//   --cases=0-50000    random problems by number
#include <gtest/gtest.h>

#include <charconv>
#include <cstdio>
#include <string_view>
#include <system_error>

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

int run_range(std::string_view range) {
  using namespace bifocal::attention;
  uint64_t first = 0;
  uint64_t last = 0;
  const char* const end = range.data() + range.size();
  const auto [dash, error] = std::from_chars(range.data(), end, first);
  if (error != std::errc() || dash == end || *dash != '-' ||
      std::from_chars(dash + 1, end, last).ptr != end || first >= last) {
    std::fprintf(stderr, "--cases: expected for example 0-50000\n");
    return 2;
  }
  int failures = 0;
  for (uint64_t number = first; number < last && failures < 20; ++number) {
    const CaseSpec spec = random_case(number);
    const std::string difference = compare(spec, run_case(spec), run_reference(spec));
    if (!difference.empty()) {
      ++failures;
      std::printf("%s\n", difference.c_str());
    }
    if ((number + 1) % 1000 == 0) {
      std::printf("%llu cases, %d wrong\n", static_cast<unsigned long long>(number + 1 - first), failures);
      std::fflush(stdout);
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kFlag = "--case=";
  constexpr std::string_view kRangeFlag = "--cases=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kFlag)) return run_one(argument.substr(kFlag.size()));
    if (argument.starts_with(kRangeFlag)) return run_range(argument.substr(kRangeFlag.size()));
  }
  return RUN_ALL_TESTS();
}
