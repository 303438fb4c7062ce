"""Which files of a Go module a program is built from."""

import pytest

from zmqfleet.gosources import inputs

MODULE = {
    "go.mod": b"module example.com/team // ours\n\ngo 1.25\n",
    "go.sum": b"",
    "README.md": b"",
    "cmd/one/main.go": b'package main\n\nimport (\n\t"fmt"\n\tx "example.com/team/internal/a"\n)\n',
    "cmd/one/main_test.go": b'package main\n\nimport "example.com/team/internal/tested"\n',
    "cmd/two/main.go": b"package main\n\nimport _ `example.com/team/internal/b`\n",
    "cmd/two/static/page.html": b"",
    "internal/a/a.go": b'package a\n\nimport "example.com/team/internal/b/c"; import "example.com/teamwork/d"\n',
    "internal/a/a_linux.s": b"",
    "internal/b/b.go": b"package b\n",
    "internal/b/c/c.go": b"package c\n",
    "internal/tested/t.go": b"package tested\n",
    "vendor/modules.txt": b"",
    "main.go": b'package main\n\nimport "example.com/team"\n',
}
ALWAYS = {"go.mod", "go.sum", "vendor/modules.txt"}
ONE = {*ALWAYS, "cmd/one/main.go", "internal/a/a.go", "internal/a/a_linux.s", "internal/b/c/c.go"}
TWO = {*ALWAYS, "cmd/two/main.go", "internal/b/b.go"}


@pytest.mark.parametrize(
    ("package", "files"),
    [
        ("./cmd/one", ONE),
        ("./cmd/two", TWO),
        (".", {*ALWAYS, "main.go", "README.md"}),
    ],
)
def test_its_own_package_and_what_that_imports(package: str, files: set[str]) -> None:
    assert inputs(MODULE, package) == files


def changed(name: str, text: bytes) -> dict[str, bytes]:
    return {**MODULE, name: text}


def test_another_module_below_is_none_of_it() -> None:
    files = {**MODULE, "tools/go.mod": b"module example.com/team/tools", "cmd/two/static/go.mod": b"module x"}
    assert inputs(files, "./cmd/one") == ONE
    embedding = b"package main\n\n//go:embed static\nvar pages embed.FS\n"
    assert inputs({**files, "cmd/two/main.go": embedding}, "./cmd/two") == {*ALWAYS, "cmd/two/main.go"}


@pytest.mark.parametrize(
    "text",
    [
        b"package main\n\n//go:embed static\nvar pages embed.FS\n",
        b'package main\n\n// #include "static/x.h"\nimport "C"\n',
    ],
    ids=["embedded", "C"],
)
def test_what_lies_below_a_package_that_may_use_it(text: bytes) -> None:
    files = inputs(changed("cmd/two/main.go", text), "./cmd/two")
    assert files == {*ALWAYS, "cmd/two/main.go", "cmd/two/static/page.html"}
    at_the_root = inputs(changed("main.go", text), ".")
    assert at_the_root == set(MODULE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("go.work", b"go 1.25\nuse .\n"),
        ("go.mod", b"module example.com/team\nreplace (\n\texample.com/x v1.0.0 => ./internal/b\n)\n"),
        ("internal/b/b.go", b'package b\n\n// #include "../x.h"\nimport "C"\n'),
        ("internal/b/b.go", b'package b\n\n// #cgo CFLAGS: -I${SRCDIR}/include\nimport "C"\n'),
        ("internal/b/b.go", b"package b\n\n// #cgo CFLAGS: -I..\nimport `C`\n"),
        ("internal/b/b.s", b'#include "../asm.h"\n'),
        ("go.mod", b"// nobody knows\n"),
    ],
    ids=[
        *(
            "workspace",
            "directory in place of a module",
            "C of another directory",
            "directory of C headers",
            "the one above",
        ),
        *("assembly of another directory", "no module"),
    ],
)
def test_everything_where_imports_do_not_tell(name: str, text: bytes) -> None:
    module = changed(name, text)
    assert inputs(module, "./cmd/two") == set(module)


def test_packages_that_import_each_other_have_an_end() -> None:
    module = changed("internal/b/c/c.go", b'package c\n\nimport "example.com/team/internal/a"\n')
    assert inputs(module, "./cmd/one") == ONE


@pytest.mark.parametrize(
    "text", [b'module "example.com/team"\n', b"module (\n\tx\n)\n", b" module `example.com/team`\n"]
)
def test_a_module_path_may_be_written_in_other_ways(text: bytes) -> None:
    assert inputs(changed("go.mod", text), "./cmd/one") >= ONE


def test_an_odd_quote_in_a_comment_hides_no_import() -> None:
    head = b"// as `show w' says\npackage b\n\n"
    text = head + b'import "example.com/team/internal/b/c"\n\ntype t struct { x int `json:"x"` }\n'
    assert inputs(changed("internal/b/b.go", text), "./cmd/two") == {*TWO, "internal/b/c/c.go"}
