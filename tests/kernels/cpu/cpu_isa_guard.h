// Uses an instruction set for a test's duration.
#pragma once

#include "base/check.h"
#include "kernels/cpu/isa.h"

namespace bifocal::kernels::cpu {

class CpuIsaGuard {
 public:
  explicit CpuIsaGuard(Isa isa) : before_(current_isa()) { BIFOCAL_CHECK(set_isa(isa).ok()); }
  ~CpuIsaGuard() { (void)set_isa(before_).ok(); }
  CpuIsaGuard(const CpuIsaGuard&) = delete;
  CpuIsaGuard& operator=(const CpuIsaGuard&) = delete;

 private:
  Isa before_;
};

}  // namespace bifocal::kernels::cpu
