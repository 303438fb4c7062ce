"""Which cells a fleet must show."""

from pathlib import Path

import pytest

from zmqfleet.fleet import Endpoint, Fleet, Service
from zmqfleet.inventory import Host
from zmqfleet.probe import plan

GROUPS = {"broker1": "brokers", "gateway1": "gateways", "stranger1": "strangers"}
PUBLIC = {("broker1", "quotes"): "P" * 40}


def fleet(*endpoints: Endpoint) -> Fleet:
    hosts = {
        name: Host(name, f"{name}.inside", ("all", group), {"zmq_address": f"10.0.0.{number}"})
        for number, (name, group) in enumerate(GROUPS.items(), 1)
    }
    quotes = Service("quotes", "brokers", endpoints, None, None, (), (), {}, {})
    client = Service("quotes-client", "gateways", (), None, None, ("quotes.orders",), (), {}, {})
    return Fleet(Path("/p"), Path("/p/inventories/lab"), hosts, {s.name: s for s in (quotes, client)})


def planned(endpoint: Endpoint, source: str) -> dict[str, plan.Planned]:
    return {cell.credentials: cell for cell in plan.cells(fleet(endpoint), PUBLIC) if cell.source == source}


CURVE = Endpoint("orders", "ROUTER", 5555, "curve", ("gateways",))
NULL = Endpoint("orders", "ROUTER", 5555, "null", ("gateways",))
LOOPBACK = Endpoint("health", "REP", 5557, "null", ("all",), "127.0.0.1")


def test_an_allowed_host_is_let_in_with_the_right_keys_only() -> None:
    cells = planned(CURVE, "gateway1")
    expected = {credentials: cell.expected for credentials, cell in cells.items()}
    assert expected == {"right": "open", "none": "closed", "unknown": "closed", "wrong-server-key": "closed"}
    assert cells["right"].secret_file == "/etc/zmqfleet/quotes-client/curve.key_secret"
    assert cells["right"].server_key == "P" * 40
    assert not any(cell.shut_at_tcp for cell in cells.values())
    assert {(cell.address, cell.port) for cell in cells.values()} == {("10.0.0.1", 5555)}


def test_an_unknown_key_needs_no_secret_file_of_the_host() -> None:
    assert planned(CURVE, "gateway1")["unknown"].secret_file is None


@pytest.mark.parametrize("endpoint", [CURVE, NULL])
def test_a_host_that_is_not_allowed_must_not_even_get_a_tcp_connection(endpoint: Endpoint) -> None:
    cells = planned(endpoint, "stranger1")
    assert {name: (c.expected, c.shut_at_tcp) for name, c in cells.items()} == {"none": ("closed", True)}


def test_null_is_tried_without_keys() -> None:
    assert {name: c.expected for name, c in planned(NULL, "gateway1").items()} == {"none": "open"}


def test_a_host_that_is_not_allowed_is_not_tried_against_itself() -> None:
    assert not planned(CURVE, "broker1")


def test_a_host_is_tried_against_itself_where_it_is_allowed() -> None:
    endpoint = Endpoint("orders", "ROUTER", 5555, "curve", ("brokers",))
    cells = planned(endpoint, "broker1")
    assert cells["right"].secret_file == "/etc/zmqfleet/probe/curve.key_secret"
    assert cells["right"].address == "10.0.0.1"


def test_a_loopback_endpoint_answers_at_home_and_is_not_exposed() -> None:
    home, away = planned(LOOPBACK, "broker1")["none"], planned(LOOPBACK, "stranger1")["none"]
    assert (home.address, home.expected) == ("127.0.0.1", "open")
    assert (away.address, away.expected, away.shut_at_tcp) == ("10.0.0.1", "closed", True)


def test_an_endpoint_bound_to_an_address_is_tried_there() -> None:
    bound = Endpoint("orders", "ROUTER", 5555, "null", ("gateways",), "192.0.2.7")
    assert planned(bound, "gateway1")["none"].address == "192.0.2.7"


def test_without_a_public_key_the_cells_are_still_planned() -> None:
    cells = plan.cells(fleet(CURVE), {})
    assert [cell.server_key for cell in cells if cell.credentials == "right"] == [None]
