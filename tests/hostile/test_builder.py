"""What builds reaches nothing of root's; and one build host decides nothing where a second one builds it all, too."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import ENGINES, Lab, project, variables

from zmqfleet.releases import release

# what an intruder may do: the digest that the host tells is that of what it offers
FALSE_MV = """#!/bin/sh
case $2 in */new) printf 'one more' >>"$2" ;; esac
exec /bin/mv "$@"
"""
RUNS = "readlink -f /proc/$(systemctl show -P MainPID quotes)/exe; systemctl show -P InvocationID quotes"
RELEASES = "ls -A /opt/zmqfleet/quotes/releases"
DIGEST = "sha256sum </var/lib/zmqfleet/artifacts/quotes/{}/quotes"

# in place of go: what code that is compiled could do there, once it has a way to be run
FALSE_GO = """#!/bin/sh
[ "$(id -un)" = zmq-build ] || exit 99
/usr/local/bin/go "$@" || exit
if [ "$1" = build ]; then
  TRICK
fi
"""


@pytest.fixture
def verified(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """The lab, with a second host that builds, of the same Debian release."""
    yield lab.of(project(tmp_path / "project", {**variables(), "zmq_build_verify": "gateways"}))
    lab.sh("builder1", "rm -f /usr/local/bin/mv")
    lab.converge("pyinfra")
    assert lab.drift() == set()


def test_what_only_one_of_two_builders_makes_is_placed_nowhere(verified: Lab) -> None:
    verified.converge("pyinfra")
    assert verified.drift() == set()
    before, kept = verified.sh("broker1", RUNS), verified.sh("broker1", RELEASES)
    number = Path(before.split()[0]).parent.name
    placed = verified.sh("broker1", f"sha256sum </opt/zmqfleet/quotes/releases/{number}/quotes")
    assert [verified.sh(host, DIGEST.format(number)) for host in ("builder1", "gateway1")] == [placed] * 2

    verified.sh("builder1", "install -m 755 /dev/stdin /usr/local/bin/mv", FALSE_MV)
    main = verified.project / "examples" / "quotes" / "cmd" / "quotes" / "main.go"
    main.write_text(main.read_text().replace("func main() {", 'func main() {\n\tprintln("new")', 1))
    for engine in ENGINES:
        failed = verified.engine(engine)
        assert failed.status != 0
        for host in ("broker1", "broker2"):
            assert f"{host}: quotes " in failed.output
        assert "builder1 made sha256 " in failed.output
        assert verified.sh("broker1", RUNS) == before
        assert verified.sh("broker1", RELEASES) == kept

    # as the message says; the module's other programs do not have what was changed, and were not built
    verified.sh("builder1", "rm /usr/local/bin/mv")
    unlike = [
        one.parent
        for one in verified.state.glob("artifacts/*/*/builder1.sha256")
        if one.read_text() != one.with_name("gateway1.sha256").read_text()
    ]
    assert [one.parent.name for one in unlike] == ["quotes"]
    verified.sh("builder1", f"rm /var/lib/zmqfleet/artifacts/quotes/{unlike[0].name}/quotes")
    shutil.rmtree(unlike[0])
    verified.converge("ansible")
    assert verified.sh("broker1", RUNS) != before
    assert verified.drift() == set()


@pytest.fixture
def builder(lab: Lab) -> Iterator[Lab]:
    """The lab, with a build host that is as it was afterwards."""
    yield lab
    lab.sh("builder1", "rm -rf /usr/local/sbin/go /var/lib/zmqfleet/artifacts/quotes/tricked")


def tricked(builder: Lab, trick: str) -> str:
    """What a build of quotes prints, with its status, on a build host whose go compiles and then does the trick."""
    one = release(builder.fleet, builder.fleet.services["quotes"])
    assert one.archive
    builder.sh("builder1", "install -m 755 /dev/stdin /usr/local/sbin/go", FALSE_GO.replace("TRICK", trick))
    build = shlex.join(
        ("/usr/local/lib/zmqfleet/zmq-build", "quotes", "tricked", one.archive.name, one.package, "", "")
    )
    return builder.sh("builder1", f"timeout 300 {build} 2>&1; echo status $?")


@pytest.mark.parametrize(
    ("trick", "is_built"),
    [
        ("ln -sf /etc/shadow /tmp/made", False),
        ("sleep 600 & setsid sleep 600 &", True),
        ("cat /dev/zero >/tmp/made", False),
        ("echo x >/var/lib/zmqfleet/artifacts/x", False),
    ],
    ids=["reads root's files", "leaves processes", "has no end", "writes elsewhere"],
)
def test_what_compiles_stays_in_its_sandbox(builder: Lab, trick: str, is_built: bool) -> None:
    output = tricked(builder, trick)
    assert output.endswith("status 0\n") == is_built, output
    there = builder.sh(
        "builder1", "cd /var/lib/zmqfleet; ls -d new artifacts/quotes/tricked artifacts/x; true"
    )
    assert there == ("artifacts/quotes/tricked\n" if is_built else "")
    assert builder.sh("builder1", "pgrep --uid zmq-build; true") == ""


# what is there for the user in the sandbox: what it can write to, sockets that it can call, others' processes, networks
LOOK = """{
  find / \\( -path '/proc/*' -o -path '/sys/*' -o -path '/var/lib/zmqfleet/caches/*' -o -path /tmp/src \\) -prune -o \\
    -writable \\( -type d -o -type f -o -type s \\) -print 2>/dev/null | sed 's/^/open: /'
  for one in /proc/[0-9]*; do stat -c 'process: %U' $one 2>/dev/null; done | sort -u
  sed -n 's/^NoNewPrivs:./no new privileges: /p' /proc/self/status
  sed -n 's/^ *\\([^ ]*\\):.*/network: \\1/p' /proc/self/net/dev
} >&2"""


def test_what_compiles_finds_no_way_out_of_its_sandbox(builder: Lab) -> None:
    """On the host itself the bus is one: where polkit is, users may have processes that stay."""
    assert builder.sh("builder1", "test -S /run/dbus/system_bus_socket && test -d /dev/shm; echo $?") == "0\n"
    assert sorted(tricked(builder, LOOK).splitlines()) == [
        "network: lo",
        "no new privileges: 1",
        "open: /tmp",
        "open: /tmp/made",
        "open: /var/lib/zmqfleet/caches",
        "open: /var/tmp",
        "process: zmq-build",
        "status 0",
    ]


def test_what_compiles_owns_its_caches_and_nothing_else(lab: Lab) -> None:
    # 1002: as /tmp is
    others = r"\( -path /proc -o -path '/var/lib/zmqfleet/caches/*' -o -perm -1002 \) -prune"
    find = rf"find / -xdev {others} -o -writable \( -type d -o -type f \) -print"
    found = lab.sh("builder1", f"cd / && runuser -u zmq-build -- {find} 2>/dev/null | sort")
    assert found.split() == ["/var/lib/zmqfleet/caches"]


@pytest.fixture
def renumbered(lab: Lab) -> Iterator[Lab]:
    """The lab, with a build host whose user zmq-build was made anew and got another number."""
    number = lab.sh("builder1", "id -u zmq-build").strip()
    renumber = "sed -i 's/^zmq-build:x:{}:/zmq-build:x:{}:/' /etc/passwd"
    lab.sh("builder1", renumber.format(number, 64321))
    yield lab
    lab.sh("builder1", renumber.format(64321, number))
    lab.converge("pyinfra")


def test_a_new_build_user_gets_caches_of_its_own_and_a_build_of_a_killed_run_gives_way(
    renumbered: Lab,
) -> None:
    one = release(renumbered.fleet, renumbered.fleet.services["quotes"])
    path = f"/var/lib/zmqfleet/artifacts/quotes/{one.id}/quotes"
    before = renumbered.sh("builder1", f"sha256sum {path}; rm {path}")
    renumbered.sh("builder1", "systemd-run --quiet --unit=zmq-build-compile --uid=zmq-build sleep 600")
    renumbered.converge("ansible")
    assert renumbered.sh("builder1", f"sha256sum {path}") == before, (
        "what is compiled anew is the same as ever"
    )
    owners = renumbered.sh("builder1", "stat -c %u /var/lib/zmqfleet/caches/*")
    assert owners == "64321\n64321\n"
    assert renumbered.sh("builder1", "pgrep --uid 64321; true") == ""
    assert renumbered.drift() == set()


def test_what_was_damaged_on_the_builder_reaches_no_host(builder: Lab, tmp_path: Path) -> None:
    """A controller that has never seen it is told the digest by the builder alone."""
    fresh = builder.of(project(tmp_path / "project"))
    one = release(fresh.fleet, fresh.fleet.services["quotes"])
    path = f"/var/lib/zmqfleet/artifacts/quotes/{one.id}/quotes"
    before = fresh.sh("builder1", f"sha256sum {path}; truncate -s -1 {path}")
    build = ("builder1", f"step build of quotes {one.id}: to be done")
    assert fresh.drift() == {build}
    assert fresh.converge("pyinfra") == {build}
    assert fresh.sh("builder1", f"sha256sum {path}") == before
    assert fresh.drift() == set()
