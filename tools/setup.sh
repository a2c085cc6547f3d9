#!/usr/bin/env bash
# Installs what packages.txt lists and this machine lacks. Quiet and quick when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# A package that others merely mention is known too, without a version to install.
available() { [[ "$(apt-cache policy "$1")" == *"Candidate: "[^\(]* ]]; }
installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

wanted=()
while IFS= read -r line; do
  [[ -z "$line" || "$line" == \#* ]] && continue
  IFS='|' read -ra choices <<<"${line// /}"
  for package in "${choices[@]}"; do
    installed "$package" && continue 2
  done
  wanted+=("$line")
done <packages.txt
((${#wanted[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: missing packages, and this system has no apt-get. Install these by hand:" >&2
  printf '  %s\n' "${wanted[@]}" >&2
  exit 1
fi
as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "setup: run as root, or install sudo, to install: ${wanted[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "setup: installing ${#wanted[@]} Debian packages" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
chosen=()
for line in "${wanted[@]}"; do
  IFS='|' read -ra choices <<<"${line// /}"
  found=
  for package in "${choices[@]}"; do
    if available "$package"; then found=$package; break; fi
  done
  [[ -n "$found" ]] || { echo "setup: this distribution has none of: $line" >&2; exit 1; }
  chosen+=("$found")
done
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${chosen[@]}" >/dev/null
