"""The probe's agent, run as on a host (source and cells over stdin), against real libzmq on loopback."""

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from zmqfleet.fleet import Endpoint, Fleet, Service
from zmqfleet.inventory import Host
from zmqfleet.probe import agent
from zmqfleet.probe.asking import run
from zmqfleet.probe.report import Report

SERVER = zmq.curve_keypair()
CLIENT = zmq.curve_keypair()
OTHER = zmq.curve_keypair()
TYPES = ["ROUTER", "DEALER", "PUB", "SUB", "XPUB", "XSUB", "REP", "REQ", "PUSH", "PULL", "PAIR"]

Bind = Callable[..., int]


class Local(Host):
    """This machine in the place of a host: the interpreter that ssh would start."""

    command: tuple[str, ...] = (sys.executable, "-")

    def ssh(self, *command: str) -> list[str]:
        assert command == ("/usr/bin/python3", "-")
        return list(self.command)


def certificate(path: Path, pair: tuple[bytes, bytes]) -> Path:
    public, secret = (key.decode() for key in pair)
    path.write_text(f'#  CZMQ\nmetadata\ncurve\n    public-key = "{public}"\n    secret-key = "{secret}"\n')
    return path


class ThisMachine(Fleet):
    """A fleet of one machine; `secret_file` is where its key is."""

    secret_file: Path

    def identity(self, host: str, service: Service, endpoint: Endpoint) -> Any:
        return self


def probe(
    port: int,
    secret_file: Path,
    kind: str = "ROUTER",
    security: str = "curve",
    host: type[Host] = Local,
    timeout: int = 3,
) -> Report:
    endpoint = Endpoint("orders", kind, port, security, ("all",), "127.0.0.1")
    service = Service("quotes", "all", (endpoint,), None, None, (), (), {}, {})
    here = {"here": host("here", "127.0.0.1", ("all",), {})}
    fleet = ThisMachine(Path("/p"), Path("/p/i/lab"), here, {"quotes": service})
    object.__setattr__(fleet, "secret_file", str(secret_file))
    return Report(*run(fleet, {("here", "quotes"): SERVER[0].decode()}, lambda line: None, timeout))


def seen(report: Report) -> dict[str, tuple[str, str | None]]:
    return {cell.credentials: (cell.observed, cell.layer) for cell in report.cells}


def verdicts(report: Report) -> dict[str, str]:
    return {cell.credentials: cell.verdict for cell in report.cells}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return certificate(tmp_path / "curve.key_secret", CLIENT)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as context:
        yield context
        context.destroy(linger=0)


@pytest.fixture
def bind(context: zmq.Context[Any]) -> Bind:
    """Binds a socket, a CURVE server unless told otherwise, and returns its port."""
    kept = []  # pyzmq closes a socket that nothing refers to

    def bound(kind: str = "ROUTER", curve: bool = True, **options: int) -> int:
        server = context.socket(getattr(zmq, kind))
        kept.append(server)
        if curve:
            server.curve_publickey, server.curve_secretkey = SERVER
            server.curve_server = 1
            server.zap_domain = b"global"
        for name, value in options.items():
            setattr(server, name, value)
        return int(server.bind_to_random_port("tcp://127.0.0.1"))

    return bound


@pytest.fixture
def zap(context: zmq.Context[Any], tmp_path: Path) -> Iterator[None]:
    """A ZAP handler that admits CLIENT only."""
    clients = tmp_path / "clients"
    clients.mkdir()
    (clients / "client.key").write_text(f'metadata\ncurve\n    public-key = "{CLIENT[0].decode()}"\n')
    handler = ThreadAuthenticator(context)
    handler.start()
    handler.configure_curve(domain="global", location=str(clients))
    yield
    handler.stop()


@pytest.mark.parametrize("kind", TYPES)
def test_a_locked_service_shows_all_four_cells_as_they_must_be(
    kind: str, bind: Bind, zap: None, key: Path
) -> None:
    report = probe(bind(kind), key, kind)
    assert verdicts(report) == dict.fromkeys(["right", "none", "unknown", "wrong-server-key"], "pass")
    cells = seen(report)
    assert cells["unknown"] == ("closed", "zap")
    assert cells["wrong-server-key"] == ("closed", "curve")
    assert cells["none"] == ("closed", "zmtp")
    assert report.exit_status == 0


@pytest.mark.parametrize("kind", TYPES)
def test_null_is_open(kind: str, bind: Bind, key: Path) -> None:
    assert verdicts(probe(bind(kind, curve=False), key, kind, "null")) == {"none": "pass"}


def test_a_round_trip_is_proven(bind: Bind, zap: None, key: Path) -> None:
    assert seen(probe(bind(), key))["right"] == ("open", "round trip")


def test_a_service_that_deals_out_messages_loses_none(context: zmq.Context[Any], key: Path) -> None:
    push = context.socket(zmq.PUSH)
    port = push.bind_to_random_port("tcp://127.0.0.1")
    assert verdicts(probe(port, key, "PUSH", "null")) == {"none": "pass"}
    pull = context.socket(zmq.PULL)
    pull.connect(f"tcp://127.0.0.1:{port}")
    push.send(b"quote")
    assert pull.poll(10_000)
    assert pull.recv() == b"quote"


def test_without_zap_the_unknown_key_is_let_in_and_fails(bind: Bind, key: Path) -> None:
    report = probe(bind(), key)
    assert verdicts(report) == {
        "right": "pass",
        "none": "pass",
        "unknown": "fail",
        "wrong-server-key": "pass",
    }
    assert report.exit_status == 1


def test_a_client_key_that_the_server_does_not_know_fails_at_zap(
    bind: Bind, zap: None, tmp_path: Path
) -> None:
    report = probe(bind(), certificate(tmp_path / "other", OTHER))
    assert seen(report)["right"] == ("closed", "zap")
    assert verdicts(report)["right"] == "fail"


def test_zap_required_but_missing_is_refused_in_curve(bind: Bind, key: Path) -> None:
    assert seen(probe(bind(zap_enforce_domain=1), key))["right"] == ("closed", "curve")


def test_a_stopped_service_fails_at_tcp_and_proves_nothing_else(key: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = probe(unused.getsockname()[1], key)
    assert verdicts(report) == {
        "right": "fail", "none": "unknown", "unknown": "unknown", "wrong-server-key": "unknown",
    }  # fmt: skip
    assert {cell.layer for cell in report.cells} == {"tcp"}
    assert all("ECONNREFUSED" in cell.evidence for cell in report.cells)


def test_a_service_that_runs_null_instead_of_curve_fails(bind: Bind, key: Path) -> None:
    report = probe(bind(curve=False), key)
    assert seen(report)["right"] == ("closed", "zmtp")
    assert verdicts(report)["none"] == "fail"


def test_a_service_that_runs_curve_instead_of_null_fails(bind: Bind, key: Path) -> None:
    assert seen(probe(bind(), key, security="null")) == {"none": ("closed", "zmtp")}


def test_another_socket_type_fails(bind: Bind, key: Path) -> None:
    report = probe(bind("PUB", curve=False), key, "ROUTER", "null")
    assert seen(report) == {"none": ("closed", "zmtp")}


@pytest.mark.parametrize("security", ["null", "curve"])
def test_a_listener_that_says_nothing_is_no_service(security: str, key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        report = probe(listener.getsockname()[1], key, security=security)
    assert set(seen(report).values()) == {("closed", "zmtp")}
    assert all("TCP connected" in cell.evidence for cell in report.cells)


def test_a_stopped_process_is_no_open_service(key: Path) -> None:
    """The kernel of a SIGSTOPped process still accepts TCP connections."""
    program = (
        "import zmq, time; s = zmq.Context().socket(zmq.ROUTER); "
        "print(s.bind_to_random_port('tcp://127.0.0.1'), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            os.kill(server.pid, signal.SIGSTOP)
            assert seen(probe(port, key, security="null")) == {"none": ("closed", "zmtp")}
        finally:
            server.kill()


def test_a_peer_that_greets_and_then_hangs_is_closed_at_the_round_trip(key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def greet_and_hang() -> None:
            peer, _ = listener.accept()
            held.append(peer)
            peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
            ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
            peer.sendall(b"\x04" + bytes([len(ready)]) + ready)

        thread = threading.Thread(target=greet_and_hang)
        thread.start()
        report = probe(listener.getsockname()[1], key, security="null")
        thread.join()
        held[0].close()
    assert seen(report) == {"none": ("closed", "round trip")}


def test_a_slow_link_takes_a_longer_time_out(bind: Bind, key: Path) -> None:
    """A time-out of one second has less for a handshake than the link takes, and one of ten has more."""
    port = bind(curve=False)

    def carry(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either end may be gone
            while data := one.recv(4096):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def link(listener: socket.socket) -> None:
        with listener.accept()[0] as near, socket.create_connection(("127.0.0.1", port)) as far:
            time.sleep(1)
            back = threading.Thread(target=carry, args=(far, near))
            back.start()
            carry(near, far)
            back.join()

    for timeout, found in ((1, ("closed", "zmtp")), (10, ("open", "round trip"))):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=link, args=(listener,))
            thread.start()
            report = probe(listener.getsockname()[1], key, security="null", timeout=timeout)
            thread.join()
        assert seen(report) == {"none": found}, timeout


def test_a_missing_secret_file_is_unknown_and_says_what_to_do(bind: Bind, zap: None, tmp_path: Path) -> None:
    report = probe(bind(), tmp_path / "absent")
    assert verdicts(report)["right"] == "unknown"
    assert any("converge this host" in cell.evidence for cell in report.cells)


def test_a_malformed_secret_file_fails(bind: Bind, zap: None, tmp_path: Path) -> None:
    (tmp_path / "key").write_text('curve\n    public-key = "short"\n')
    found = verdicts(probe(bind(), tmp_path / "key"))
    assert (found["right"], found["wrong-server-key"]) == ("fail", "unknown")


def test_no_secret_is_printed(bind: Bind, zap: None, key: Path) -> None:
    report = probe(bind(), key)
    assert CLIENT[1].decode() not in str(report.as_json()) + report.as_text(100)


class Unreachable(Local):
    """A host whose ssh fails."""

    command = ("/bin/sh", "-c", "echo 'ssh: connect to host here port 22: No route to host' >&2; exit 255")


class WithoutPyzmq(Local):
    """A host whose Python has no pyzmq."""

    command = (sys.executable, "-I", "-S", "-")


@pytest.mark.parametrize(
    ("host", "message"), [(Unreachable, "No route to host"), (WithoutPyzmq, "install python3-zmq")]
)
def test_a_host_that_cannot_be_asked_is_unknown_with_the_reason(
    host: type[Host], message: str, key: Path
) -> None:
    report = probe(1, key, host=host)
    assert set(verdicts(report).values()) == {"unknown"}
    assert all(message in cell.evidence for cell in report.cells)
    assert report.exit_status == 2
    assert report.as_json()["summary"]["hosts_unreachable"] == ["here"]


class Saying(Local):
    """A host that prints what it likes."""

    said: str

    @property
    def command(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("/bin/sh", "-c", f"cat >/dev/null; printf '%s\\n' {shlex.quote(self.said)}")


RESULT = '{"id": 0, "observed": "open", "layer": null, "evidence": "x", "milliseconds": 1, "connected": true}'


@pytest.mark.parametrize(
    "said",
    [
        "",
        "garbage",
        "[]",
        "7",
        '{"results": 7}',
        '{"results": [1]}',
        '{"results": [[]]}',
        "[" * 10_000,
        '{"results": [' + RESULT.replace('"open"', '"perhaps"') + "]}",
        '{"results": [' + RESULT.replace('"open"', '["open"]') + "]}",
        '{"results": [' + RESULT.replace(": 1,", ": true,") + "]}",
        '{"results": [' + RESULT.replace(": 1,", ": -1,") + "]}",
        '{"results": [' + RESULT.replace('"x"', "{}") + "]}",
        '{"results": [' + RESULT.replace("null", "7") + "]}",
    ],
)
def test_a_host_that_says_what_is_no_result_is_unknown(said: str, key: Path) -> None:
    report = probe(1, key, host=type("Host", (Saying,), {"said": said}))
    assert set(verdicts(report).values()) == {"unknown"}
    assert all("no result of the agent's" in cell.evidence for cell in report.cells)


def test_a_host_that_says_more_than_its_cells_can_be_is_not_heard_out(key: Path) -> None:
    report = probe(1, key, host=type("Host", (Saying,), {"said": "x" * 100_000}))
    assert {cell.evidence for cell in report.cells} == {
        f"printed more than {4 * (len(report.cells) + 4)} KiB"
    }


def test_a_host_that_answers_for_cells_which_it_was_not_asked_of_is_unknown(key: Path) -> None:
    said = '{"results": [' + RESULT.replace('"id": 0', '"id": 7') + "]}"
    report = probe(1, key, host=type("Host", (Saying,), {"said": said}))
    assert set(verdicts(report).values()) == {"unknown"}
    assert all("answered for other cells" in cell.evidence for cell in report.cells)


@pytest.mark.parametrize("what", ["error", "evidence"])
def test_what_a_host_says_is_one_line_for_a_terminal(what: str, key: Path) -> None:
    says = "no\x1b]0;owned\x07\nbroker1: all is fine\t" + 1000 * "x"
    cells = len(probe(1, key).cells)
    results = [{**json.loads(RESULT), "id": number, "evidence": says} for number in range(cells)]
    said = json.dumps({"error": says} if what == "error" else {"results": results})
    report = probe(1, key, host=type("Host", (Saying,), {"said": said}))
    for cell in report.cells:
        assert cell.evidence.isprintable()
        assert cell.evidence.partition("x; ")[0].count("x") < 500


class Scripted(agent.Attempt):
    """A cell whose descriptors are chosen: cell 0 is decided by its plain connection, which is ready; in the same
    pass of the loop cell 1 makes one, which never is, and gets the descriptor that cell 0 has freed."""

    number: int

    def __init__(
        self, cell: dict[str, Any], context: zmq.Context[Any], address: str, patience: agent.Patience
    ) -> None:
        self.cell, self.raw, self.result = cell, None, None
        self.raw_wants = zmq.POLLOUT if cell["id"] == 0 else zmq.POLLIN
        self.connected = self.established = False
        self.started = time.monotonic()
        self.due = self.started + 0.2
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.bind(f"inproc://{cell['id']}")
        self.teller = context.socket(zmq.PAIR)
        self.teller.connect(f"inproc://{cell['id']}")
        if cell["id"] == 0:
            self.raw = socket.socket(
                type=socket.SOCK_DGRAM
            )  # may be written at once, and nothing comes to be read
            Scripted.number = self.raw.fileno()
        else:
            self.teller.send(struct.pack("=HI", zmq.EVENT_CLOSED, 0))

    def on_event(self, event: int, value: int) -> None:
        self.raw = socket.socket(type=socket.SOCK_DGRAM)
        if self.raw.fileno() != self.number:
            os.dup2(self.raw.fileno(), self.number)
            self.raw.close()
            self.raw = socket.socket(fileno=self.number)

    def on_raw(self) -> None:
        self.decide("open", "tcp", "said to be ready")

    def on_due(self) -> None:
        self.decide("closed", "tcp", "never ready")

    def close(self) -> None:
        self.monitor.close(0)
        self.teller.close(0)
        if self.raw is not None:
            self.raw.close()


def test_a_descriptor_that_is_used_again_is_not_taken_for_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent, "Attempt", Scripted)
    results = agent.attempt(
        [{"id": 0, "address": "127.0.0.1"}, {"id": 1, "address": "127.0.0.1"}], agent.Patience(3)
    )
    assert [(one["id"], one["evidence"]) for one in results] == [(0, "said to be ready"), (1, "never ready")]


@pytest.fixture
def tried() -> Iterator[tuple[agent.Attempt, socket.socket]]:
    """A cell and the listener that it tries; libzmq's own connection has failed, so it is tried without libzmq."""
    with zmq.Context() as context, socket.create_server(("127.0.0.1", 0)) as listener:
        cell = {"id": 0, "port": listener.getsockname()[1], "socket": "ROUTER", "credentials": "none"}
        attempt = agent.Attempt(cell, context, "127.0.0.1", agent.Patience(3))
        attempt.on_event(zmq.EVENT_CLOSED, 0)
        yield attempt, listener
        attempt.close()


def until_ready(attempt: agent.Attempt) -> None:
    assert select.select([], [attempt.raw], [], 10)[1]


def test_one_plain_connection_is_no_open_port(tried: tuple[agent.Attempt, socket.socket]) -> None:
    attempt, listener = tried
    until_ready(attempt)
    assert attempt.raw is not None
    made, held = attempt.raw.getsockname(), []
    while made not in [peer.getpeername() for peer in held]:  # libzmq's is among them
        held.append(listener.accept()[0])
    listener.close()
    attempt.on_raw()
    for peer in held:
        peer.close()
    if attempt.result is None:
        until_ready(attempt)
        attempt.on_raw()
    assert attempt.result is not None
    assert (attempt.result["observed"], attempt.result["connected"]) == ("unknown", False)
    assert "ECONNREFUSED" in attempt.result["evidence"]


def test_one_plain_connection_and_then_silence_is_no_open_port(
    tried: tuple[agent.Attempt, socket.socket],
) -> None:
    attempt, _ = tried
    until_ready(attempt)
    attempt.on_raw()
    assert attempt.result is None
    attempt.on_due()
    assert attempt.result is not None
    assert (attempt.result["observed"], attempt.result["connected"]) == ("unknown", False)


def test_two_plain_connections_are_an_open_port(tried: tuple[agent.Attempt, socket.socket]) -> None:
    attempt, _ = tried
    for _ in range(2):
        until_ready(attempt)
        attempt.on_raw()
    assert attempt.result is not None
    assert (attempt.result["observed"], attempt.result["connected"]) == ("unknown", True)


def test_a_connection_that_only_libzmq_saw_is_no_open_port(
    tried: tuple[agent.Attempt, socket.socket],
) -> None:
    """A firewall's rejections are few a second: the plain connection after it may get none."""
    attempt, _ = tried
    attempt.on_event(zmq.EVENT_CONNECTED, 0)
    attempt.on_due()
    assert attempt.result is not None
    assert (attempt.result["observed"], attempt.result["connected"]) == ("unknown", False)
