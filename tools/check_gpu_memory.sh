#!/usr/bin/env bash
# Small cases of every kernel under compute-sanitizer, with racecheck and with memcheck. Fails on any finding; exit 77 without a
# GPU or compute-sanitizer.
#
#   tools/check_gpu_memory.sh [BUILD_DIR]      # build/cuda
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/cuda}

decode=Conformance/Decode.AgreesWithTheReference
prefill=Conformance/Prefill.AgreesWithTheReference
attention=(
  $decode/small_d64 $decode/small_d64_group_16 $decode/small_d128 $decode/small_d128_group_16 $decode/small_d256
  $decode/ragged_group_5
  $prefill/small_d64 $prefill/small_d128 $prefill/small_d256
  'DecodePlanKernel.*' 'PrefillPlanKernel.*'
)
layer=(
  DecodeRotate.SmallStepsHaveThemToo 'GatherRows.*' 'RmsNorm.*' 'SiluMul.*' 'RopeKv.*' 'PageCopy.*' SkinnyGemm.GatesInTheEpilogue SkinnyGemm.GivesFloatsWithoutRounding
  LinearChain.LinksWithoutANormHaveTheBitsOfProductsAlone Sample.EqualLogitsGoToTheLowestId Sample.ForbiddenAndBrokenLogits
)

# Names that nothing answers to would be clean for ever.
require_tests() { # program, names
  local name
  for name in "${@:2}"; do
    if ! "$1" --gtest_list_tests --gtest_filter="$name" | grep -q '^  '; then
      echo "$1 has no test $name"
      exit 1
    fi
  done
}
require_tests "$build/kernels_cuda_tests" "${attention[@]}"
require_tests "$build/kernels_cuda_layer_tests" "${layer[@]}"
if ! command -v compute-sanitizer >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  echo "skip: no GPU, or no compute-sanitizer"
  exit 77
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
check() { # tool, program, names
  local begin=$SECONDS verdict=clean names
  names=$(IFS=: && echo "${*:3}")
  if ! compute-sanitizer --tool "$1" --error-exitcode 1 --print-limit 20 "$2" --gtest_filter="$names" >"$log" 2>&1 ||
     ! grep -q 'SUMMARY: 0 ' "$log"; then
    verdict=FAILED
    failed=1
    cat "$log"
  fi
  echo "$1 ${2##*/}: $verdict, $(grep -c '^\[       OK' "$log" || true) cases, $((SECONDS - begin)) s"
}
for tool in racecheck memcheck; do
  check "$tool" "$build/kernels_cuda_tests" "${attention[@]}"
  check "$tool" "$build/kernels_cuda_layer_tests" "${layer[@]}"
done
exit "$failed"
