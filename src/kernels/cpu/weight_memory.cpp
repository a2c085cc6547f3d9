#include "kernels/cpu/weight_memory.h"

#include <fmt/format.h>

#include <cstdlib>

#include "base/progress.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bifocal::kernels::cpu {
namespace {

constexpr size_t kCacheLineBytes = 64;
constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

Expected<WeightMemory> WeightMemory::allocate(size_t num_bytes) {
  const bool huge = num_bytes >= kHugePageBytes;
  void* data = nullptr;
  if (posix_memalign(&data, huge ? kHugePageBytes : kCacheLineBytes, num_bytes) != 0) {
    return resource_exhausted(fmt::format("out of memory for weights ({})", format_bytes(num_bytes)));
  }
#if defined(__linux__)
  // Whole huge pages only: the end stays on small pages, so no more memory is used than was asked for.
  if (huge) (void)madvise(data, num_bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
#endif
  WeightMemory memory;
  memory.data_.reset(data);
  memory.num_bytes_ = num_bytes;
  return memory;
}

void WeightMemory::Free::operator()(void* p) const {
  std::free(p);
}

}  // namespace bifocal::kernels::cpu
