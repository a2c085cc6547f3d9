"""Runs nvcc and refuses what it only remarks upon: register spills, and wgmma instructions that ptxas serialised.

Usage: cuda_gate.py NVCC ARGS...
"""
import re
import subprocess
import sys

SERIALISED = re.compile(r"\bC75\d\d\b")
SPILL = re.compile(r"([1-9]\d*) bytes spill (?:stores|loads)")
ENTRY = re.compile(r"Compiling entry function '([^']+)'")
NOISE = re.compile(r"^ptxas info|^\s+\d+ bytes stack frame|^$")


def main():
    run = subprocess.run(sys.argv[1:], stderr=subprocess.PIPE, text=True)
    kernel, refused = "", []
    for line in run.stderr.splitlines():
        if match := ENTRY.search(line):
            kernel = match.group(1)
        if SPILL.search(line):
            refused.append(f"{kernel}: registers spill: {line.strip()}")
        if SERIALISED.search(line):
            refused.append(f"{kernel}: {line.strip()}")
        if not NOISE.search(line):
            print(line, file=sys.stderr)
    for line in refused:
        print(f"error: {line}", file=sys.stderr)
    return run.returncode or (1 if refused else 0)


if __name__ == "__main__":
    sys.exit(main())
