// Every backend against `reference` on random problems: the cross product of heads, dims, dtypes, page sizes,
// windows, sinks, softcaps, lengths, phases and instruction sets.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "attention/attention_case.h"

namespace bifocal::attention {
namespace {

constexpr uint64_t kCases = 2400;

TEST(Conformance, RandomProblems) {
  int failures = 0;
  for (uint64_t seed = 0; seed < kCases && failures < 5; ++seed) {
    const CaseSpec spec = random_case(seed);
    const std::string difference = compare(spec, run_case(spec), run_reference(spec));
    if (difference.empty()) continue;
    ++failures;
    ADD_FAILURE() << difference;
  }
}

TEST(Conformance, CaseTextRoundTrips) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string text = to_string(random_case(seed));
    const auto parsed = parse_case(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(to_string(*parsed), text);
  }
  EXPECT_FALSE(parse_case("heads=3").ok());
  EXPECT_FALSE(parse_case("nonsense=1").ok());
}

}  // namespace
}  // namespace bifocal::attention
