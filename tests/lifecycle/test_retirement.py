"""What is no longer declared goes, in every way in which that happens, and twins stay equal all along."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from knocking import nobody_gets_in
from labs import ENGINES, Lab, project, variables
from twins import TOOLCHAINS, differences

Services = dict[str, dict[str, Any]]


def variable_changed(services: Services) -> None:
    services["quotes"]["env"]["QUOTES_REGION"] = "us-2"


def port_changed(services: Services) -> None:
    services["quotes"]["endpoints"][0]["port"] = 5755


def client_moved(services: Services) -> None:
    services["quotes-client"]["hosts"] = "strangers"
    for endpoint in services["quotes"]["endpoints"][:2]:
        endpoint["allow"] = ["strangers"]


def client_removed(services: Services) -> None:
    del services["quotes-client"]


def server_renamed(services: Services) -> None:
    del services["quotes-client"]  # which wants its peer under the old name
    services["quotes"]["name"] = "prices"


def as_it_was(services: Services) -> None:
    pass


# what was done to the variables; a host, and what it must not know any more (a pattern of paths, a unit, a user)
LIFE: list[tuple[Callable[[Services], None], str, str]] = [
    (variable_changed, "broker1", ""),
    (port_changed, "broker2", ""),
    (client_moved, "gateway1", "quotes-client"),
    (client_removed, "stranger1", "quotes-client"),
    (server_renamed, "broker1", "quotes"),
    (as_it_was, "broker1", "prices"),
]


def declare(path: Path, change: Callable[[Services], None]) -> None:
    """Writes the project's variables anew."""
    declared = variables()
    services = {one["name"]: copy.deepcopy(one) for one in declared["zmq_services"]}
    change(services)
    declared["zmq_services"] = list(services.values())
    (path / "group_vars" / "all.yml").write_text(yaml.safe_dump(declared))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("team") / "project")


@pytest.mark.parametrize(("change", "host", "gone"), LIFE, ids=[change.__name__ for change, *_ in LIFE])
def test_twins_stay_equal_and_nothing_undeclared_stays(
    pyinfra_lab: Lab,
    ansible_lab: Lab,
    team: Path,
    change: Callable[[Services], None],
    host: str,
    gone: str,
) -> None:
    declare(team, change)
    twins = pyinfra_lab.of(team), ansible_lab.of(team)
    forecasts = [{engine: twin.forecast(engine) for engine in ENGINES} for twin in twins]
    for twin, forecast in zip(twins, forecasts, strict=True):
        assert forecast["pyinfra"] == forecast["ansible"] == twin.drift() != set()

    def converge(twin: Lab, engine: str) -> None:
        with nobody_gets_in(twin):
            assert twin.converge(engine)

    with ThreadPoolExecutor() as pool:
        list(pool.map(converge, twins, ENGINES))
    for twin, other in zip(twins, reversed(ENGINES), strict=True):
        assert twin.converge(other) == set()
        assert twin.drift() == set()
        assert twin.probe()[0] == 0
        if gone:
            left = f"ls -d /etc/zmqfleet/{gone} /opt/zmqfleet/{gone} /etc/systemd/system/{gone}.service"
            assert twin.sh(host, f"{left} 2>/dev/null", check=False) == ""
            assert twin.sh(host, f"getent passwd {gone}; getent group {gone}", check=False) == ""
            assert (
                twin.sh(host, f"pgrep -x {gone}; grep -c '/{gone}[./\"]' /etc/zmqfleet/manifest", check=False)
                == "0\n"
            )
            assert gone not in twin.sh(host, "nft list ruleset; systemctl list-units --all").replace(
                "leaving", ""
            )
    assert differences(*twins, host, TOOLCHAINS) == []


def test_a_host_that_leaves_is_empty_and_forgotten(lab: Lab) -> None:
    left = lab.run("zmqfleet", "retire", "gateway1", "--yes")
    assert left.status == 0, left.output
    paths = (
        "/etc/zmqfleet /opt/zmqfleet /usr/local/lib/zmqfleet /run/zmqfleet.lock /etc/systemd/system/quotes*"
    )
    assert (
        lab.sh(
            "gateway1",
            f"ls -d {paths} 2>/dev/null; nft list ruleset; getent passwd quotes-client",
            check=False,
        )
        == ""
    )
    assert not (lab.state / "curve" / "gateway1").exists()
    assert lab.converge("pyinfra")
    assert lab.drift() == set()
    assert lab.probe()[0] == 0
