"""A release that does not run goes back to what ran before, on one host, and no other host is touched."""

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from labs import ENGINES, ROOT, Lab, project, variables
from twins import differences

from zmqfleet import locking

BROKERS = ("broker1", "broker2")
MAIN = "cmd/quotes/main.go"


Twins = tuple[Lab, Lab]


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project with sources of its own."""
    root = project(tmp_path / "project")
    (root / "examples").unlink()
    shutil.copytree(ROOT / "examples", root / "examples")
    return root


@pytest.fixture
def twins(pyinfra_lab: Lab, ansible_lab: Lab, team: Path) -> Twins:
    """A lab for each engine, with that project."""
    return pyinfra_lab.of(team), ansible_lab.of(team)


def each(twins: Twins, what: Callable[[Lab, str], None]) -> None:
    """On both twins at once, each by its engine; then they are equal."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(what, twins, ENGINES))
    for host in ("builder1", *BROKERS):
        assert differences(*twins, host) == []


def change(team: Path, body: str) -> None:
    """Another release of quotes: its main does this first."""
    main = team / "examples" / "quotes" / MAIN
    text = (ROOT / "examples" / "quotes" / MAIN).read_text()
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
        main = team / "examples" / "quotes" / MAIN
        main.write_text(main.read_text().replace("import ", 'import "os"\nimport "time"\nimport ', 1))

    def fail(twin: Lab, engine: str) -> None:
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
