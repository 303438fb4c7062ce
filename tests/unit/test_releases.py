"""Releases: what their ids follow from, what they are built from, and how their artefacts are got."""

import hashlib
from pathlib import Path

import pytest
from team_project import CLIENT, SERVICE, Project

from zmqfleet import desired, fleet, releases
from zmqfleet.fleet import Fleet, FleetError
from zmqfleet.inventory import Host
from zmqfleet.releases import Release, release
from zmqfleet.resources import Actual, Step

READY = {key: value for key, value in SERVICE.items() if key != "build"}


def load(project: Project) -> Fleet:
    return fleet.load(project.root, project.inventory)


def quotes(project: Project) -> Release:
    found = load(project)
    return release(found, found.services["quotes"])


def test_release_follows_from_every_input_of_the_build_and_nothing_else(project: Project) -> None:
    first = quotes(project).id
    (project.root / "src" / "main.go").touch()
    (project.root / "src" / ".hidden").write_text("no source")
    project.write(zmq_services=[{**SERVICE, "env": {"REGION": "eu-2"}}, CLIENT])
    assert quotes(project).id == first
    project.write(zmq_services=[SERVICE, CLIENT])
    (project.root / "src" / "main.go").write_text("package main\n")
    second = quotes(project).id
    assert second != first
    (project.root / "src" / "main.go").chmod(0o755)
    assert quotes(project).id != second
    (project.root / "src" / "main.go").chmod(0o644)
    project.write(zmq_services=[SERVICE, CLIENT], golang_version="1.25.3")
    assert quotes(project).id != second
    project.write(zmq_services=[SERVICE, CLIENT], golang_env={"CGO_ENABLED": "1"})
    assert quotes(project).id != second
    project.write(zmq_services=[{**SERVICE, "build": {"source": "src", "package": "./cmd/serve"}}, CLIENT])
    assert quotes(project).id not in (first, second)
    project.write(zmq_services=[{**SERVICE, "build": {"source": "src", "package": "."}}, CLIENT])
    assert quotes(project).id == second, "`.` is the default"


def test_with_flags_that_may_name_any_file_every_file_counts(project: Project) -> None:
    overlay = project.root / "src" / "tools" / "overlay.json"
    overlay.parent.mkdir()
    overlay.write_text("{}")
    project.write(zmq_services=[SERVICE, CLIENT])
    without = quotes(project).id
    overlay.write_text("{ }")
    assert quotes(project).id == without
    project.write(zmq_services=[SERVICE, CLIENT], golang_env={"GOFLAGS": "-overlay=tools/overlay.json"})
    flagged = quotes(project).id
    overlay.write_text("{}")
    assert quotes(project).id != flagged


def test_services_of_one_module_share_a_source_archive(project: Project) -> None:
    serving = {**SERVICE, "build": {"source": "src", "package": "./cmd/serve"}}
    project.write(zmq_services=[serving, CLIENT])
    found = load(project)
    one, other = (release(found, service) for service in found.services.values())
    assert (one.package, other.package) == ("./cmd/serve", ".")
    assert one.on_builder != other.on_builder
    assert one.archive
    assert one.archive == other.archive
    path = f"/var/lib/zmqfleet/sources/{one.archive.name}.tar"
    names = [r.name for part in desired.parts(found, "builder1") for r in part.resources if r.kind == "file"]
    assert names.count(path) == 1
    (project.root / "src" / "go.sum").write_text("\n")
    again = quotes(project).archive
    assert again
    assert again.name != one.archive.name


def test_another_build_host_makes_another_release(project: Project) -> None:
    before = quotes(project).id
    project.hosts.write_text(project.hosts.read_text().replace("builder1", "builder2"))
    assert quotes(project).id != before


def shows(one: Release, digest: str) -> Actual:
    """A build host that has made a release, and has it as it was made."""
    return Actual(
        sha256={one.on_builder: digest, "/elsewhere": "c" * 64}, steps={f"build of quotes {one.id}"}
    )


def test_what_the_build_host_shows_is_learnt_once(project: Project) -> None:
    found = load(project)
    one = release(found, found.services["quotes"])
    assert one.sha256 is None
    desired.learn(found, "builder1", Actual(sha256={one.on_builder: "d" * 64}))
    assert one.sha256 is None, "what was made is another, or is still to be made"
    desired.learn(found, "broker1", shows(one, "b" * 64))
    assert one.sha256 is None, "no other host says what was built"
    desired.learn(found, "builder1", shows(one, "a" * 64))
    assert one.sha256 == "a" * 64
    desired.learn(found, "builder1", shows(one, "b" * 64))
    assert one.sha256 == "a" * 64, "what hosts run already is not what it was taken for"


@pytest.fixture
def verified(project: Project) -> tuple[Fleet, Release]:
    """A release that a second host makes, too."""
    project.write(zmq_services=[SERVICE, CLIENT], zmq_build_verify="gateways")
    found = load(project)
    return found, release(found, found.services["quotes"])


def test_a_second_builder_makes_the_same_another_release_and_a_builder_of_its_host(
    verified: tuple[Fleet, Release], project: Project
) -> None:
    found, one = verified
    project.write(zmq_services=[SERVICE, CLIENT])
    assert quotes(project).id != one.id, "or what one host has made would count as made by both"
    there = {
        name: {
            (r.kind, r.name)
            for part in desired.parts(found, name)
            for r in part.resources
            if part.capability in ("golang", "zeromq", "zmq_build")
        }
        for name in found.hosts
    }
    assert there["gateway1"] == there["builder1"]
    assert ("step", f"build of quotes {one.id}") in there["gateway1"]
    assert ("package", "libczmq-dev") not in there["broker1"]


def test_what_two_builders_make_alike_is_believed(verified: tuple[Fleet, Release]) -> None:
    found, one = verified
    for host in ("builder1", "gateway1"):
        assert one.sha256 is None
        with pytest.raises(FleetError, match=rf"quotes {one.id}: no run has seen yet what .*{host}"):
            releases.ensure(found, one)
        desired.learn(found, host, shows(one, "a" * 64))
    assert one.sha256 == "a" * 64


def test_what_two_builders_make_otherwise_is_placed_nowhere(
    verified: tuple[Fleet, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["printf", "\\177ELF"])
    found, one = verified
    desired.learn(found, "builder1", shows(one, "a" * 64))
    desired.learn(found, "gateway1", shows(one, "b" * 64))
    assert one.sha256 is None
    for again in ("a" * 64, "b" * 64):
        desired.learn(found, "builder1", shows(one, again))
        with pytest.raises(
            FleetError, match=rf"builder1 made sha256 {'a' * 64}, gateway1 made sha256 {'b' * 64}: "
        ):
            releases.ensure(found, one)
    assert {path.name for path in kept(found)} == {"builder1.sha256", "gateway1.sha256"}


def test_each_builder_must_make_again_what_it_has_made(verified: tuple[Fleet, Release]) -> None:
    found, one = verified
    desired.learn(found, "builder1", shows(one, "a" * 64))
    desired.learn(found, "gateway1", shows(one, "b" * 64))
    for host, digest in {"builder1": "a" * 64, "gateway1": "b" * 64}.items():
        steps = [r for part in desired.parts(found, host) for r in part.resources if isinstance(r, Step)]
        build = next(one for one in steps if one.name.startswith("build of quotes "))
        assert build.command[-1] == digest
        assert f"echo {digest}'  '" in build.check


def test_an_artefact_of_the_project_has_the_digest_as_its_id(project: Project) -> None:
    (project.root / "bin").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    project.write(zmq_services=[{**READY, "artifact": {"path": "bin", "sha256": digest}}, CLIENT])
    found = load(project)
    one = release(found, found.services["quotes"])
    assert (one.id, one.sha256, one.archive) == ("2d711642b726b044", digest, None)
    assert releases.ensure(found, one) == project.root / "bin"


@pytest.fixture
def offered(project: Project) -> tuple[Fleet, Release]:
    """A service whose artefact lies at a URL, which may or may not be what was meant."""
    (project.root / "offered").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    url = {"url": "https://example.com/x", "sha256": digest}
    project.write(zmq_services=[{**READY, "artifact": url}, CLIENT])
    found = load(project)
    object.__setattr__(release(found, found.services["quotes"]), "url", (project.root / "offered").as_uri())
    return found, release(found, found.services["quotes"])


def kept(found: Fleet) -> list[Path]:
    return [
        path for path in (found.state / "artifacts").rglob("*") if path.is_file() and path.name != ".lock"
    ]


def test_an_artefact_is_got_once(offered: tuple[Fleet, Release], project: Project) -> None:
    path = releases.ensure(*offered)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"x", 0o755)
    (project.root / "offered").unlink()
    assert releases.ensure(*offered) == path
    assert releases.ensure_at(offered[0], path) == path


def test_an_artefact_that_is_not_what_was_meant_is_refused_and_not_kept(
    offered: tuple[Fleet, Release], project: Project
) -> None:
    (project.root / "offered").write_bytes(b"y")
    with pytest.raises(FleetError, match=r"quotes: artifact.url file:.* has sha256 a1fce436.*, not 2d711642"):
        releases.ensure(*offered)
    (project.root / "offered").unlink()
    with pytest.raises(FleetError, match=r"quotes: artifact.url file:.*offered: .*No such file"):
        releases.ensure(*offered)
    assert kept(offered[0]) == []


@pytest.mark.parametrize(
    ("sends", "message"),
    [
        ("printf '#!/bin/sh\\n'", r"is no program \(ELF\): see who changed builder1"),
        ("printf '\\177ELF'; exec head -c 4194304 /dev/zero", "is larger than 1 MiB: no program is"),
    ],
)
def test_what_a_build_host_sends_must_be_a_program(
    project: Project, monkeypatch: pytest.MonkeyPatch, sends: str, message: str
) -> None:
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["sh", "-c", sends])
    monkeypatch.setattr(releases, "_MOST", 1024 * 1024)
    found = load(project)
    with pytest.raises(FleetError, match=rf"quotes: /var/lib/zmqfleet/\S* of builder1 {message}"):
        releases.ensure(found, release(found, found.services["quotes"]))
    assert kept(found) == []


def test_a_build_host_that_sends_nothing_is_given_up(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["sleep", "60"])
    monkeypatch.setattr(releases, "WORKING", 1)
    found = load(project)
    with pytest.raises(FleetError, match=r"quotes: builder1 has not sent /var/lib/zmqfleet/\S* in 1 s"):
        releases.ensure(found, release(found, found.services["quotes"]))
    assert kept(found) == []


def test_a_url_that_sends_without_end_is_refused(
    offered: tuple[Fleet, Release], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "offered").write_bytes(bytes(3 * 1024 * 1024))
    monkeypatch.setattr(releases, "_MOST", 1024 * 1024)
    with pytest.raises(FleetError, match=r"quotes: artifact.url file:\S* is larger than 1 MiB"):
        releases.ensure(*offered)
    assert kept(offered[0]) == []


def test_an_artefact_that_was_not_built_says_what_to_do(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "ssh", lambda self, *command: ["sh", "-c", *command])
    found = load(project)
    with pytest.raises(
        FleetError, match=r"quotes .*: builder1 has not built it: .*; else converge builder1 first$"
    ):
        releases.ensure(found, release(found, found.services["quotes"]))
    assert kept(found) == []


def test_a_build_host_that_cannot_be_reached_is_told_in_the_words_of_ssh(project: Project) -> None:
    (project.inventory / "host_vars").mkdir()
    (project.inventory / "host_vars" / "builder1.yml").write_text(
        "ansible_host: 127.0.0.1\nansible_port: 9\n"
    )
    found = load(project)
    with pytest.raises(
        FleetError,
        match=r"quotes .*: has not come from builder1, which builds it: ssh: .*127.0.0.1 port 9: Connection refused",
    ):
        releases.ensure(found, release(found, found.services["quotes"]))
    assert kept(found) == []
