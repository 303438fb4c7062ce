"""What a host shows as its public keys is kept under the fleet's names, or not at all."""

import re
import stat
from pathlib import Path

import pytest
from team_project import CLIENT, SERVICE, Project

from zmqfleet import fleet, locking
from zmqfleet.converge import Answer, HostError, HostRun
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


def test_the_key_of_a_service_that_left_its_host_is_forgotten(found: Fleet, project: Project) -> None:
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    project.write(zmq_services=[{**SERVICE, "hosts": "gateways"}])
    moved = fleet.load(project.root, project.inventory)
    keys.learn(moved, "gateway1", {})
    assert "curve/broker1/quotes.pub" in state(moved), "nobody has looked there"
    keys.learn(moved, "broker1", {"probe": PROBE})
    assert state(moved) == {"curve/broker1/probe.pub": f"{PROBE}\n"}


def test_the_keys_of_a_host_are_kept_by_their_names(found: Fleet) -> None:
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    assert state(found) == {
        "curve/broker1/probe.pub": f"{PROBE}\n",
        "curve/broker1/quotes.pub": f"{QUOTES}\n",
    }
    mode = found.public_key_file(Identity("broker1", "quotes")).stat().st_mode
    assert stat.S_IMODE(mode) & 0o444 == 0o444
    before = found.public_key_file(Identity("broker1", "quotes")).stat()
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    after = found.public_key_file(Identity("broker1", "quotes")).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "nothing was new"


def test_a_key_that_was_made_anew_replaces_the_one_before_and_is_said(found: Fleet) -> None:
    assert keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES}) == []
    said = f"broker1: its key quotes is {OTHER} now, and was {QUOTES}: "
    advice = (
        "if nobody has installed that host anew, removed the key, or renamed or moved its service and back, see who "
        "changed it"
    )
    assert keys.learn(found, "broker1", {"probe": PROBE, "quotes": OTHER}) == [said + advice]
    assert keys.learn(found, "broker1", {"probe": PROBE, "quotes": OTHER}) == []
    assert keys.kept(found, "broker1") == {"probe": PROBE, "quotes": OTHER}


@pytest.mark.parametrize("name", ["../broker1/quotes", "/{root}/stolen", "quotes-client", "../../x"])
def test_a_name_that_is_not_of_the_fleet_is_refused(found: Fleet, tmp_path: Path, name: str) -> None:
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    before, files = state(found), sorted(tmp_path.rglob("*"))
    shown = {"probe": OTHER[::-1], "quotes": OTHER, name.format(root=tmp_path): OTHER[::-1]}
    with pytest.raises(FleetError, match=r"broker2: shows a key named .* but has probe, quotes only"):
        keys.learn(found, "broker2", shown)
    assert state(found) == before
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    "key",
    ["", "short", f"{QUOTES}x", f"{QUOTES[:-1]}\n", f"{QUOTES[:-1]};", f"{QUOTES[:-1]}é", f"{QUOTES}\n"],
)
def test_what_is_no_key_is_refused(found: Fleet, key: str) -> None:
    with pytest.raises(FleetError, match=r"broker1: its key quotes is .*, not 40 characters of Z85; remove"):
        keys.learn(found, "broker1", {"probe": PROBE, "quotes": key})
    assert state(found) == {}


def test_the_key_of_another_host_is_refused(found: Fleet) -> None:
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    before = state(found)
    with pytest.raises(FleetError, match="broker2: its key probe is that of quotes on broker1; remove"):
        keys.learn(found, "broker2", {"probe": QUOTES, "quotes": OTHER})
    assert state(found) == before


def test_one_key_under_two_names_is_refused(found: Fleet) -> None:
    with pytest.raises(FleetError, match="broker1: its key quotes is that of probe on broker1"):
        keys.learn(found, "broker1", {"probe": PROBE, "quotes": PROBE})
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    with pytest.raises(FleetError, match="broker1: its key quotes is that of probe on broker1"):
        keys.learn(found, "broker1", {"probe": PROBE, "quotes": PROBE})


def test_a_key_moves_with_its_service(project: Project, found: Fleet) -> None:
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    project.write(zmq_services=[{**SERVICE, "hosts": "strangers"}, CLIENT])
    moved = fleet.load(project.root, project.inventory)
    keys.learn(moved, "stranger1", {"probe": OTHER, "quotes": QUOTES})
    assert keys.kept(moved, "stranger1") == {"probe": OTHER, "quotes": QUOTES}


def test_a_key_that_is_not_there_yet_is_missed_by_nobody(found: Fleet) -> None:
    keys.learn(found, "broker1", {"probe": PROBE})
    assert keys.kept(found, "broker1") == {"probe": PROBE, "quotes": None}


def test_a_run_refuses_the_keys_of_one_host_and_keeps_those_of_the_others(found: Fleet) -> None:
    keys.learn(found, "broker1", {"probe": PROBE, "quotes": QUOTES})
    before = state(found)
    holder = locking.Holder("machine", 1, "1", "me@here")

    def read(host: str, *shown: str) -> None:
        reading = HostRun(found, host, holder).read()
        next(reading)
        lines = ["== zmqfleet key", *shown, "== zmqfleet end"]
        with pytest.raises(StopIteration):
            reading.send(Answer(True, "\n".join(lines), ""))

    with pytest.raises(HostError, match=re.escape("broker2: shows a key named '../broker1/quotes'")):
        read("broker2", f"probe|{OTHER[::-1]}", f"quotes|{OTHER}", f"../broker1/quotes|{OTHER}")
    read("stranger1", f"probe|{PROBE[::-1]}")
    assert state(found) == {**before, "curve/stranger1/probe.pub": f"{PROBE[::-1]}\n"}
