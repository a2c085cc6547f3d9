#include "kernels/cpu/isa.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <string>

#include "base/check.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bifocal::kernels::cpu {
namespace {

struct IsaName {
  Isa isa;
  std::string_view name;
};
constexpr std::array<IsaName, 5> kIsas = {{{Isa::scalar, "scalar"},
                                           {Isa::avx2, "avx2"},
                                           {Isa::avx512, "avx512"},
                                           {Isa::avx512_bf16, "avx512_bf16"},
                                           {Isa::amx, "amx"}}};  // from the plainest to the best

struct Features {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx = false;
};

#if defined(__x86_64__)

struct CpuidRegisters {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};
CpuidRegisters cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

constexpr bool has(uint32_t word, int bit) {
  return ((word >> bit) & 1U) != 0;
}
constexpr bool has_all(uint64_t word, uint64_t mask) {
  return (word & mask) == mask;
}

// Which register states the operating system saves: a processor may offer instructions that it doesn't.
uint64_t enabled_states() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

// Linux hands out the 8 KiB of tile state on request only; the permission covers the whole process.
bool request_tile_permission() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features detect() {
  constexpr uint64_t kYmm = 0x6;          // SSE, AVX
  constexpr uint64_t kZmm = kYmm | 0xe0;  // opmask, upper halves, upper registers
  constexpr uint64_t kTiles = 0x3ULL << 17;
  Features f;
  const CpuidRegisters one = cpuid(1, 0);
  const CpuidRegisters seven = cpuid(7, 0);
  const CpuidRegisters seven_one = cpuid(7, 1);
  if (!has(one.ecx, 27)) return f;  // OSXSAVE
  const uint64_t states = enabled_states();
  const bool fma = has(one.ecx, 12);
  const bool f16c = has(one.ecx, 29);
  f.avx2 = has_all(states, kYmm) && fma && f16c && has(seven.ebx, 5);
  const bool f_dq_bw_vl =
      has(seven.ebx, 16) && has(seven.ebx, 17) && has(seven.ebx, 30) && has(seven.ebx, 31);
  f.avx512 = f.avx2 && has_all(states, kZmm) && f_dq_bw_vl;
  f.avx512_bf16 = f.avx512 && has(seven_one.eax, 5);
  const bool tile_bf16 = has(seven.edx, 22) && has(seven.edx, 24);
  f.amx = f.avx512_bf16 && has_all(states, kTiles) && tile_bf16 && request_tile_permission();
  return f;
}

#else

Features detect() {
  return {};
}

#endif

const Features& features() {
  static const Features detected = detect();
  return detected;
}

Isa best_isa() {
  return supported_isas().back();
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

std::string supported_names() {
  std::string names;
  for (const Isa isa : supported_isas()) {
    if (!names.empty()) names += ", ";
    names += to_string(isa);
  }
  return names;
}

}  // namespace

std::string_view to_string(Isa isa) {
  for (const auto& entry : kIsas) {
    if (entry.isa == isa) return entry.name;
  }
  return "unknown";
}

Expected<Isa> parse_isa(std::string_view name) {
  if (name == "auto") return best_isa();
  for (const auto& entry : kIsas) {
    if (entry.name == name) return entry.isa;
  }
  return invalid_argument(fmt::format(
      "instruction set \"{}\" is unknown; use auto, scalar, avx2, avx512, avx512_bf16 or amx", name));
}

bool is_supported(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return features().avx2;
    case Isa::avx512:
      return features().avx512;
    case Isa::avx512_bf16:
      return features().avx512_bf16;
    case Isa::amx:
      return features().amx;
  }
  return false;
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const auto& entry : kIsas) {
    if (is_supported(entry.isa)) isas.push_back(entry.isa);
  }
  return isas;
}

Isa current_isa() {
  return current().load(std::memory_order_relaxed);
}

Status set_isa(Isa isa) {
  if (!is_supported(isa)) {
    return unsupported(fmt::format("instruction set {}: not supported here; this machine has {}",
                                   to_string(isa), supported_names()));
  }
  current().store(isa, std::memory_order_relaxed);
  return {};
}

}  // namespace bifocal::kernels::cpu
