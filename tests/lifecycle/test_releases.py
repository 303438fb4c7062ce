"""A release that does not run goes back to what ran before, on one host, and no other host is touched."""

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from knocking import nobody_gets_in
from labs import ENGINES, ROOT, Lab, project, variables
from twins import TOOLCHAINS, differences

from zmqfleet import locking

BROKERS = ("broker1", "broker2")


Twins = tuple[Lab, Lab]


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project with sources of its own."""
    return project(tmp_path / "project")


@pytest.fixture
def twins(pyinfra_lab: Lab, ansible_lab: Lab, team: Path) -> Twins:
    """A lab for each engine, with that project."""
    return pyinfra_lab.of(team), ansible_lab.of(team)


def each(twins: Twins, what: Callable[[Lab, str], None]) -> None:
    """On both twins at once, each by its engine; then they are equal."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(what, twins, ENGINES))
    for host in ("builder1", *BROKERS):
        assert differences(*twins, host, TOOLCHAINS) == []


def main_of(root: Path, program: str = "quotes") -> Path:
    """The main of one of the example's programs."""
    return root / "examples" / "quotes" / "cmd" / program / "main.go"


def change(team: Path, body: str, program: str = "quotes") -> None:
    """Another release: its main does this first."""
    main = main_of(team, program)
    text = main_of(ROOT, program).read_text()
    main.write_text(text.replace("func main() {", f"func main() {{\n\t{body}", 1))


def serving(lab: Lab) -> dict[str, str]:
    """Which file each broker runs, in which process."""
    show = "pid=$(systemctl show -P MainPID quotes); echo $pid $(readlink /proc/$pid/exe)"
    return {broker: lab.sh(broker, show) for broker in BROKERS}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('panic("broken release")', "panic: broken release"),
        # ready, but gone a second later
        ("go func() { <-time.After(time.Second); os.Exit(3) }()", "does not stay up"),
    ],
    ids=["does not start", "does not stay up"],
)
def test_a_failed_release_goes_back(twins: Twins, team: Path, body: str, reason: str) -> None:
    before = [serving(twin) for twin in twins]
    change(team, body)
    if "time." in body:
        main = main_of(team)
        main.write_text(main.read_text().replace("import ", 'import "os"\nimport "time"\nimport ', 1))

    def fail(twin: Lab, engine: str) -> None:
        with nobody_gets_in(twin):
            failed = twin.engine(engine)
        assert failed.status == {"pyinfra": 1, "ansible": 2}[engine]
        assert reason in failed.output

    each(twins, fail)
    for twin, ran in zip(twins, before, strict=True):
        runs = serving(twin)
        assert {broker: line.split()[1] for broker, line in runs.items()} == {
            broker: line.split()[1] for broker, line in ran.items()
        }
        # one went back, and the other was not even tried
        assert sum(runs[broker] != ran[broker] for broker in BROKERS) == 1
        assert twin.probe()[0] == 0
        for broker in BROKERS:
            assert twin.sh(broker, f"ls -d /etc/zmqfleet/quotes/.proven {locking.PATH}", check=False) == ""
    shutil.rmtree(team / "examples" / "quotes")
    shutil.copytree(ROOT / "examples" / "quotes", team / "examples" / "quotes")

    def mend(twin: Lab, engine: str) -> None:
        twin.converge(engine)  # nothing to do perhaps: the clients have waited, and all that failed is back
        assert twin.drift() == set()

    each(twins, mend)


def test_a_release_that_fails_gives_back_the_port_that_it_was_to_have(twins: Twins, team: Path) -> None:
    declared = variables()
    quotes = declared["zmq_services"][0]
    shutil.copytree(team / "examples" / "quotes", team / "examples" / "rates")
    build = {**quotes["build"], "source": "examples/rates"}
    endpoints = [{**one, "port": one["port"] + 1000} for one in quotes["endpoints"]]
    rates = {**quotes, "name": "rates", "build": build, "endpoints": endpoints}
    declared["zmq_services"].append(rates)

    def declare() -> None:
        (team / "group_vars" / "all.yml").write_text(yaml.safe_dump(declared))

    def succeed(twin: Lab, engine: str) -> None:
        assert twin.converge(engine)
        assert twin.drift() == set()

    def fail(twin: Lab, engine: str) -> None:
        assert twin.engine(engine).status != 0

    def listening(twin: Lab) -> dict[str, list[str]]:
        pattern = r"s/.*:\([56]55[56]\) .*((\"\([a-z]*\)\".*/\1 \2/p"
        return {
            broker: sorted(twin.sh(broker, f"ss -Hltnp | sed -n '{pattern}'").splitlines())
            for broker in BROKERS
        }

    declare()
    each(twins, succeed)
    before = [listening(twin) for twin in twins]
    assert before[0]["broker1"] == ["5555 quotes", "5556 quotes", "6555 rates", "6556 rates"]
    quotes["endpoints"], rates["endpoints"] = rates["endpoints"], quotes["endpoints"]
    change(team, "panic(1)")
    declare()
    each(twins, fail)
    assert [listening(twin) for twin in twins] == before
    for twin in twins:
        assert twin.of(ROOT).probe()[0] == 0
    change(team, "")
    each(twins, succeed)
    assert listening(twins[0])["broker1"] == ["5555 rates", "5556 rates", "6555 quotes", "6556 quotes"]
    for twin in twins:
        assert twin.probe()[0] == 0
    declared["zmq_services"] = variables()["zmq_services"]
    declare()
    each(twins, succeed)


def test_what_goes_back_finds_its_servers_where_they_are_now(twins: Twins, team: Path) -> None:
    """The servers' new release runs, at another port, and their client's does not."""
    declared = variables()
    quotes = declared["zmq_services"][0]
    quotes["endpoints"] = [{**one, "port": one["port"] + 1000} for one in quotes["endpoints"]]
    (team / "group_vars" / "all.yml").write_text(yaml.safe_dump(declared))
    change(team, 'panic("broken client")', "quotes-client")

    def fail(twin: Lab, engine: str) -> None:
        failed = twin.engine(engine)
        assert failed.status != 0
        assert "panic: broken client" in failed.output
        assert "quotes-client.service: runs as before" in failed.output

    each(twins, fail)
    for twin in twins:
        assert twin.probe()[0] == 0
        for port in (6555, 6556):
            peers = twin.sh("gateway1", f"ss -Htn state established dport = :{port}").splitlines()
            assert len(peers) == len(BROKERS), f"the client has not found quotes at {port}"
    (team / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables()))
    change(team, "", "quotes-client")
    each(twins, lambda twin, engine: twin.engine(engine).must_succeed())


def test_a_first_release_that_fails_leaves_the_port_to_whom_it_was_to_have_it_from(
    twins: Twins, team: Path
) -> None:
    declared = variables()
    quotes = declared["zmq_services"][0]
    shutil.copytree(team / "examples" / "quotes", team / "examples" / "archive")
    build = {**quotes["build"], "source": "examples/archive"}
    # its name comes first, so quotes has to yield
    declared["zmq_services"].append({**quotes, "name": "archive", "build": build})
    quotes["endpoints"] = [{**one, "port": one["port"] + 1000} for one in quotes["endpoints"]]
    (team / "group_vars" / "all.yml").write_text(yaml.safe_dump(declared))
    main = team / "examples" / "archive" / "cmd" / "quotes" / "main.go"
    main.write_text(main.read_text().replace("func main() {", 'func main() {\n\tpanic("broken archive")', 1))

    def fail(twin: Lab, engine: str) -> None:
        for _ in range(2):
            failed = twin.engine(engine)
            assert failed.status != 0
            assert "panic: broken archive" in failed.output
            assert twin.sh("broker1", "systemctl is-active quotes") == "active\n"
        assert any("archive.service" in change for _, change in twin.drift())
        # broker1 has its turn first, whatever the engine
        assert twin.sh("broker2", "ls /etc/systemd/system/archive.service", check=False) == ""

    each(twins, fail)
    (team / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables()))

    def mend(twin: Lab, engine: str) -> None:
        twin.converge(engine)
        assert twin.drift() == set()
        assert twin.sh("broker1", "ls -d /etc/zmqfleet/archive", check=False) == ""

    each(twins, mend)


def test_old_releases_are_kept_to_a_number_and_that_which_ran_is_among_them(twins: Twins, team: Path) -> None:
    def succeed(twin: Lab, engine: str) -> None:
        assert twin.converge(engine)
        assert twin.drift() == set()

    def fail(twin: Lab, engine: str) -> None:
        assert twin.engine(engine).status != 0

    for number in range(2):
        change(team, f"_ = {number}")
        each(twins, succeed)
    ran = [serving(twin) for twin in twins]
    for number in range(2):
        change(team, f"panic({number})")
        each(twins, fail)
    change(team, "_ = 2")
    each(twins, succeed)
    for twin, before in zip(twins, ran, strict=True):
        for broker in BROKERS:
            files = twin.sh(broker, "ls -d /opt/zmqfleet/quotes/releases/*/quotes").splitlines()
            assert len(files) == 3
            assert before[broker].split()[1] in files
            current = twin.sh(broker, "readlink /opt/zmqfleet/quotes/current")
            assert re.fullmatch(r"releases/[0-9a-f]{16}\n", current)
        assert int(twin.sh("builder1", "ls /var/lib/zmqfleet/artifacts/quotes | wc -l")) == 3
    change(team, "")
    each(twins, succeed)
