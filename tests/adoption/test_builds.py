"""Several programs of one Go module: each is built anew when what it is made of changes, and not otherwise."""

import base64
import io
import tarfile
from pathlib import Path

import pytest
from labs import ENGINES
from teams import Team

from zmqfleet.gosources import inputs

VERSION = """\
//go:build team

package main

import "log/slog"

var version = "none"

func init() { slog.Info("made", "version", version) }
"""


BUILD = {"source": "examples/pipeline", "package": "./cmd/worker", "binding": "zmq4"}

both_engines = pytest.mark.parametrize("engine", ENGINES)


def running(lab: Team) -> dict[str, str]:
    """Which process of which release runs, by service."""
    show = "readlink /proc/$(systemctl show -P MainPID {0})/exe; systemctl show -P InvocationID {0}"
    places = (("feeder", "broker1"), ("presence", "broker1"), ("worker", "gateway1"), ("hub", "gateway1"))
    return {name: lab.sh(host, show.format(name)) for name, host in places}


@both_engines
def test_a_change_in_one_package_restarts_the_programs_that_import_it(team: Team, engine: str) -> None:
    before = running(team)
    module = team.project / "examples" / "pipeline"
    (module / "internal" / "settings" / "settings_test.go").write_text("package settings\n")
    (module / "README.md").write_text("Read me anew.\n")
    assert team.forecast(engine) == set()

    path = module / "internal" / "allowlist" / "allowlist.go"
    path.write_text(path.read_text() + f'\nconst Maker = "{engine}"\n')
    new = team.declare()
    assert {host for host, _ in new.converge(engine)} == {"broker1", "broker2", "builder1", "gateway1"}
    after = running(new)
    assert {name for name in before if before[name] != after[name]} == {"feeder", "hub"}
    assert new.drift() == set()


@both_engines
def test_a_program_that_does_not_compile_keeps_only_its_service(team: Team, engine: str) -> None:
    before = running(team)
    source = team.project / "examples" / "pipeline" / "cmd"
    right = (source / "worker" / "main.go").read_text()
    (source / "worker" / "main.go").write_text(f'{right}\nvar level int = "{engine}"\n')
    (source / "feeder" / "main.go").write_text(
        (source / "feeder" / "main.go").read_text() + f'\nvar Maker = "{engine}"\n'
    )
    new = team.declare()
    failed = new.engine(engine)
    assert failed.status == {"pyinfra": 1, "ansible": 2}[engine], failed.output
    assert "cmd/worker/main.go" in failed.output
    assert "as int value in variable declaration" in failed.output
    assert "gateway1: worker" in failed.output
    after = running(new)
    assert {name for name in before if before[name] != after[name]} == {"feeder"}
    assert {host for host, _ in new.drift()} == {"builder1", "gateway1"}
    alone = new.engine(engine, *(["--tags", "zmq_build"] if engine == "ansible" else []))
    assert alone.status != 0, "what cannot be built is no success of a part of a run"

    (source / "worker" / "main.go").write_text(right + f'\nvar Maker = "{engine}"\n')
    mended = team.declare()
    assert {host for host, _ in mended.converge(engine)} == {"builder1", "gateway1"}
    assert mended.drift() == set()


def test_tags_and_flags_of_the_linker_are_the_teams(team: Team) -> None:
    before = running(team)
    (team.project / "examples" / "pipeline" / "cmd" / "worker" / "version.go").write_text(VERSION)
    flags = {"tags": ["team", "other"], "ldflags": "-X main.version=7.1 -X 'main.spare=a b'"}
    made = team.declare(worker={"build": {**BUILD, **flags}})
    made.converge("pyinfra")
    assert "made version=7.1" in made.sh("gateway1", "journalctl -u worker -o cat -n 20")
    after = running(made)
    assert {name for name in before if before[name] != after[name]} == {"worker"}


def test_it_is_what_go_itself_says(team: Team) -> None:
    places = "GOPATH=/var/lib/zmqfleet/caches/go GOCACHE=/var/lib/zmqfleet/caches/build"
    each = "{{if .Module}}{{if .Module.Main}}{{.Dir}}{{end}}{{end}}"
    for source, programs in (("quotes", ("quotes", "quotes-client")), ("pipeline", ("feeder", "worker"))):
        where = team.project / "examples" / source
        files = {
            str(path.relative_to(where)): path.read_bytes() for path in where.rglob("*") if path.is_file()
        }
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(where, ".")
        for program in programs:
            package = f"./cmd/{program}"
            list_ = f"env {places} go list -deps -f '{each}' {package} | grep ."
            said = team.sh(
                "builder1",
                f"rm -rf /tmp/listed; mkdir /tmp/listed; cd /tmp/listed; base64 -d | tar -x; "
                f"chmod -R a+rX /tmp/listed; runuser -u zmq-build -- {list_}; rm -rf /tmp/listed",
                base64.b64encode(buffer.getvalue()).decode(),
            )
            directories = {str(Path(line).relative_to("/tmp/listed")) for line in said.splitlines()}
            found = {str(Path(name).parent) for name in inputs(files, package) if name.endswith(".go")}
            assert found == directories
