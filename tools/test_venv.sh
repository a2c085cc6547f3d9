#!/usr/bin/env bash
# A virtual environment with the clients that the HTTP tests use. Without PyPI those tests skip.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=build/venv
requirements=tests/http/requirements.txt
stamp=$venv/.installed
if [[ -f "$stamp" ]] && cmp -s "$requirements" "$stamp"; then exit 0; fi
python3 -m venv "$venv" >/dev/null 2>&1 || { echo "test: python3-venv is missing; the HTTP client tests will skip" >&2; exit 0; }
if "$venv/bin/pip" install --quiet --disable-pip-version-check --timeout 30 --retries 1 -r "$requirements" >/dev/null 2>&1; then
  cp "$requirements" "$stamp"
else
  echo "test: PyPI can't be reached; the HTTP client tests will skip" >&2
fi
