#!/usr/bin/env python3
"""Counts import circles between the source files of each crate: groups of files of which each
imports, directly or through others, all the rest. Prints every group, and ends with exit code 1 if
there is one in the crates that are named (all, if none is).

An import is a path that a file uses: crate::..., super::..., self::..., or one that begins with a
module that the file declares. A name that a module only passes on (pub use) counts as an import of
the file that defines it; tests inside a file do not count."""

import pathlib
import re
import sys


def code_of(path):
    """The text of a file without comments, texts and inner tests."""
    text = path.read_text()
    text = re.sub(r"\n#\[cfg\(test\)\]\nmod \w+ \{.*", "\n", text, flags=re.S)
    text = re.sub(r'r#".*?"#', '""', text, flags=re.S)
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def module_of(path, root):
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] in ("mod", "lib", "main"):
        parts.pop()
    return tuple(parts)


def leaves(tree, prefix=()):
    """All (path, name) of what comes after `use`: a::{b, c::d as e}."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    parts = tuple(p.strip() for p in head.split("::") if p.strip())
    if not brace:
        last, _, alias = (parts or ("self",))[-1].partition(" as ")
        path = prefix + parts[:-1] + (() if last == "self" else (last.strip(),))
        yield path, alias.strip() or (path[-1] if path else "")
        return
    depth, part = 0, ""
    for char in rest[: rest.rindex("}")] + ",":
        if char == "," and depth == 0:
            if part.strip():
                yield from leaves(part, prefix + parts)
            part = ""
        else:
            depth += (char == "{") - (char == "}")
            part += char


class Crate:
    def __init__(self, root):
        self.files = {}
        for path in sorted(root.rglob("*.rs")):
            self.files[module_of(path, root)] = (path, code_of(path))
        self.passed_on = {}
        for module, (_, code) in self.files.items():
            for tree in re.findall(r"\bpub(?:\([a-z]+\))? use ([^;]+);", code):
                for path, name in leaves(tree):
                    self.passed_on[module + (name,)] = self.absolute(module, path)

    def absolute(self, module, path):
        """A path from the root of the crate; nothing if it leads out of it."""
        if not path:
            return None
        if path[0] == "crate":
            return path[1:]
        while path and path[0] in ("self", "super"):
            module = module[:-1] if path[0] == "super" else module
            path = path[1:]
            if not path or path[0] not in ("self", "super"):
                return module + path
        return module + path if module + path[:1] in self.files else None

    def target(self, path, seen=()):
        """The file that defines what a path names."""
        for length in range(len(path), 0, -1):
            on = self.passed_on.get(path[:length])
            if on is not None and path[:length] not in seen:
                return self.target(on + path[length:], seen + (path[:length],))
            if path[:length] in self.files:
                return path[:length]
        return ()

    def imports(self, module):
        """The files whose names a file uses; what it only passes on is no use."""
        code = self.files[module][1]
        code = re.sub(r"\bpub(?:\([a-z]+\))? use [^;]+;", "", code)
        # Inner modules, such as those of macros, count as the file.
        paths = [p for tree in re.findall(r"\buse ([^;]+);", code) for p, _ in leaves(tree)]
        code = re.sub(r"\buse [^;]+;", "", code)
        for text in re.findall(r"(?<![\w:])[a-z_]\w*(?:::\w+)+", code):
            paths.append(tuple(text.split("::")))
        # A module that the file imports by its name leads on.
        absolute = {self.absolute(module, path) for path in paths}
        return {self.target(path) for path in absolute if path} - {module}


def circles(graph):
    """Strongly connected groups of more than one file."""

    def reached(start, edges):
        seen, left = set(), [start]
        while left:
            for to in edges.get(left.pop(), ()):
                if to not in seen:
                    seen.add(to)
                    left.append(to)
        return seen

    after = {module: reached(module, graph) for module in graph}
    groups = {
        frozenset(other for other in after[module] if module in after[other])
        for module in graph
        if module in after[module]
    }
    return sorted((sorted(group) for group in groups), key=str)


def main():
    crates = pathlib.Path(__file__).resolve().parent.parent / "crates"
    wanted, found = sys.argv[1:], 0
    for root in sorted(crates.glob("*/src")):
        if wanted and root.parent.name not in wanted:
            continue
        crate = Crate(root)
        groups = circles({module: crate.imports(module) for module in crate.files})
        for group in groups:
            paths = [str(crate.files[module][0].relative_to(crates)) for module in group]
            print(f"{root.parent.name}: {' <-> '.join(paths)}")
        found += len(groups)
    print(f"{found} circles")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
