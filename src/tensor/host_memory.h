// Zeroed memory of the host. Large blocks come fresh from the system, on 2 MiB pages where it offers them:
// page walks and prefetchers that stop at 4 KiB borders cost a fifth to a third of the DRAM read rate, and
// the heap hands out memory again that was touched before and keeps its small pages.
#pragma once

#include <cstddef>
#include <memory>

#include "base/status.h"

namespace bifocal {

class HostMemory {
 public:
  HostMemory() = default;
  // Aligned to 64 bytes at least. Pages of large blocks are taken when they are first touched.
  // resource_exhausted when the system has no such memory.
  static Expected<HostMemory> allocate(size_t num_bytes);

  void* data() const { return data_.get(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  struct Free {
    Free() : mapped_bytes(0) {}
    explicit Free(size_t bytes) : mapped_bytes(bytes) {}
    size_t mapped_bytes;  // 0: from the heap
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t num_bytes_ = 0;
};

}  // namespace bifocal
