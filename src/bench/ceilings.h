// What this machine can do at best, measured: the rates that kernels' figures are fractions of.
#pragma once

#include <cstddef>
#include <memory>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/cpu/isa.h"
#include "tensor/host_memory.h"

namespace bifocal::bench {

struct Ceilings {
  double dram_read_bytes_per_s = 0.0;
  double copy_bytes_per_s = 0.0;  // bytes read plus bytes written
  double f32_fma_flops = 0.0;     // operations per second, a multiply-add is two
  double bf16_flops = 0.0;        // of the bf16 instructions in use; f32_fma_flops where there are none
  int threads = 0;
  kernels::cpu::Isa isa = kernels::cpu::Isa::scalar;
};

// Each call of a burst takes some tens of milliseconds on all threads of the pool. A neighbour on the machine
// makes a burst slower, never faster, so the best of several bursts, taken between the bursts of what they
// are compared with, is the fair figure.
class CeilingBursts {
 public:
  // Reserves the buffer for memory rates: max_bytes, or a quarter of the free memory where that is less. It
  // must be much larger than the last-level cache share of this process; on virtual machines the cache that
  // is shown belongs to the whole socket, and a buffer that is read in a circle and larger than even that is
  // never found in it.
  static Expected<CeilingBursts> create(ThreadPool& pool, size_t max_bytes = size_t{2} << 30);

  double dram_read_bytes_per_s();
  // The same loop over pieces of page_bytes, rounded up to 4 KiB, that lie anywhere in the buffer: what
  // reading a paged cache can reach.
  double page_read_bytes_per_s(size_t page_bytes);
  double copy_bytes_per_s();
  double f32_fma_flops();
  double bf16_flops();

 private:
  CeilingBursts(ThreadPool& pool, HostMemory buffer) : pool_(&pool), buffer_(std::move(buffer)) {}

  ThreadPool* pool_;
  HostMemory buffer_;
};

// The best of several bursts of each.
Expected<Ceilings> measure_ceilings(ThreadPool& pool);

}  // namespace bifocal::bench
