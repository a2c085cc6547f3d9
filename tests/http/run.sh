#!/usr/bin/env bash
# Runs the HTTP tests in the environment that tools/test_venv.sh made. Exit 77 (skipped) without it.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=build/venv/bin/python
if ! "$python" -c 'import openai, pytest' 2>/dev/null; then
  echo "skip: the Python packages of tests/http/requirements.txt are not installed (PyPI was out of reach)"
  exit 77
fi
exec "$python" -m pytest -q tests/http "$@"
