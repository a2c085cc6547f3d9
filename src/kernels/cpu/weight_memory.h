// Memory for weights, which are streamed from end to end: on 2 MiB pages where the system offers them,
// because page walks and prefetchers that stop at 4 KiB borders cost a fifth to a third of the DRAM read
// rate.
#pragma once

#include <cstddef>
#include <memory>

#include "base/status.h"

namespace bifocal::kernels::cpu {

class WeightMemory {
 public:
  WeightMemory() = default;
  // Aligned to 64 bytes at least; contents unspecified.
  static Expected<WeightMemory> allocate(size_t num_bytes);

  void* data() const { return data_.get(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  size_t num_bytes_ = 0;
};

}  // namespace bifocal::kernels::cpu
