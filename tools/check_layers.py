#!/usr/bin/env python3
"""Fails when a room includes upward or sideways, when a fenced library leaks, or when a file grows past its limit.

The rules are data: tools/layers.txt lists each room's floor and the libraries that only it may include. A room
includes rooms of lower floors and itself. Usage: check_layers.py [SOURCE_DIR]
"""
import pathlib
import re
import sys

MAX_LINES = 600
MAX_KERNEL_LINES = 800
BANNED = {
    r"\bstd::regex\b": "std::regex overflows the stack; use PCRE2 in text",
    r"#include <regex>": "std::regex overflows the stack; use PCRE2 in text",
    r"\bstrcpy\(": "unbounded copy",
    r"\bsprintf\(": "unbounded print",
    r"\balloca\(": "unbounded stack",
    r"(?<![\w.:>])system\(": "runs a shell",
    # A kernel body is compiled once per instruction set, inside that set's own namespace.
    r"(?m)^using namespace (?!simd;)": "leaks into every includer; name the namespace, or say it inside a function",
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def read_rules(path):
    floors, fenced = {}, {}
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        floors[fields[1]] = int(fields[0])
        for library in fields[2].split(",") if len(fields) > 2 else []:
            fenced[library] = fields[1]
    return floors, fenced


def check_file(path, root, floors, fenced):
    relative = path.relative_to(root / "src")
    room = relative.parts[0]
    if room not in floors:
        return [f"{relative}: room {room!r} is not in tools/layers.txt"]
    errors = []
    text = path.read_text()
    for kind, target in INCLUDE.findall(text):
        first = target.split("/")[0]
        if kind == '"':
            if first not in floors:
                errors.append(f"{relative}: includes \"{target}\", which is no room; write paths from src/")
            elif first != room and floors[first] >= floors[room]:
                errors.append(f"{relative}: {room} (floor {floors[room]}) includes {target} (floor {floors[first]})")
        elif (library := first.removesuffix(".h").removesuffix(".hpp")) in fenced and fenced[library] != room:
            errors.append(f"{relative}: includes <{target}>; only {fenced[library]} may")
    if room == "server" and "boost/" in text and "http" not in relative.parts:
        errors.append(f"{relative}: only server/http may include Boost")
    for pattern, why in BANNED.items():
        if re.search(pattern, text):
            errors.append(f"{relative}: matches {pattern}: {why}")
    lines = text.count("\n")
    limit = MAX_KERNEL_LINES if room == "kernels" else MAX_LINES
    if lines > limit:
        errors.append(f"{relative}: {lines} lines, at most {limit}: split it by idea")
    return errors


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    floors, fenced = read_rules(root / "tools" / "layers.txt")
    files = sorted(p for p in (root / "src").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"})
    errors = [error for path in files for error in check_file(path, root, floors, fenced)]
    for error in errors:
        print(error)
    print(f"{len(files)} files, {len(errors)} violations")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
