"""Packages, users, directories, files and links."""

import hashlib
from pathlib import Path

import pytest
from testinfra.host import Host

from zmqfleet.fleet import View
from zmqfleet.fleet.view import Directory, File, Link, Release, User

_SYSTEM_UIDS = range(1, 1000)
# what the controller cannot say the content of; test_keys.py and the builds' test look at these
_MADE_ON_HOSTS = ("born", "build", "sources")


def test_package_is_installed(host: Host, package: str) -> None:
    assert host.package(package).is_installed


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


def test_exact_directory_holds_the_declared_files_only(
    host: Host, view: View, exact_directory: Directory
) -> None:
    inside = host.check_output("find %s -mindepth 1", exact_directory.path).splitlines()
    declared = [
        file.path for file in view.all("files") if Path(file.path).parent == Path(exact_directory.path)
    ]
    assert sorted(inside) == sorted(declared)


def test_file_is_as_declared(host: Host, file: File, entries: dict) -> None:
    _assert_entry(file, entries, "regular file")
    if file.source is not None:
        assert file.source.is_file(), f"{file.source}: the artefact is not on the controller"
        assert entries[file.path].sha256 == _sha256(file.source.read_bytes())
    elif file.content is not None:
        if entries[file.path].sha256 != _sha256(file.content.encode()):
            # what not everybody may read on the host is not for a log either
            assert file.mode.endswith("4") or file.mode.endswith("5"), "its content differs"
            assert host.file(file.path).content_string == file.content
    elif not file.origin.startswith(_MADE_ON_HOSTS):
        pytest.fail(
            f"{file.path}: the {file.origin} is not known here; provision all hosts once, so that their public keys "
            "are collected",
            pytrace=False,
        )


def test_link_leads_to_its_target(host: Host, link: Link) -> None:
    assert host.check_output("readlink %s", link.path) == link.target
    assert host.file(link.path).exists, "its target does not exist"


def test_build_is_of_these_sources_and_what_the_controller_has(build: Release, entries: dict) -> None:
    assert build.archive is not None
    assert entries[build.archive_on_builder].sha256 == _sha256(build.archive)
    assert build.artifact.is_file(), f"{build.artifact}: was not fetched"
    assert entries[build.on_builder].sha256 == _sha256(build.artifact.read_bytes())


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
