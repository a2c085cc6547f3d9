#!/usr/bin/env python3
"""Fails when a page points at what is not there: a file, a heading of a page, a source file it names.

Pages are README.md, CHANGELOG.md and everything under docs/. Usage: check_docs.py [SOURCE_DIR]
"""
import pathlib
import re
import sys

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.M)
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
# A path from the root as prose and commands name it; braces and stars stand for several.
NAMED = re.compile(r"(?<![\w/.-])((?:src|tests|tools|docs|cmake|models)/(?:[\w./*-]|\{[\w.,]+\})*(?:[\w*/]|\{[\w.,]+\}))")


def pages(root):
    return [p for p in (root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))) if p.exists()]


def anchor(heading):
    """The name that web views give to a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(page):
    return {anchor(heading) for heading in HEADING.findall(FENCE.sub("", page.read_text()))}


def alternatives(path):
    """a{b,c} as ab and ac, as a shell would read it."""
    found = re.search(r"\{([^{}]*)\}", path)
    if not found:
        return [path]
    return [p for part in found[1].split(",") for p in alternatives(path[: found.start()] + part + path[found.end() :])]


def exists(root, path):
    if "*" in path:
        return any(root.glob(path))
    # A room's file may be named without its ending, as the pair of header and source.
    return (root / path).exists() or any((root / path).parent.glob((root / path).name + ".*"))


def check_page(page, root):
    name = page.relative_to(root)
    text = page.read_text()
    errors = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        if not linked.exists():
            errors.append(f"{name}: links to {target}: there is no {file}")
        elif heading and linked.suffix == ".md" and heading not in anchors(linked):
            errors.append(f"{name}: links to {target}: no such heading; there are {', '.join(sorted(anchors(linked)))}")
    for path in {p for match in NAMED.findall(text) for p in alternatives(match)}:
        if not exists(root, path):
            errors.append(f"{name}: names {path}, which is not there")
    return errors


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    errors = [error for page in pages(root) for error in check_page(page, root)]
    print("\n".join(errors) if errors else f"{len(pages(root))} pages: every link and file they name is there")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
