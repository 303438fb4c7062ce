"""A release that does not run goes back to what ran before, on one host, and no other host is touched."""

import re
import shutil
from pathlib import Path

import pytest
from labs import ENGINES, ROOT, Lab, project

BROKERS = ("broker1", "broker2")
MAIN = "cmd/quotes/main.go"


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A project with sources of its own."""
    root = project(tmp_path / "project")
    (root / "examples").unlink()
    shutil.copytree(ROOT / "examples", root / "examples")
    return root


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
@pytest.mark.parametrize("engine", ENGINES)
def test_a_failed_release_goes_back(lab: Lab, team: Path, engine: str, body: str, reason: str) -> None:
    here = lab.of(team)
    before = serving(here)
    change(team, body)
    if "time." in body:
        main = team / "examples" / "quotes" / MAIN
        main.write_text(main.read_text().replace("import ", 'import "os"\nimport "time"\nimport ', 1))
    failed = here.engine(engine)
    assert failed.status not in (0, 2) or (engine == "ansible" and failed.status == 2)
    assert reason in failed.output
    after = serving(here)
    files = {broker: line.split()[1] for broker, line in before.items()}
    assert {broker: line.split()[1] for broker, line in after.items()} == files
    # one went back, and the other was not even tried
    assert sum(after[broker] != before[broker] for broker in BROKERS) == 1
    assert here.probe()[0] == 0
    for broker in BROKERS:
        assert here.sh(broker, "ls -d /etc/zmqfleet/quotes/.proven", check=False) == ""
    shutil.rmtree(team / "examples" / "quotes")
    shutil.copytree(ROOT / "examples" / "quotes", team / "examples" / "quotes")
    assert here.engine(engine).must_succeed().changes
    assert here.drift() == set()


def test_old_releases_are_kept_to_a_number(lab: Lab, team: Path) -> None:
    here = lab.of(team)
    for number in range(4):
        change(team, f"_ = {number}")
        here.engine("pyinfra").must_succeed()
        assert here.drift() == set()
    assert int(here.sh("broker1", "ls /opt/zmqfleet/quotes/releases | wc -l")) == 3
    assert int(here.sh("builder1", "ls /var/lib/zmqfleet/artifacts/quotes | wc -l")) == 3
    current = here.sh("broker1", "readlink /opt/zmqfleet/quotes/current")
    assert re.fullmatch(r"releases/[0-9a-f]{16}\n", current)
    lab.engine("pyinfra").must_succeed()
