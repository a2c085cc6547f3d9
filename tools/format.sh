#!/usr/bin/env bash
# Formats the sources with clang-format 14; --check only tells which files differ. Exit 77 without clang-format 14.
set -euo pipefail
cd "$(dirname "$0")/.."
format=$(command -v clang-format-14 || command -v clang-format || true)
if [[ -z "$format" ]] || ! "$format" --version | grep -q 'version 14\.'; then
  echo "skip: clang-format 14 is not installed"
  exit 77
fi
if [[ "${1:-}" == --check ]]; then
  git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.h' 'tests/*.cpp' | xargs "$format" --dry-run --Werror
else
  git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.h' 'tests/*.cpp' | xargs "$format" -i
fi
