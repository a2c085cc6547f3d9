#include "tensor/host_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/progress.h"

namespace bifocal {
namespace {

constexpr size_t kCacheLineBytes = 64;
constexpr size_t kPageBytes = 4096;
constexpr size_t kHugePageBytes = size_t{2} << 20;

// num_bytes, a multiple of kPageBytes, from a huge page's border on; null when there is no memory. The end
// stays on small pages, so that no more memory is used than was asked for.
void* map_huge(size_t num_bytes) {
  size_t reserved_bytes = 0;
  if (__builtin_add_overflow(num_bytes, kHugePageBytes, &reserved_bytes)) return nullptr;
  void* const reserved =
      mmap(nullptr, reserved_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<char*>(reserved);
  const size_t past_border = reinterpret_cast<uintptr_t>(begin) % kHugePageBytes;
  const size_t lead_bytes = past_border == 0 ? 0 : kHugePageBytes - past_border;
  char* const data = begin + lead_bytes;
  if (lead_bytes > 0) munmap(begin, lead_bytes);
  munmap(data + num_bytes, kHugePageBytes - lead_bytes);
  madvise(data, num_bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
  return data;
}

}  // namespace

Expected<HostMemory> HostMemory::allocate(size_t num_bytes) {
  HostMemory memory;
  memory.num_bytes_ = num_bytes;
  if (num_bytes >= kHugePageBytes) {
    const size_t mapped_bytes = (num_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    void* const data = mapped_bytes == 0 ? nullptr : map_huge(mapped_bytes);
    memory.data_ = std::unique_ptr<void, Free>(data, Free(mapped_bytes));
  } else {
    const size_t rounded = (num_bytes / kCacheLineBytes + 1) * kCacheLineBytes;
    void* const data = std::aligned_alloc(kCacheLineBytes, rounded);
    if (data != nullptr) std::memset(data, 0, rounded);
    memory.data_ = std::unique_ptr<void, Free>(data, Free());
  }
  if (memory.data_ == nullptr)
    return resource_exhausted(fmt::format("no memory ({})", format_bytes(num_bytes)));
  return memory;
}

void HostMemory::Free::operator()(void* p) const {
  if (mapped_bytes > 0) {
    munmap(p, mapped_bytes);
  } else {
    std::free(p);
  }
}

}  // namespace bifocal
