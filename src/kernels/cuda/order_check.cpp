#include "kernels/cuda/order_check.h"

#include <algorithm>

#include "kernels/cuda/compare_bits.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_link.h"

namespace bifocal::kernels::cuda {
namespace {

// Random signs and mantissas, magnitudes from 2^-15 to 2: where sums cancel, orders show.
Status fill_mixed(const DeviceMemory& memory, uint64_t key) {
  RandomFill fill;
  fill.data = memory.as<void>();
  fill.num_bytes = static_cast<int64_t>(memory.bytes());
  fill.key = key << 40;
  fill.random_mask = 0x87FF87FF87FF87FFULL;
  fill.constant = 0x3800380038003800ULL;
  return random_fill(fill, {});
}

}  // namespace

Expected<OrderCheck> OrderCheck::create(const Product& product, int num_sms) {
  OrderCheck check(product);
  BIFOCAL_RETURN_IF_ERROR(check.fill(num_sms));
  return check;
}

LinearArgs OrderCheck::args(int m) const {
  LinearArgs args;
  args.x = x_.as<uint16_t>();
  args.w = w_.as<uint16_t>();
  args.m = m;
  args.n = product_.n;
  args.k = product_.k;
  args.bias = product_.bias ? bias_.as<uint16_t>() : nullptr;
  args.out = out_.as<void>();
  args.out_dtype = product_.f32 ? DType::f32 : DType::bf16;
  return args;
}

Status OrderCheck::fill(int num_sms) {
  const auto [max_m, n, k, bias, f32] = product_;
  const size_t results = count(max_m, n);
  BIFOCAL_ASSIGN_OR_RETURN(x_, DeviceMemory::allocate(2 * count(max_m, k)));
  BIFOCAL_ASSIGN_OR_RETURN(w_, DeviceMemory::allocate(2 * count(n, k)));
  BIFOCAL_ASSIGN_OR_RETURN(bias_, DeviceMemory::allocate(2 * static_cast<size_t>(n)));
  BIFOCAL_ASSIGN_OR_RETURN(out_, DeviceMemory::allocate((f32 ? 4 : 2) * results));
  for (DeviceMemory* rows : {&sum_, &residual_, &left_}) {
    BIFOCAL_ASSIGN_OR_RETURN(*rows, DeviceMemory::allocate(2 * results));
  }
  BIFOCAL_ASSIGN_OR_RETURN(differing_, DeviceMemory::allocate(sizeof(unsigned long long)));
  uint64_t key = 1;
  for (const DeviceMemory* operand : {&x_, &w_, &bias_}) {
    BIFOCAL_RETURN_IF_ERROR(fill_mixed(*operand, key++));
  }
  for (const bool with_residual : {false, true}) {
    for (int row = 0; row < max_m; row += kLinkMaxM) {
      LinearArgs part = args(std::min(kLinkMaxM, max_m - row));
      part.x += count(row, k);
      part.residual = with_residual ? residual_.as<uint16_t>() + count(row, n) : nullptr;
      part.out = (with_residual ? left_ : sum_).as<uint16_t>() + count(row, n);
      part.out_dtype = DType::bf16;
      BIFOCAL_RETURN_IF_ERROR(run_skinny_link(part, num_sms, {}));
    }
    BIFOCAL_RETURN_IF_ERROR(
        negate(sum_.as<uint16_t>(), static_cast<int64_t>(results), residual_.as<uint16_t>(), {}));
  }
  return to_status(cudaDeviceSynchronize(), "computing what is expected of products");
}

Expected<bool> OrderCheck::same(const LinearArgs& args, const Run& run, const DeviceMemory& high,
                                const uint16_t* low) const {
  // What no run writes is NaN, which equals nothing.
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaMemset(out_.as<void>(), 0xFF, out_.bytes()), "clearing"));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemset(differing_.as<void>(), 0, differing_.bytes()), "clearing a counter"));
  if (!run(args).ok()) return false;
  CompareBits compare;
  compare.actual = args.out;
  compare.dtype = args.out_dtype;
  compare.high = high.as<uint16_t>();
  compare.low = low;
  compare.count = static_cast<int64_t>(count(args.m, args.n));
  compare.differing = differing_.as<unsigned long long>();
  BIFOCAL_RETURN_IF_ERROR(compare_bits(compare, {}));
  unsigned long long differing = 0;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemcpy(&differing, differing_.as<void>(), sizeof(differing), cudaMemcpyDeviceToHost),
                "comparing results"));
  return differing == 0;
}

Expected<bool> OrderCheck::passes(int m, const Run& run) const {
  LinearArgs product = args(m);
  if (product_.f32) return same(product, run, sum_, left_.as<uint16_t>());
  BIFOCAL_ASSIGN_OR_RETURN(const bool sums, same(product, run, sum_, nullptr));
  if (!sums) return false;
  product.residual = residual_.as<uint16_t>();
  return same(product, run, left_, nullptr);
}

}  // namespace bifocal::kernels::cuda
