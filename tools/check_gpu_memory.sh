#!/usr/bin/env bash
# Small cases of every kernel under compute-sanitizer, with racecheck and with memcheck. Fails on any finding; exit 77 without a
# GPU or compute-sanitizer.
#
#   tools/check_gpu_memory.sh [BUILD_DIR]      # build/cuda
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/cuda}
if ! command -v compute-sanitizer >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "skip: no GPU, or no compute-sanitizer"
  exit 77
fi

# Every instantiation of decode (head dim, rows: 64/8, 64/16, 128/8, 128/16, 256/8) and prefill (64, 128, 256).
decode=Conformance/Decode.AgreesWithTheReference
prefill=Conformance/Prefill.AgreesWithTheReference
attention=$decode/one_page:$decode/ragged_d64:$decode/group_16_d64:$decode/ragged_group_5:$decode/group_16_d128
attention+=:$decode/ragged_d256:$prefill/one_tile:$prefill/cached_d64:$prefill/cached_group_5:$prefill/cached_d256
attention+=:DecodePlanKernel.*:PrefillPlanKernel.*
layer=GatherRows.*:RmsNorm.*:SiluMul.*:RopeKv.*:PageCopy.*:SkinnyGemm.GatesInTheEpilogue:LinearChain.LinksWithoutANorm*
layer+=:Sample.EqualLogits*:Sample.Forbidden*

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for tool in racecheck memcheck; do
  for suite in "kernels_cuda_tests $attention" "kernels_cuda_layer_tests $layer"; do
    read -r tests filter <<<"$suite"
    begin=$SECONDS
    # --error-exitcode: racecheck's findings are no errors of the program.
    if compute-sanitizer --tool "$tool" --error-exitcode 1 --print-limit 20 "$build/$tests" --gtest_filter="$filter" \
       >"$log" 2>&1; then
      verdict=clean
    else
      verdict=FAILED
      failed=1
      cat "$log"
    fi
    echo "$tool $tests: $verdict, $((SECONDS - begin)) s, $(grep -c '^\[       OK' "$log" || true) cases"
  done
done
exit "$failed"
