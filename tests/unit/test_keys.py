"""What a host shows as its public keys is kept under the fleet's names, or not at all."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from team_project import CLIENT, SERVICE, Project

from zmqfleet import fleet
from zmqfleet.fleet import Fleet, FleetError, Identity, keys

PROBE = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
QUOTES = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


@pytest.fixture
def found(project: Project) -> Fleet:
    return fleet.load(project.root, project.inventory)


def state(found: Fleet) -> dict[str, str]:
    """The public keys that the controller keeps, by file."""
    files = [path for path in (found.state / "curve").rglob("*") if path.is_file()]
    return {str(path.relative_to(found.state)): path.read_text() for path in files}


def test_the_keys_of_a_host_are_kept_by_their_names(found: Fleet) -> None:
    assert keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    assert state(found) == {
        "curve/broker1/probe.pub": f"{PROBE}\n",
        "curve/broker1/quotes.pub": f"{QUOTES}\n",
    }
    mode = found.public_key_file(Identity("broker1", "quotes")).stat().st_mode
    assert stat.S_IMODE(mode) & 0o444 == 0o444
    assert not keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})


def test_a_key_that_was_made_anew_replaces_the_one_before(found: Fleet) -> None:
    keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    assert keys.store(found, "broker1", {"probe": PROBE, "quotes": OTHER})
    assert keys.kept(found, "broker1") == {"probe": PROBE, "quotes": OTHER}


@pytest.mark.parametrize("name", ["../broker1/quotes", "/{root}/stolen", "quotes-client", "../../x"])
def test_a_name_that_is_not_of_the_fleet_is_refused(found: Fleet, tmp_path: Path, name: str) -> None:
    keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    before, files = state(found), sorted(tmp_path.rglob("*"))
    shown = {"probe": OTHER[::-1], "quotes": OTHER, name.format(root=tmp_path): OTHER[::-1]}
    with pytest.raises(FleetError, match=r"broker2: shows a key named .* but has probe, quotes only"):
        keys.store(found, "broker2", shown)
    assert state(found) == before
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    "key",
    ["", "short", f"{QUOTES}x", f"{QUOTES[:-1]}\n", f"{QUOTES[:-1]};", f"{QUOTES[:-1]}é", f"{QUOTES}\n"],
)
def test_what_is_no_key_is_refused(found: Fleet, key: str) -> None:
    with pytest.raises(FleetError, match=r"broker1: its key quotes is .*, not 40 characters of Z85; remove"):
        keys.store(found, "broker1", {"probe": PROBE, "quotes": key})
    assert state(found) == {}


def test_the_key_of_another_host_is_refused(found: Fleet) -> None:
    keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    before = state(found)
    with pytest.raises(FleetError, match="broker2: its key probe is that of quotes on broker1; remove"):
        keys.store(found, "broker2", {"probe": QUOTES, "quotes": OTHER})
    assert state(found) == before


def test_one_key_under_two_names_is_refused(found: Fleet) -> None:
    with pytest.raises(FleetError, match="broker1: its key quotes is that of probe on broker1"):
        keys.store(found, "broker1", {"probe": PROBE, "quotes": PROBE})
    keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    with pytest.raises(FleetError, match="broker1: its key quotes is that of probe on broker1"):
        keys.store(found, "broker1", {"probe": PROBE, "quotes": PROBE})


def test_a_key_moves_with_its_service(project: Project, found: Fleet) -> None:
    keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    project.write(zmq_services=[{**SERVICE, "hosts": "strangers"}, CLIENT])
    moved = fleet.load(project.root, project.inventory)
    assert keys.store(moved, "stranger1", {"probe": OTHER, "quotes": QUOTES})


def test_a_missing_key_is_refused_but_in_a_dry_run(found: Fleet) -> None:
    with pytest.raises(FleetError, match="broker1: has no key quotes"):
        keys.store(found, "broker1", {"probe": PROBE})
    assert keys.store(found, "broker1", {"probe": PROBE}, dry=True)
    assert state(found) == {}


def test_ansible_refuses_the_keys_of_one_host_and_keeps_those_of_the_others(
    project: Project, found: Fleet
) -> None:
    keys.store(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    before = state(found)
    shown = {
        "broker2": {"probe": OTHER[::-1], "quotes": OTHER, "../broker1/quotes": OTHER},
        "stranger1": {"probe": PROBE[::-1]},
    }
    tasks = [
        {"fleet": {"public_keys": shown}, "register": "data"},
        {"copy": {"dest": str(project.root / "refused"), "content": "{{ data.refused | to_json }}"}},
    ]
    playbook = project.root / "site.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    plugins = Path(__file__).parents[2] / "plugins"
    done = subprocess.run(
        ["ansible-playbook", "-i", project.inventory, playbook],
        env={
            **os.environ,
            "ANSIBLE_ACTION_PLUGINS": str(plugins / "action"),
            "ANSIBLE_LIBRARY": str(plugins / "modules"),
        },
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert state(found) == {**before, "curve/stranger1/probe.pub": f"{PROBE[::-1]}\n"}
    assert done.returncode == 0, done.stdout
    refused = json.loads((project.root / "refused").read_text())
    assert list(refused) == ["broker2"]
    assert "'../broker1/quotes'" in refused["broker2"]
