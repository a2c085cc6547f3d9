// Linear layers: the arguments that every kind of matrix product takes, and the front that picks the kind.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/launch_options.h"
#include "kernels/cuda/linear_measure.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/linear_table.h"
#include "tensor/dtype.h"

namespace bifocal::kernels::cuda {

// out = x W' (+ bias) (+ residual), f32 accumulation. The result is rounded once, but where the residual is
// out, many of cuBLASLt's algorithms round the product before they add it. Pointers are device memory,
// 16-byte aligned; K is a multiple of 8.
struct LinearArgs {
  const uint16_t* x = nullptr;  // bf16 [M, K]
  const uint16_t* w = nullptr;  // bf16 [N, K], as checkpoints keep it
  int m = 0;
  int n = 0;
  int k = 0;
  const uint16_t* bias = nullptr;      // bf16 [N] or null
  const uint16_t* residual = nullptr;  // bf16 [M, N] or null; may be out, but not in deterministic mode
  void* out = nullptr;                 // [M, N]
  DType out_dtype = DType::bf16;       // or f32, then without bias and residual
};

// out = silu(x Wg') * (x Wu'), W being [2 I, K] with the rows of Wg first.
struct GatedLinearArgs {
  const uint16_t* x = nullptr;  // bf16 [M, K]
  const uint16_t* w = nullptr;  // bf16 [2 I, K]
  int m = 0;
  int inner = 0;  // I
  int k = 0;
  const uint16_t* bias = nullptr;  // bf16 [2 I] or null
  uint16_t* wide = nullptr;        // bf16 [M, 2 I], scratch
  uint16_t* out = nullptr;         // bf16 [M, I]
};

// One of the products that follow one another in a layer, as LinearArgs or, where gated, GatedLinearArgs.
struct LinearLink {
  const uint16_t* x = nullptr;  // what the link before has written, or bf16 [M, K] from before the chain
  const uint16_t* w = nullptr;
  int n = 0;  // where gated: I
  int k = 0;
  bool gated = false;
  const uint16_t* bias = nullptr;
  const uint16_t* residual = nullptr;
  uint16_t* wide = nullptr;
  uint16_t* out = nullptr;
  // Weights of a norm between this link and the next, or null; the next link's x is then `normed`. What stays
  // there is the norm of out, or out times the weights where a kernel divides the next link's sums instead.
  const uint16_t* norm = nullptr;  // bf16 [N]
  uint16_t* normed = nullptr;      // bf16 [M, N]
};

struct LinearChain {
  int m = 0;
  float norm_eps = 0.0F;
  int num_links = 0;
  std::array<LinearLink, 4> links;

  std::span<const LinearLink> view() const { return {links.data(), static_cast<size_t>(num_links)}; }
  LinearLink& add() { return links[static_cast<size_t>(num_links++)]; }
};

struct LinearOptions {
  // A row's bits do not depend on the others: sums go along the whole of K in one order, whatever M is, in
  // products that have been prepared. Others take one of cuBLASLt's algorithms without split-K for every M.
  bool deterministic = false;
  LinearTable table;   // measured choices; what it lacks is chosen by rule, or all if it is of another device
  bool chains = true;  // false: link by link whatever the shape
};

// Holds cuBLASLt, found at run time, and what was chosen for each shape. One per stream; not thread-safe.
class Linear {
 public:
  // unavailable when there is no cuBLASLt or no device.
  static Expected<Linear> create(const LinearOptions& options);
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;
  ~Linear();

  // For deterministic mode, before any product is run: finds for every number of rows an algorithm whose bits
  // are the same as all others' (OrderCheck), the table's or the fastest. What can't be prepared is said in
  // the log. Takes scratch for the operands and synchronises; without deterministic mode it does nothing.
  void prepare(const LinearProduct& product);

  // Neither allocates device memory nor synchronises; all can be captured. Weights are read before the
  // kernel ahead has ended (LaunchOptions::programmatic), so that kernel must not write them.
  Status run(const LinearArgs& args, const LaunchOptions& launch);
  Status run_gated(const GatedLinearArgs& args, const LaunchOptions& launch);
  // One kernel for few rows, else link by link. Launched programmatically, the kernel ahead must write none
  // of the chain's weights, and no other chain may run on the device meanwhile.
  Status run_chain(const LinearChain& chain, const LaunchOptions& launch);

  // The kind that run takes for a shape, for logs: "cublaslt 66 tile 15 stages 35 split 3 scheme 2",
  // "skinny", "one link".
  std::string describe(int m, int n, int k, bool gated = false);

  // Times every candidate for a shape, with weights that no cache holds, and adds the fastest to the table;
  // in deterministic mode the fastest whose bits are those of every M. gated: of run_gated, with N = 2 I.
  // Allocates scratch and synchronises.
  Expected<LinearMeasured> measure(int m, int n, int k, bool gated);
  const LinearTable& table() const;

 private:
  struct State;
  explicit Linear(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bifocal::kernels::cuda
