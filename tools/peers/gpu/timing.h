// How things are timed: a CUDA graph of calls, replayed and timed by events; medians; twice, for the spread.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <vector>

namespace bifocal::peers {

void check(cudaError_t error, const char* what);  // prints and exits
#define CUDA_OK(call) ::bifocal::peers::check((call), #call)

double median(std::vector<double> values);

struct Timing {
  double us = 0.0;      // a call: mean of two medians
  double spread = 0.0;  // their difference over their mean
};

// Captures `calls` calls, record(i, stream) each, and times replays of the graph.
Timing time_graph(int calls, const std::function<void(int, cudaStream_t)>& record, int replays = 9);

// Times call(stream) between events, `repeats` times after `warmups`, no graph; the median, twice.
Timing time_stream(const std::function<void(cudaStream_t)>& call, int warmups, int repeats);

// Once, with no pause between warm-ups and calls; microseconds of a call.
double time_stream_once(const std::function<void(cudaStream_t)>& call, int warmups, int repeats);

// The SM clock now, in MHz, from the device's own counters.
double sm_clock_mhz();

}  // namespace bifocal::peers
