"""What of a Go module goes into its programs, found without a Go toolchain: no less than `go list -deps` says."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

_MODULE = re.compile(rb'^\s*module\s+["`]?([A-Za-z0-9][^\s"`]*)', re.MULTILINE)
_TEXT = re.compile(rb'"([^"\n]*)"|`([^`\n]*)`')
_ELSEWHERE = re.compile(rb"\$\{SRCDIR\}|(?<!\.)\.\.(?!\.)")
_DIRECTORY = re.compile(rb"=>\s*[\"`]?(\.{1,2}/[^\s\"`]*)")
_C = re.compile(rb'["`]C["`]')


def inputs(files: Mapping[str, bytes], package: str) -> set[str]:
    """Those of a module's files (by their paths in it) that a program's package is built from: its own and those of
    packages that it imports, without tests; other modules below it are none of it. Where that is not to be told from
    imports alone, as in a workspace, with a module that a directory replaces, or with C code that includes files from
    other directories, it is all of them."""
    if "go.work" in files or replacements(files["go.mod"]):
        return set(files)
    if not (declared := _MODULE.search(files["go.mod"])):
        return set(files)
    module = declared[1].decode()
    others = tuple(name.removesuffix("go.mod") for name in files if name.endswith("/go.mod"))
    files = {name: text for name, text in files.items() if not name.startswith(others or "//")}
    packages: dict[str, list[str]] = {}
    for name in files:
        packages.setdefault(str(PurePosixPath(name).parent), []).append(name)
    found = {name for name in files if name in ("go.mod", "go.sum") or name.startswith("vendor/")}
    left, seen = [str(PurePosixPath(package))], set()
    while left:
        directory = left.pop()
        if directory in seen:
            continue
        seen.add(directory)
        own = [name for name in packages.get(directory, []) if not name.endswith("_test.go")]
        found.update(own)
        code = [files[name] for name in own if name.endswith(".go")]
        below = [name for name in files if directory == "." or name.startswith(f"{directory}/")]
        # assembly includes files, too
        has_c = any(name.endswith(".s") for name in own) or any(_C.search(text) for text in code)
        if has_c and any(_ELSEWHERE.search(files[name]) for name in below):
            return set(files)
        if has_c or any(b"//go:embed" in text for text in code):
            found.update(below)
        left += (one for text in code for one in _imported(text, module) if one in packages)
    return found


def replacements(go_mod: bytes) -> list[str]:
    """The directories, as go.mod has them, by which it replaces modules."""
    return [directory.decode(errors="replace") for directory in _DIRECTORY.findall(go_mod)]


def _imported(text: bytes, module: str) -> Iterator[str]:
    """The directories that the imports of a file may name: any text that begins with the module's path."""
    for quoted, raw in _TEXT.findall(text):
        path = PurePosixPath((quoted or raw).decode(errors="replace"))
        if path.is_relative_to(module):
            yield str(path.relative_to(module))
