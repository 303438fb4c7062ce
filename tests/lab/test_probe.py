"""The probe sees what is so on real hosts, and each fault in just the cells that it touches."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from labs import Lab

KEYS = {
    "source",
    "destination",
    "service",
    "endpoint",
    "socket",
    "mechanism",
    "credentials",
    "expected",
    "observed",
    "layer",
    "evidence",
    "milliseconds",
    "verdict",
}


def test_all_cells_are_as_expected_and_of_each_kind(lab: Lab) -> None:
    status, report = lab.probe()
    assert status == 0
    assert report["schema"] == 1
    assert {frozenset(cell) for cell in report["cells"]} == {frozenset(KEYS)}
    assert {cell["verdict"] for cell in report["cells"]} == {"pass"}
    kinds = {(c["mechanism"], c["credentials"], c["observed"], c["layer"]) for c in report["cells"]}
    assert kinds >= {
        ("CURVE", "right", "open", "round trip"),
        ("NULL", "none", "open", "round trip"),
        ("CURVE", "none", "closed", "tcp"),
        ("CURVE", "none", "closed", "zmtp"),
        ("CURVE", "wrong-server-key", "closed", "curve"),
        ("CURVE", "unknown", "closed", "zap"),
    }


@contextmanager
def open_to_all(lab: Lab) -> Iterator[None]:
    lab.sh("broker1", "nft delete table inet zmqfleet")
    lab.sh("broker1", "systemctl set-property --runtime quotes IPAddressAllow=0.0.0.0/0")
    yield
    lab.sh("broker1", "/usr/local/lib/zmqfleet/unit-guard quotes.service /etc/zmqfleet/quotes/peers")


@contextmanager
def client_with_another_key(lab: Lab) -> Iterator[None]:
    where = "/etc/zmqfleet/quotes-client"
    lab.sh("gateway1", f"mkdir /root/aside && mv {where}/curve.key* /root/aside")
    lab.sh("gateway1", f"/usr/local/lib/zmqfleet/curve-keypair {where}")
    yield
    lab.sh("gateway1", f"mv /root/aside/* {where} && rmdir /root/aside && systemctl restart quotes-client")


@contextmanager
def service_stopped(lab: Lab) -> Iterator[None]:
    lab.sh("broker1", "systemctl stop quotes")
    yield
    lab.sh("broker1", "systemctl start quotes")


@contextmanager
def no_zap_handler(lab: Lab) -> Iterator[None]:
    place = "/run/systemd/system/quotes.service.d"
    lab.sh(
        "broker1",
        f'mkdir -p {place} && printf "[Service]\\nEnvironment=QUOTES_TEST_NO_ZAP=1\\n" >{place}/test.conf',
    )
    lab.sh("broker1", "systemctl daemon-reload && systemctl restart quotes")
    yield
    lab.sh("broker1", f"rm -r {place} && systemctl daemon-reload && systemctl restart quotes")


Fault = Callable[[Lab], AbstractContextManager[None]]
CURVE_ENDPOINTS = ("orders", "ticks")

# source, destination, endpoint, credentials, layer of the cells that must fail
FAULTS: dict[str, tuple[Fault, set[tuple[str, str, str, str, str]]]] = {
    "open to all": (
        open_to_all,
        {
            (source, "broker1", endpoint, "none", "tcp")
            for source in ("builder1", "broker2", "stranger1")
            for endpoint in CURVE_ENDPOINTS
        },
    ),
    "client has another key": (
        client_with_another_key,
        {
            ("gateway1", broker, endpoint, "right", "zap")
            for broker in ("broker1", "broker2")
            for endpoint in CURVE_ENDPOINTS
        },
    ),
    "service stopped": (
        service_stopped,
        {("gateway1", "broker1", endpoint, "right", "tcp") for endpoint in CURVE_ENDPOINTS}
        | {("broker1", "broker1", "health", "none", "tcp")},
    ),
    "no ZAP handler": (
        no_zap_handler,
        {("gateway1", "broker1", endpoint, "unknown", "round trip") for endpoint in CURVE_ENDPOINTS},
    ),
}


def failed(report: dict[str, Any]) -> set[tuple[str, ...]]:
    keys = ("source", "destination", "endpoint", "credentials", "layer")
    return {tuple(cell[key] for key in keys) for cell in report["cells"] if cell["verdict"] == "fail"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_just_its_cells(lab: Lab, fault: str) -> None:
    make, expected = FAULTS[fault]
    with make(lab):
        status, report = lab.probe()
    assert failed(report) == expected, [cell for cell in report["cells"] if cell["verdict"] == "fail"]
    assert status == 1
    status, report = lab.probe()
    assert status == 0, [cell for cell in report["cells"] if cell["verdict"] != "pass"]
