// engine_simulator [first_seed [num_seeds]]: the long form of the simulator test, and its repro.
#include <cstdio>
#include <cstdlib>

#include "engine/simulator.h"

int main(int argc, char** argv) {
  const uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  const uint64_t count = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 100'000;
  bifocal::engine::SimulationResult total;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const auto result = bifocal::engine::simulate(seed);
    if (result.failure) {
      std::fprintf(stderr, "%s\n%s\n", result.failure->c_str(), bifocal::engine::repro(seed).c_str());
      return 1;
    }
    total += result;
  }
  std::printf(
      "%llu seeds, %llu steps, %llu requests, %llu tokens, %llu retractions, %llu outgrown, %llu rows of "
      "which "
      "%llu recomputed: all invariants held\n",
      static_cast<unsigned long long>(count), static_cast<unsigned long long>(total.steps),
      static_cast<unsigned long long>(total.requests), static_cast<unsigned long long>(total.tokens),
      static_cast<unsigned long long>(total.retractions), static_cast<unsigned long long>(total.outgrown),
      static_cast<unsigned long long>(total.computed_tokens),
      static_cast<unsigned long long>(total.recomputed_tokens));
  return 0;
}
