#include "kernels/cuda/linear_in_order.h"

#include <algorithm>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_buckets.h"
#include "kernels/cuda/order_check.h"
#include "kernels/cuda/skinny_gemm.h"
#include "kernels/cuda/skinny_link.h"

namespace bifocal::kernels::cuda {
namespace {

// Where the library would cut K, its guesses for up to so many rows are the better ones that don't.
constexpr int kGuessRows = 256;

Expected<OrderCheck> check_of(const LinearProduct& product, const OrderedDevice& device) {
  return OrderCheck::create(
      {product.max_m, product.n, product.k, product.bias, product.out_dtype == DType::f32}, device.num_sms);
}

Expected<bool> passes(const OrderCheck& check, LinearRows rows, const LinearChoice& choice,
                      const OrderedDevice& device) {
  const auto run = [&](const LinearArgs& args) {
    if (choice.kind == LinearKind::skinny) {
      return run_skinny(args, device.skinny_workspace, device.num_sms, {});
    }
    return device.cublaslt->run(args, choice.algorithm, device.cublaslt_workspace, {});
  };
  for (const int m : {rows.most, rows.least, (rows.least + rows.most) / 2}) {
    BIFOCAL_ASSIGN_OR_RETURN(const bool same, check.passes(m, run));
    if (!same) return false;
  }
  return true;
}

Expected<LinearMeasured> fastest(const OrderCheck& check, LinearRows rows, const LinearProduct& product,
                                 const OrderedDevice& device) {
  LinearCandidates candidates;
  candidates.product = product;
  candidates.product.max_m = rows.most;
  candidates.guess_rows = {rows.most, rows.least, 2 * rows.most};
  for (int m = 4 * rows.most; m <= kGuessRows; m *= 2) candidates.guess_rows.push_back(m);
  candidates.admits = [&](const LinearChoice& choice) { return passes(check, rows, choice, device); };
  candidates.num_sms = device.num_sms;
  candidates.skinny_workspace = device.skinny_workspace;
  candidates.cublaslt_workspace = device.cublaslt_workspace;
  return measure_linear(candidates, *device.cublaslt);
}

}  // namespace

InOrderProducts::Key InOrderProducts::key_of(const LinearArgs& args) {
  return {args.n, args.k, args.bias != nullptr, args.out_dtype};
}

Status InOrderProducts::prepare(const LinearProduct& product, const LinearTable& table,
                                const OrderedDevice& device) {
  const Key key{product.n, product.k, product.bias, product.out_dtype};
  if (const auto known = max_rows_.find(key); known != max_rows_.end() && known->second >= product.max_m) {
    return {};
  }
  BIFOCAL_ASSIGN_OR_RETURN(const OrderCheck check, check_of(product, device));
  const bool has_table = product.out_dtype == DType::bf16 && !product.bias;
  BucketChecks checks;
  checks.passes = [&](LinearRows rows, const LinearChoice& choice) {
    return passes(check, rows, choice, device);
  };
  checks.best = [&](LinearRows rows) -> Expected<LinearChoice> {
    const LinearChoice* known =
        has_table ? table.find({linear_bucket(rows.most), product.n, product.k, product.gated, true})
                  : nullptr;
    if (known != nullptr) {
      BIFOCAL_ASSIGN_OR_RETURN(const bool serves, checks.passes(rows, *known));
      if (serves) return *known;
    }
    BIFOCAL_ASSIGN_OR_RETURN(const LinearMeasured measured, fastest(check, rows, product, device));
    return measured.choice;
  };
  const int least = product.out_dtype == DType::f32 ? 1 : kLinkMaxM + 1;
  BIFOCAL_ASSIGN_OR_RETURN(const auto found, choices_by_bucket({least, product.max_m}, checks));
  for (const auto& [bucket, choice] : found) choices_[{key, bucket}] = choice;
  max_rows_[key] = product.max_m;
  return {};
}

Expected<LinearChoice> InOrderProducts::choice(const LinearArgs& args) const {
  const auto found = choices_.find({key_of(args), linear_bucket(args.m)});
  if (found != choices_.end()) return found->second;
  return unsupported("a deterministic product of more rows than prepared: " + std::to_string(args.m));
}

Expected<LinearMeasured> measure_in_order(const LinearProduct& product, const OrderedDevice& device) {
  BIFOCAL_ASSIGN_OR_RETURN(const OrderCheck check, check_of(product, device));
  return fastest(check, {linear_bucket(product.max_m) / 2 + 1, product.max_m}, product, device);
}

}  // namespace bifocal::kernels::cuda
