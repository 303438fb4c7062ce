"""Packages, users, directories, files and links."""

import hashlib
from pathlib import Path

import pytest
from testinfra.host import Host

from zmqfleet.fleet.model import BUILD
from zmqfleet.releases import Release
from zmqfleet.resources import Artefact, Directory, File, Inline, Key, Link, Made, Package, User

_SYSTEM_UIDS = range(1, 1000)


def test_package_is_installed(host: Host, package: Package) -> None:
    name = package.on(host.system_info.release.partition(".")[0])
    assert name, "no package is known for this release"
    is_needed = not package.where or host.run(package.where).rc == 0
    assert host.package(name).is_installed or not is_needed


def test_user_is_a_system_user_without_login(host: Host, user: User) -> None:
    found = host.user(user.name)
    assert found.exists
    assert found.uid in _SYSTEM_UIDS
    assert found.groups == [user.name]
    assert found.home == user.home
    assert found.shell == "/usr/sbin/nologin"
    # the second field of passwd -S: L is locked; the hash itself is nothing to print
    assert host.check_output("passwd -S %s", user.name).split()[1] == "L"


def test_directory_is_as_declared(directory: Directory, entries: dict) -> None:
    _assert_entry(directory, entries, "directory")


def test_exact_directory_holds_the_declared_entries_only(host: Host, exact_directory: Directory) -> None:
    inside = host.check_output("find %s -mindepth 1 -printf '%%P\\n'", exact_directory.path).splitlines()
    assert sorted(inside) == sorted(exact_directory.only or ())


def test_file_is_as_declared(host: Host, file: File, entries: dict) -> None:
    _assert_entry(file, entries, "regular file")
    content = file.content
    if isinstance(content, Artefact):
        _assert_artefact(content.path, content.sha256, entries[file.path].sha256)
    elif isinstance(content, Inline):
        if entries[file.path].sha256 != _sha256(content.data):
            # what not everybody may read on the host is not for a log either
            assert not content.secret, "its content differs"
            assert host.file(file.path).content == content.data
    elif not isinstance(content, Made):
        pytest.fail(f"{file.path}: {content.why}", pytrace=False)


def test_key_is_for_root_alone_and_its_public_half_for_all(key: Key, entries: dict) -> None:
    for path, mode in ((key.secret_file, "400"), (key.public_file, "644")):
        assert path in entries, f"{path} does not exist"
        found = entries[path]
        assert (found.kind, found.mode, found.owner, found.group) == ("regular file", mode, "root", "root")


def test_link_leads_to_its_target(host: Host, link: Link) -> None:
    assert host.check_output("readlink %s", link.path) == link.target
    assert host.file(link.path).exists, "its target does not exist"


def test_build_is_of_these_sources_and_what_the_controller_knows(build: Release, entries: dict) -> None:
    assert build.archive is not None
    assert entries[f"{BUILD}/sources/{build.archive.name}.tar"].sha256 == _sha256(build.archive.data)
    _assert_artefact(build.artifact, build.sha256, entries[build.on_builder].sha256)


def _assert_artefact(kept: Path, known: str | None, found: str | None) -> None:
    assert known, f"{kept}: its digest is not known here; provision the build host once"
    assert found == known
    # it is on the controller only if a run has placed it from here
    assert not kept.exists() or found == _sha256(kept.read_bytes())


def _assert_entry(declared: Directory | File, entries: dict, kind: str) -> None:
    assert declared.path in entries, "does not exist"
    found = entries[declared.path]
    assert (found.kind, found.mode, found.owner, found.group) == (
        kind,
        declared.mode,
        declared.owner,
        declared.group,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
