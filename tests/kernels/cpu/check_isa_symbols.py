#!/usr/bin/env python3
"""Fails when an object file of one instruction set defines a symbol that the linker may share between files.

Of several copies of an inline function the linker keeps one for the whole program. A copy that was compiled with
AVX-512 would end the program on a processor without it. DW.ref.* are pointers that exception handling needs
(in sanitizer builds): data, the same from every compiler flag. Usage: check_isa_symbols.py NM OBJECT...
"""
import pathlib
import re
import subprocess
import sys

ISA_FILE = re.compile(r"_(avx|amx)[^/]*\.o(bj)?$")
SHARED = re.compile(r"^[0-9a-fA-F]+ ([WwVvu]) (?!DW\.ref\.)(.*)$", re.M)


def main():
    nm, objects = sys.argv[1], [o for o in sys.argv[2:] if ISA_FILE.search(o)]
    if not objects:
        print("no object file of an instruction set among the arguments")
        return 1
    errors = []
    for path in objects:
        listing = subprocess.run([nm, "-C", path], check=True, capture_output=True, text=True).stdout
        errors += [f"{pathlib.Path(path).name}: {kind} {name}" for kind, name in SHARED.findall(listing)]
    print("\n".join(errors) or f"{len(objects)} object files, no shared symbols")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
