// The scheduler, the page pool and the prefix tree under random load, with a mock device, which runs steps
// as late as it may, and a virtual clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace bifocal::engine {

struct SimulationResult {
  uint64_t steps = 0;
  uint64_t requests = 0;
  uint64_t tokens = 0;  // generated
  uint64_t computed_tokens = 0;
  uint64_t recomputed_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t retractions = 0;
  uint64_t copies = 0;
  uint64_t faults = 0;
  uint64_t aborts = 0;
  uint64_t outgrown = 0;
  uint64_t mixed_steps = 0;     // prefill and decode together
  uint64_t poisoned_pages = 0;  // window pages that were free behind a step
  uint64_t planned_ahead = 0;   // steps that were planned with another in flight
  uint64_t rows_too_far = 0;    // of sequences that ended while the step was in flight
  uint64_t windowed_retractions = 0;
  uint64_t windowed_cached_tokens = 0;
  std::optional<std::string> failure;

  SimulationResult& operator+=(const SimulationResult& other);  // counts only
};

// Everything (sizes, load, aborts, faults) follows from the seed. A broken invariant ends the run with a
// failure; a failed check inside the code under test prints the same one-line repro and stops the process.
SimulationResult simulate(uint64_t seed);

// "reproduce with: engine_simulator <seed> 1"
std::string repro(uint64_t seed);

}  // namespace bifocal::engine
