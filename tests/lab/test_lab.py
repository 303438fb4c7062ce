"""Labs: two side by side do not clash, and nothing is left of one that went down."""

from pathlib import Path

from labs import run

from zmqfleet.lab import podman
from zmqfleet.lab.inventory import Paths


def there(paths: Paths) -> list[str]:
    """The containers and the network of a lab; others come and go beside it."""
    found = (
        podman("ps", "--all", "--format", "{{.Names}}").stdout
        + podman("network", "ls", "--format", "{{.Name}}").stdout
    )
    return sorted(name for name in found.split() if name.startswith(paths.prefix))


def test_two_labs_side_by_side_and_nothing_left(tmp_path: Path) -> None:
    labs = {name: Paths(tmp_path / name, "lab") for name in ("one", "two")}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        up = run("zmqfleet", "lab", "up", "--hosts", "1", "--project", str(tmp_path / name))
        assert up.status == 0, up.stderr
    for name in ("one", "two"):
        hello = run("zmqfleet", "lab", "ssh", "--project", str(tmp_path / name), "builder1", "hostname")
        assert hello.stdout == "builder1\n"
        assert there(labs[name]) == [labs[name].prefix, f"{labs[name].prefix}-builder1"]
    for name in ("one", "two"):
        assert run("zmqfleet", "lab", "down", "--project", str(tmp_path / name)).status == 0
        assert [path for path in (tmp_path / name).rglob("*") if path.is_file()] == []
        assert there(labs[name]) == []


def test_status_of_a_lab_that_is_not_up_says_how_to_make_it() -> None:
    status = run("zmqfleet", "lab", "status", "--name", "nowhere")
    assert status.status == 2
    assert "zmqfleet lab up" in status.stderr
