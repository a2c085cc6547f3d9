#include "bench/ceilings.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>

#include "kernels/cpu/peak.h"

namespace bifocal::bench {
namespace {

constexpr size_t kTaskBytes = size_t{8} << 20;
constexpr size_t kSmallestBuffer = size_t{128} << 20;

size_t buffer_bytes(size_t max_bytes) {
  const long pages = sysconf(_SC_AVPHYS_PAGES);
  const long page_bytes = sysconf(_SC_PAGESIZE);
  size_t bytes = max_bytes;
  if (pages > 0 && page_bytes > 0) {
    bytes = std::min(bytes, static_cast<size_t>(pages) * static_cast<size_t>(page_bytes) / 4);
  }
  return std::max(bytes, kSmallestBuffer) / (2 * kTaskBytes) * (2 * kTaskBytes);
}

// fn(task) for all tasks on all threads; the seconds it took.
template <class Fn>
double time_tasks(ThreadPool& pool, int64_t num_tasks, Fn fn) {
  const auto begin = std::chrono::steady_clock::now();
  pool.parallel_for(num_tasks, [&](int64_t task, int) { fn(task); });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Operations per second of a peak loop. Short tasks, so that a thread that lost its core for a while is made
// up for.
double flops_of(ThreadPool& pool, int64_t (*loop)(int64_t)) {
  constexpr int64_t kIterations = 100000;
  constexpr int64_t kTasksPerThread = 60;
  std::atomic<int64_t> operations{0};
  const double seconds = time_tasks(pool, kTasksPerThread * pool.num_threads(), [&](int64_t) {
    operations.fetch_add(loop(kIterations), std::memory_order_relaxed);
  });
  return static_cast<double>(operations.load()) / seconds;
}

}  // namespace

Expected<CeilingBursts> CeilingBursts::create(ThreadPool& pool, size_t max_bytes) {
  BIFOCAL_ASSIGN_OR_RETURN(auto buffer, HostMemory::allocate(buffer_bytes(max_bytes)));
  std::memset(buffer.data(), 0,
              buffer.num_bytes());  // pages that were never written all read from one page of zeros
  return CeilingBursts(pool, std::move(buffer));
}

double CeilingBursts::dram_read_bytes_per_s() {
  const auto read = kernels::cpu::peak_loops(kernels::cpu::current_isa()).read;
  const auto* const data = static_cast<const char*>(buffer_.data());
  std::atomic<uint32_t> sink{0};
  const size_t num_tasks = buffer_.num_bytes() / kTaskBytes;
  const double seconds = time_tasks(*pool_, static_cast<int64_t>(num_tasks), [&](int64_t task) {
    sink.fetch_xor(read(data + static_cast<size_t>(task) * kTaskBytes, kTaskBytes),
                   std::memory_order_relaxed);
  });
  return static_cast<double>(num_tasks * kTaskBytes) / seconds;
}

double CeilingBursts::page_read_bytes_per_s(size_t page_bytes) {
  constexpr size_t kGranule = 4096;
  const auto read = kernels::cpu::peak_loops(kernels::cpu::current_isa()).read;
  const auto* const data = static_cast<const char*>(buffer_.data());
  const size_t bytes =
      std::min((std::max<size_t>(page_bytes, 1) + kGranule - 1) / kGranule * kGranule, kTaskBytes);
  const size_t num_pages = buffer_.num_bytes() / bytes;
  // Steps of about the golden section of the buffer visit every page once, each far from the one before.
  size_t step = std::max<size_t>(1, num_pages * 618 / 1000);
  while (std::gcd(step, num_pages) != 1) ++step;
  const size_t pages_per_task = kTaskBytes / bytes;
  const size_t num_tasks = num_pages / pages_per_task;
  std::atomic<uint32_t> sink{0};
  const double seconds = time_tasks(*pool_, static_cast<int64_t>(num_tasks), [&](int64_t task) {
    for (size_t i = 0; i < pages_per_task; ++i) {
      const size_t page = (static_cast<size_t>(task) * pages_per_task + i) * step % num_pages;
      sink.fetch_xor(read(data + page * bytes, bytes), std::memory_order_relaxed);
    }
  });
  return static_cast<double>(num_tasks * pages_per_task * bytes) / seconds;
}

double CeilingBursts::copy_bytes_per_s() {
  auto* const data = static_cast<char*>(buffer_.data());
  const size_t half = buffer_.num_bytes() / 2;
  const double seconds = time_tasks(*pool_, static_cast<int64_t>(half / kTaskBytes), [&](int64_t task) {
    const size_t at = static_cast<size_t>(task) * kTaskBytes;
    std::memcpy(data + half + at, data + at, kTaskBytes);
  });
  return 2.0 * static_cast<double>(half) / seconds;
}

double CeilingBursts::f32_fma_flops() {
  return flops_of(*pool_, kernels::cpu::peak_loops(kernels::cpu::current_isa()).f32_fma);
}

double CeilingBursts::bf16_flops() {
  const auto loop = kernels::cpu::peak_loops(kernels::cpu::current_isa()).bf16_dot;
  return loop == nullptr ? f32_fma_flops() : flops_of(*pool_, loop);
}

Expected<Ceilings> measure_ceilings(ThreadPool& pool) {
  constexpr int kBursts = 8;
  BIFOCAL_ASSIGN_OR_RETURN(auto bursts, CeilingBursts::create(pool));
  Ceilings best;
  best.threads = pool.num_threads();
  best.isa = kernels::cpu::current_isa();
  for (int i = 0; i < kBursts; ++i) {
    best.dram_read_bytes_per_s = std::max(best.dram_read_bytes_per_s, bursts.dram_read_bytes_per_s());
    best.copy_bytes_per_s = std::max(best.copy_bytes_per_s, bursts.copy_bytes_per_s());
    best.f32_fma_flops = std::max(best.f32_fma_flops, bursts.f32_fma_flops());
    best.bf16_flops = std::max(best.bf16_flops, bursts.bf16_flops());
  }
  return best;
}

}  // namespace bifocal::bench
