"""Several programs of one Go module: each is built anew when what it is made of changes, and not otherwise."""

import base64
import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from labs import ENGINES, FORECAST
from teams import Team, restarted

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


@both_engines
def test_a_change_in_one_package_restarts_the_programs_that_import_it(team: Team, engine: str) -> None:
    before = team.running()
    module = team.project / "examples" / "pipeline"
    (module / "internal" / "settings" / "settings_test.go").write_text("package settings\n")
    (module / "README.md").write_text("Read me anew.\n")
    assert team.forecast(engine) == set()

    path = module / "internal" / "allowlist" / "allowlist.go"
    path.write_text(path.read_text() + f'\nconst Maker = "{engine}"\n')
    new = team.declare()
    assert {host for host, _ in new.converge(engine)} == {"broker1", "broker2", "builder1", "gateway1"}
    assert restarted(before, new.running()) == {
        ("feeder", "broker1"),
        ("feeder", "broker2"),
        ("hub", "gateway1"),
    }
    assert new.drift() == set()


@both_engines
def test_a_program_that_does_not_compile_keeps_only_its_service(team: Team, engine: str) -> None:
    before = team.running()
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
    assert restarted(before, new.running()) == {("feeder", "broker1"), ("feeder", "broker2")}
    assert {host for host, _ in new.drift()} == {"builder1", "gateway1"}
    alone = new.engine(engine, *(["--tags", "zmq_build"] if engine == "ansible" else []))
    assert alone.status != 0, "what cannot be built is no success of a part of a run"

    (source / "worker" / "main.go").write_text(right + f'\nvar Maker = "{engine}"\n')
    mended = team.declare()
    assert {host for host, _ in mended.converge(engine)} == {"builder1", "gateway1"}
    assert mended.drift() == set()


def test_tags_and_flags_of_the_linker_are_the_teams(team: Team) -> None:
    before = team.running()
    (team.project / "examples" / "pipeline" / "cmd" / "worker" / "version.go").write_text(VERSION)
    flags = {"tags": ["team", "other"], "ldflags": "-X main.version=7.1 -X 'main.spare=a b'"}
    made = team.declare(worker={"build": {**BUILD, **flags}})
    made.converge("pyinfra")
    assert "made version=7.1" in made.sh("gateway1", "journalctl -u worker -o cat -n 20")
    assert restarted(before, made.running()) == {("worker", "gateway1")}


PASSWORD = "netrc-8c21d07e"
PROXY = "modules.inside.example"  # Go sends passwords over https only
PRIVATE = "private.example/greeting"
SERVE = f"""
import base64, http.server, ssl

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(b"builder:{PASSWORD}").decode():
            super().do_GET()
        else:
            self.send_error(401)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/root/modules.crt", "/root/modules.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
GREETER = f"""\
package main

import (
	"fmt"
	"time"

	"{PRIVATE}"
)

func main() {{
	fmt.Println(greeting.Text)
	time.Sleep(time.Hour)
}}
"""


def h1(files: dict[str, bytes]) -> str:
    """Go's hash of a module's files (golang.org/x/mod/sumdb/dirhash)."""
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return f"h1:{base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()}"


@pytest.fixture
def private(team: Team, engine: str) -> Iterator[Team]:
    """builder1 has a module proxy that wants a password; a program in the team's repository uses a module of its, of a
    version that no build has had."""
    version = {"pyinfra": "v1.0.0", "ansible": "v1.1.0"}[engine]
    module = f"module {PRIVATE}\n\ngo 1.25\n".encode()
    files = {
        f"{PRIVATE}@{version}/{name}": data
        for name, data in {
            "go.mod": module,
            "greeting.go": f'package greeting\n\nconst Text = "good morning, {engine}"\n'.encode(),
        }.items()
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    where = f"/root/modules/{PRIVATE}/@v"
    team.sh("builder1", f"mkdir -p {where}; cat >{where}/{version}.mod", module.decode())
    team.sh(
        "builder1",
        f'cd {where}; base64 -d >{version}.zip; echo \'{{"Version": "{version}"}}\' >{version}.info',
        base64.b64encode(packed.getvalue()).decode(),
    )
    trusted = "/usr/local/share/ca-certificates/modules.crt"
    team.sh(
        "builder1",
        f"echo 127.0.0.1 {PROXY} >>/etc/hosts; cd /root; cat >modules.py; "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -keyout modules.key "
        f"-out modules.crt -subj /CN={PROXY} -addext subjectAltName=DNS:{PROXY} 2>/dev/null; "
        f"cp modules.crt {trusted}; update-ca-certificates >/dev/null 2>&1; "
        "systemd-run --quiet --unit=modules --working-directory=/root/modules python3 /root/modules.py",
        SERVE,
    )
    source = team.project / "examples" / "greeter"
    source.mkdir()
    (source / "main.go").write_text(GREETER)
    (source / "go.mod").write_text(f"module team.example/greeter\n\ngo 1.25\n\nrequire {PRIVATE} {version}\n")
    (source / "go.sum").write_text(
        f"{PRIVATE} {version} {h1(files)}\n{PRIVATE} {version}/go.mod {h1({'go.mod': module})}\n"
    )
    yield team
    shutil.rmtree(source)
    (team.project / "group_vars" / "builders.yml").unlink(missing_ok=True)
    team.sh(
        "builder1",
        f"systemctl stop modules; rm -r {trusted} /root/modules*; update-ca-certificates --fresh >/dev/null 2>&1; "
        f'others=$(grep -v {PROXY} /etc/hosts); echo "$others" >/etc/hosts',
    )
    team.declare().converge("ansible")
    assert team.sh("builder1", "ls /etc/zmqfleet/netrc", check=False) == ""
    assert team.drift() == set()


@both_engines
def test_a_private_module_is_had_by_a_password_that_nothing_tells(private: Team, engine: str) -> None:
    others = private.sh("builder1", "go env GOPROXY").strip()
    variables: dict[str, Any] = {"golang_proxy": f"https://{PROXY},{others}", "golang_nosumdb": PRIVATE}
    declared = private.project / "group_vars" / "builders.yml"
    declared.write_text(yaml.safe_dump(variables))
    worker = {"build": {"source": "examples/greeter"}, "args": None}
    before = private.running()
    failed = private.declare(worker=worker).engine(engine)
    assert failed.status == {"pyinfra": 1, "ansible": 2}[engine]
    assert "401 Unauthorized" in failed.output
    assert private.running() == before

    variables["golang_netrc"] = [{"machine": PROXY, "login": "builder", "password": PASSWORD}]
    declared.write_text(yaml.safe_dump(variables))
    new = private.declare(worker=worker)
    runs = [
        new.engine(engine, FORECAST[engine], "--diff", "-vvv"),
        new.engine(engine, "--diff", "-vvv").must_succeed(),
        new.run("zmqfleet", "view", "builder1"),
    ]
    assert [run.command for run in runs if PASSWORD in run.output] == []
    assert f"good morning, {engine}\n" in new.sh("gateway1", "journalctl -u worker -o cat -n 20")
    assert new.sh("builder1", "stat -c '%a %U' /etc/zmqfleet/netrc") == "600 root\n"
    assert new.drift() == set()


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
