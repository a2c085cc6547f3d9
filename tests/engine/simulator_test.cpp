#include "engine/simulator.h"

#include <gtest/gtest.h>

namespace bifocal::engine {
namespace {

TEST(Simulator, InvariantsHoldAfterEveryStep) {
  constexpr uint64_t kSeeds = 5000;
  SimulationResult total;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const SimulationResult result = simulate(seed);
    ASSERT_FALSE(result.failure) << *result.failure << "\n" << repro(seed);
    total += result;
  }
  // The load reaches every mechanism.
  RecordProperty("steps", std::to_string(total.steps));
  EXPECT_GT(total.steps, kSeeds * 50);
  EXPECT_GT(total.tokens, kSeeds * 50);
  EXPECT_GT(total.retractions, kSeeds);
  EXPECT_GT(total.recomputed_tokens, kSeeds);
  EXPECT_GT(total.cached_tokens, kSeeds);
  EXPECT_GT(total.copies, kSeeds);
  EXPECT_GT(total.mixed_steps, kSeeds);
  EXPECT_GT(total.faults, kSeeds / 10);
  EXPECT_GT(total.aborts, kSeeds / 10);
  EXPECT_GT(total.outgrown, kSeeds / 10);
  EXPECT_GT(total.poisoned_pages, kSeeds * 50);
  EXPECT_GT(total.planned_ahead, kSeeds * 20);
  EXPECT_GT(total.rows_too_far, kSeeds / 2);
  EXPECT_GT(total.windowed_retractions, kSeeds / 2);
  EXPECT_GT(total.windowed_cached_tokens, kSeeds);
}

TEST(Simulator, TheSameSeedGivesTheSameRun) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const SimulationResult a = simulate(seed);
    const SimulationResult b = simulate(seed);
    EXPECT_EQ(a.steps, b.steps);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.computed_tokens, b.computed_tokens);
    EXPECT_EQ(a.retractions, b.retractions);
  }
}

}  // namespace
}  // namespace bifocal::engine
