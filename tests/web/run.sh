#!/usr/bin/env bash
# The page in headless Chromium. Exit 77 (skipped) where Debian's chromium, chromium-driver and python3-selenium are not
# installed.
set -euo pipefail
cd "$(dirname "$0")"
CHROMIUM=$(command -v chromium || command -v chromium-browser || true)
export CHROMIUM
for python in python3 /usr/bin/python3; do
  if [[ -n "$CHROMIUM" ]] && command -v chromedriver >/dev/null && "$python" -c 'import selenium' 2>/dev/null; then
    exec "$python" -m unittest -v page_test
  fi
done
echo "skip: the page is tested in a browser; apt-get install chromium chromium-driver python3-selenium"
exit 77
