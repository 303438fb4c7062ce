"""The desired state of a small fleet, in literal files that people have read.

Expectations that come from the code under test could not judge it.

    python tests/unit/test_golden.py

writes tests/unit/golden/ anew; read the difference (`git diff tests/unit/golden`) before you commit it.
"""

import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from team_project import CLIENT, SERVICE, Project

from zmqfleet import desired, fleet
from zmqfleet.fleet import Fleet, Identity
from zmqfleet.releases import release
from zmqfleet.resources import (
    Actual,
    Artefact,
    Directory,
    File,
    Generations,
    Inline,
    Key,
    Link,
    Package,
    Peers,
    Profile,
    Resource,
    Rule,
    Step,
    Table,
    Unit,
    User,
)

GOLDEN = Path(__file__).parent / "golden"
HOSTS = ("builder1", "broker1", "broker2", "gateway1", "stranger1")
# texts that are shown whole; of other contents it is enough that they are there
SHOWN = (".nft", ".service", "/zmqfleet.conf", "/peers", "/environment", "/endpoints.json", ".key", "/go.env",
         "/apparmor", "/worker.yml", "/literal", "/credentials/password")  # fmt: skip
# written in every way that an environment file must quote
ENV = {"REGION": 'eu-1 "north" $HOME `id` \\ end', "EMPTY": ""}
# of another shape: no sd_notify, nothing that it binds; arguments written in every way that a unit must quote
WORKER = {
    "name": "worker",
    "hosts": "gateways",
    "build": {"source": "src", "package": "./cmd/serve"},
    "type": "simple",
    "start_timeout": 5,
    "args": ["--queue", 'a "b" \\ $HOME ${HOME} %n', "", "; exit"],
    "state": True,
    "connects": ["quotes.ticks"],
    "files": {"worker.yml": "worker.yml.j2", "literal": "literal"},
    "credentials": {"password": "{{ inventory_hostname }}-secret"},
    "unit": {
        "Service": {
            "CPUQuota": "200%",
            "ExecStartPre": "-/usr/bin/install -d /srv/work",
            "Nice": 5,
            "ReadOnlyPaths": '-/etc/odd[1] /srv/a*b/ "/srv/two words"',
            "ReadWritePaths": "/srv/work %S/x no/path /",
        },
        "Unit": {"Description": "of {{ inventory_hostname }}"},
    },
}


def team(project: Project) -> Fleet:
    """Two brokers, a gateway with services of two shapes, a builder, a stranger; all public keys are known."""
    (project.root / "worker.yml.j2").write_text("host: {{ inventory_hostname }}\n")
    (project.root / "literal").write_text("{{ .Name }}\n")
    project.write(
        zmq_services=[{**SERVICE, "env": ENV, "limits": {"nofile": 4096, "memory": 256}}, CLIENT, WORKER],
        zmq_service_releases_kept=2,
        golang_proxy="https://proxy.example",
    )
    found = fleet.load(project.root, project.inventory)
    known = [identity for host in found.hosts for identity in found.identities(host)]
    for number, identity in enumerate(known):
        path = found.public_key_file(Identity(identity.host, identity.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}{identity.host}.{identity.name}".ljust(40, "+") + "\n")
    return found


def described(found: Fleet, host: str) -> str:
    """A host's parts in order, a line for each resource, then the texts of its files, then its manifest."""
    lines, texts = [], []
    for part in desired.parts(found, host):
        lines += ["", " ".join(filter(None, [f"{part.phase}:", part.capability, part.service]))]
        for one in part.resources:
            lines += [f"  {line}" for line in _lines(one, found)]
            if isinstance(one, File) and isinstance(one.content, Inline) and one.path.endswith(SHOWN):
                texts += [
                    "",
                    f"==== {one.path}{' (secret)' * one.content.secret}",
                    one.content.data.decode().rstrip("\n"),
                ]
    manifest = desired.Plan(found, host, Actual("12")).manifest or ""
    text = "\n".join([f"# {host}", *lines, *texts, "", f"==== {desired.MANIFEST}", manifest])
    # ids follow from the build's recipe and Go's version; test_releases.py looks at them
    for one in (release(found, service) for service in found.services.values()):
        assert one.archive
        text = text.replace(one.id, "RELEASE").replace(one.archive.name, "SOURCES")
    return text


def _lines(one: Resource, found: Fleet) -> list[str]:
    match one:
        case Package(name, by_release, where):
            names = "".join(f" {release}:{other}" for release, other in by_release)
            return [f"package {name}{names}{f' where {where}' if where else ''}"]
        case User(name, home):
            return [f"user {name} {home}"]
        case Directory(path, mode, owner, group, only):
            inside = "" if only is None else f" holds only {', '.join(only) or 'nothing'}"
            return [f"directory {mode} {owner}:{group} {path}{inside}{_released(one)}"]
        case File(path, content, mode, owner, group):
            what = type(content).__name__.lower()
            if isinstance(content, Artefact):
                what += f" {content.path.relative_to(found.project)}"
            return [f"file {mode} {owner}:{group} {path} {what}{_released(one)}"]
        case Link(path, target):
            return [f"link {path} -> {target}"]
        case Key(name, directory, tool):
            return [f"key {name} in {directory} by {tool}"]
        case Generations(path, keep, in_use):
            return [f"generations {path}: {keep} stay, {', '.join(in_use)} among them"]
        case Rule(endpoint, port, peers):
            return [f"rule {endpoint} {port} from {', '.join(peers) or 'nobody'}"]
        case Step(name, check, command):
            about = [
                f"check: {check}",
                f"command: {shlex.join(command)}",
                f"after: {', '.join(one.after)}",
            ]
            return [f"step {name}", *(f"  {line}" for line in about)]
        case Table(name, _, file):
            return [f"table {name} by {file}"]
        case Peers(name, networks, guard):
            return [f"peers {name} {', '.join(networks)} by {' '.join(guard)}"]
        case Profile(name, file, mode):
            return [f"profile {name} by {file}, to {mode}"]
        case Unit(name, start, restarted_by, program, unproven, user, confined):
            about = [f"restarted by: {path}" for path in restarted_by]
            about += [
                f"start: {' '.join(start)}",
                f"program: {program}",
                f"unproven: {unproven}",
                f"user: {user}",
                f"confined: {confined}",
            ]
            return [f"unit {name} {one.path}", *(f"  {line}" for line in about)]
    raise AssertionError(one)


def _released(one: Any) -> str:
    return " (of a release)" if one.released else ""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return team(Project(tmp_path_factory.mktemp("project")))


@pytest.mark.parametrize("host", HOSTS)
def test_desired_state_is_what_people_have_read(found: Fleet, host: str) -> None:
    assert described(found, host).splitlines() == (GOLDEN / f"{host}.txt").read_text().splitlines(), (
        f"if this is meant: python {Path(__file__).name}, and read the difference"
    )


def test_every_host_has_its_file(found: Fleet) -> None:
    assert sorted(found.hosts) == sorted(HOSTS) == sorted(path.stem for path in GOLDEN.iterdir())


if __name__ == "__main__":
    work = Path(tempfile.mkdtemp())
    for name in HOSTS:
        (GOLDEN / f"{name}.txt").write_text(described(team(Project(work / name)), name))
    shutil.rmtree(work)
    print(f"{GOLDEN}: written; read the difference", file=sys.stderr)
