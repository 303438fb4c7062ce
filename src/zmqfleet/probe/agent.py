"""The part of the probe that runs on a host: tries all of its cells and prints what each one met.

It travels over ssh's standard input to the system Python and so is one file: standard library and the
distribution's pyzmq (24 on Debian 12, 26 on Debian 13), nothing of zmqfleet. It reads secret keys where
they are and prints none. It sends no application data: the handshake, and ZMTP's own PING, are the test.
"""

from __future__ import annotations

import collections
import errno
import json
import os
import re
import socket
import struct
import threading
import time
from typing import Any

try:
    import zmq
except ImportError:
    print(json.dumps({"error": "pyzmq is missing on this host: install python3-zmq (zmqfleet converges it)"}))
    raise SystemExit(0) from None

# Milliseconds.
PING_EVERY = 100
RESOLVE = 2000

# A cell holds about five file descriptors; a login session has 1024 of them.
AT_ONCE = 150

PEER = {
    "ROUTER": zmq.DEALER,
    "DEALER": zmq.ROUTER,
    "PUB": zmq.SUB,
    "XPUB": zmq.SUB,
    "SUB": zmq.PUB,
    "XSUB": zmq.PUB,
    "REP": zmq.REQ,
    "REQ": zmq.REP,
    "PULL": zmq.PUSH,
    "PUSH": zmq.PULL,
    "PAIR": zmq.PAIR,
}

# These deal their messages out among their peers: a probe that stays is dealt some, and they are lost.
# So it leaves the moment that the handshake is done.
DEALS_OUT = ("PUSH", "DEALER", "REQ", "PAIR")

# A ZMTP 3 greeting is 64 bytes: signature (10), version (2), mechanism (20), as-server, filler. Signature and
# version are enough for the peer to send all of its own; at a mechanism that it does not run it may hang up.
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00"
TELLING = 32

ONE_OF_MANY = "TCP connected once, and the connection after it failed"

_KEY = re.compile(r'^\s*(public-key|secret-key)\s*=\s*"([^"]*)"', re.MULTILINE)


class Patience:
    """How long is waited for each part of a cell, in milliseconds, of `timeout` seconds for all of it.

    libzmq itself ends a handshake, or a connection that leaves a PING unanswered, so the probe only has to outwait it:
    what it settles for is longer than a PING's interval and its time-out together.
    """

    def __init__(self, timeout: int) -> None:
        self.cell = timeout * 1000
        self.handshake = self.settle = self.cell // 3
        self.ping = self.cell // 5


class Undecided(Exception):
    """The cell is decided, or cannot be tried, before any connection."""

    def __init__(self, observed: str, layer: str | None, evidence: str) -> None:
        super().__init__(evidence)
        self.observed, self.layer, self.evidence = observed, layer, evidence


class Attempt:
    """One cell being tried: a socket, its monitor, and what has been decided."""

    def __init__(
        self, cell: dict[str, Any], context: zmq.Context[Any], address: str, patience: Patience
    ) -> None:
        self.cell = cell
        self.address = address
        self.patience = patience
        self.connected = False
        self.established = False
        self.raw: socket.socket | None = None
        self.raw_wants = zmq.POLLOUT
        self.raw_accepted = False
        self.greeting = b""
        self.curve = cell["credentials"] != "none"
        self.result: dict[str, Any] | None = None
        self.started = time.monotonic()
        self.due = self.started + patience.cell / 1000
        self.socket = context.socket(PEER[cell["socket"]])
        self.monitor = context.socket(zmq.PAIR)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self.socket.linger = 0
        self.socket.rcvhwm = 1
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, self.patience.handshake)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, PING_EVERY)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, self.patience.ping)
        self.socket.setsockopt(zmq.IPV6, 1 if ":" in self.address else 0)
        if self.curve:
            public, secret, server = keys(self.cell)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server)
        events = f"inproc://events-{self.cell['id']}"
        self.socket.monitor(events, zmq.EVENT_ALL)
        self.monitor.connect(events)
        host = f"[{self.address}]" if ":" in self.address else self.address
        self.socket.connect(f"tcp://{host}:{self.cell['port']}")

    def close(self) -> None:
        """Free the sockets at once."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)
        if self.raw is not None:
            self.raw.close()

    def decide(self, observed: str, layer: str | None, evidence: str) -> None:
        """Keep the first decisive observation: libzmq goes on with secondary events."""
        if self.result is None:
            self.result = outcome(self.cell, observed, layer, evidence, self.started, self.connected)

    def on_event(self, event: int, value: int) -> None:
        """Take one event of the socket monitor; `value` is an errno or a code, by event."""
        if event == zmq.EVENT_CONNECTED:
            self.connected = True
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.established = True
            if self.cell["socket"] in DEALS_OUT:
                self.decide(
                    "open",
                    "curve" if self.curve else "zmtp",
                    "handshake done, left at once: "
                    f"a {self.cell['socket']} socket would deal messages to the probe",
                )
            self.due = time.monotonic() + self.patience.settle / 1000
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.decide("closed", "zap", f"ZAP refused this key with status {value}")
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.decide(*protocol_error(value, self.curve))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value == errno.EAGAIN:
            zap = ", or ZAP that does not decide" if self.curve else ""
            self.decide(
                "closed",
                "zmtp",
                f"TCP connected, ZMTP handshake not done within {self.patience.handshake} ms: "
                f"a hung process, not a ZeroMQ listener{zap}",
            )
        elif event == zmq.EVENT_DISCONNECTED and self.established:
            self.decide(
                "closed",
                "round trip",
                "handshake done, then the connection ended: closed by the peer, "
                f"or no answer to PING within {self.patience.ping} ms (process hung or stopped)",
            )
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED):
            # A peer that drops the handshake gives no reason, and of two that disagree on the mechanism
            # either may be the one that drops: its greeting tells.
            self._ask_again()
        elif event in (zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED) and not self.connected:
            # libzmq reports no errno
            self._ask_again()

    def _ask_again(self) -> None:
        """Connect once more without libzmq; `on_raw` takes the errno or the greeting."""
        if self.raw is None and self.result is None:
            self._connect_raw()

    def _connect_raw(self) -> None:
        if self.raw is not None:
            self.raw.close()
        self.raw = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET)
        self.raw.setblocking(False)
        code = self.raw.connect_ex((self.address, self.cell["port"]))
        if code != errno.EINPROGRESS:
            self._on_connect(code)

    def on_raw(self) -> None:
        """The plain TCP connection is ready to be written (once) or read."""
        assert self.raw is not None
        if self.raw_wants == zmq.POLLOUT:
            self._on_connect(self.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            return
        try:
            more = self.raw.recv(TELLING - len(self.greeting))
        except OSError:
            more = b""
        self.greeting += more
        if not more or len(self.greeting) == TELLING:
            self.decide(*refused(self.greeting, self.curve))

    def _on_connect(self, code: int) -> None:
        """The plain TCP connection is made, or refused with the errno `code`."""
        assert self.raw is not None
        name = errno.errorcode.get(code, str(code))
        if code and self.raw_accepted:
            self.decide("unknown", "tcp", f"{ONE_OF_MANY}: {name} ({os.strerror(code)})")
        elif code:
            again = "dropped during the handshake, then " if self.connected else ""
            # libzmq now and then reports a connection that the peer's firewall refused: this errno settles it
            self.connected = False
            self.decide("closed", "tcp", f"{again}TCP connect: {name} ({os.strerror(code)})")
        elif not self.connected and not self.raw_accepted:
            # libzmq's failed: this one needs a second as its witness
            self.raw_accepted = True
            self._connect_raw()
        elif not self.connected:
            self.connected = True
            self.decide(
                "unknown",
                "tcp",
                "the first TCP connection failed, the next two were accepted: is the service just starting?",
            )
        else:
            self.raw_wants = zmq.POLLIN
            self.due = time.monotonic() + self.patience.handshake / 1000
            try:
                self.raw.send(GREETING)
            except OSError:
                self.decide(*refused(b"", self.curve))

    def on_due(self) -> None:
        """The time of the cell, or of its settling, is over."""
        if self.established:
            self.decide("open", "round trip", "handshake done, PING answered")
        elif self.raw_wants == zmq.POLLIN:
            self.decide(*refused(self.greeting, self.curve))
        elif self.raw is not None and (self.connected or self.raw_accepted):
            self.connected = False
            self.decide("unknown", "tcp", f"{ONE_OF_MANY}: no answer within {self.patience.cell} ms")
        elif self.connected:
            self.decide("closed", "zmtp", f"TCP connected, no ZMTP handshake within {self.patience.cell} ms")
        else:
            self.decide(
                "closed",
                "tcp",
                f"TCP connect: no answer within {self.patience.cell} ms "
                "(packets or refusals dropped, or the host is down)",
            )


def outcome(
    cell: dict[str, Any], observed: str, layer: str | None, evidence: str, started: float, connected: bool
) -> dict[str, Any]:
    """What is printed for a cell; `started` by time.monotonic(), `connected` is whether TCP was."""
    return {
        "id": cell["id"],
        "observed": observed,
        "layer": layer,
        "evidence": evidence,
        "connected": connected,
        "milliseconds": round((time.monotonic() - started) * 1000),
    }


def protocol_error(code: int, curve: bool) -> tuple[str, str, str]:
    """Read HANDSHAKE_FAILED_PROTOCOL."""
    if code == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        offered = "CURVE" if curve else "NULL"
        evidence = f"mechanism mismatch: {offered} was offered, the server runs another (0x{code:08x})"
        return "closed", "zmtp", evidence
    names = {int(getattr(zmq, name)): name for name in dir(zmq) if name.startswith("PROTOCOL_ERROR_")}
    layer = "curve" if code == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC else "zmtp"
    return "closed", layer, f"handshake failed: {names.get(code, 'protocol error')} (0x{code:08x})"


def refused(greeting: bytes, curve: bool) -> tuple[str, str, str]:
    """Why a peer with this greeting dropped the handshake."""
    offered = "CURVE" if curve else "NULL"
    if len(greeting) < TELLING or greeting[0] != 0xFF or greeting[9] != 0x7F:
        sent = f"it sent {greeting[:20]!r}" if greeting else "it sent nothing"
        return "closed", "zmtp", f"TCP connected, but the peer does not greet as ZMTP 3 does: {sent}"
    mechanism = greeting[12:TELLING].rstrip(b"\0").decode("ascii", "replace")
    if mechanism != offered:
        return "closed", "zmtp", f"mechanism mismatch: {offered} was offered, the server runs {mechanism}"
    if curve:
        return (
            "closed",
            "curve",
            (
                "the server dropped the CURVE handshake without a reason: it does not hold the secret key of "
                "the server key used here, wants ZAP and has no handler, or runs another socket type"
            ),
        )
    return "closed", "zmtp", "the server dropped the NULL handshake without a reason: another socket type?"


def keys(cell: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """Z85 (client public, client secret, server public) for the cell's credentials.

    Raises Undecided when the host's own key cannot be had.
    """
    public, secret = zmq.curve_keypair() if cell["credentials"] == "unknown" else own_keys(cell)
    if cell["credentials"] == "wrong-server-key":
        return public, secret, zmq.curve_keypair()[0]
    return public, secret, cell["server_key"].encode()


def own_keys(cell: dict[str, Any]) -> tuple[bytes, bytes]:
    """The Z85 key pair in the cell's secret file (CZMQ's certificate format)."""
    path = cell["secret_file"]
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = dict(_KEY.findall(file.read()))
    except OSError as error:
        raise Undecided("unknown", None, f"{path}: {error.strerror}: converge this host first") from None
    try:
        public, secret = found["public-key"].encode(), found["secret-key"].encode()
        sound = zmq.curve_public(secret) == public
    except (KeyError, ValueError, zmq.ZMQError):
        sound = False
    if not sound:
        # The service cannot connect with it either; for a cell that must be closed it proves nothing.
        observed = "closed" if cell["credentials"] == "right" else "unknown"
        evidence = f"{path} holds no CURVE key pair: remove it and converge this host"
        raise Undecided(observed, "curve", evidence)
    return public, secret


def resolve(names: set[str]) -> dict[str, tuple[str, str]]:
    """Name -> (numeric address, "") or ("", why not); all at once, within RESOLVE milliseconds."""
    found: dict[str, tuple[str, str]] = {}

    def look_up(name: str) -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            # IPv4 first, as libzmq does.
            answers.sort(key=lambda answer: answer[0] != socket.AF_INET)
            found[name] = (str(answers[0][4][0]), "")
        except (OSError, UnicodeError) as error:
            found[name] = ("", f"{name}: {getattr(error, 'strerror', None) or error}")

    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    end = time.monotonic() + RESOLVE / 1000
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    silence = f"no answer from the resolver within {RESOLVE} ms"
    return {name: found.get(name, ("", f"{name}: {silence}")) for name in names}


def poll(trials: list[Attempt]) -> set[Any]:
    """The sockets of these trials, monitors and plain ones, that are ready; waits until one is, or a trial is due.

    Objects and not descriptors: one that is closed while these are gone through, and the next one made, may have
    the same number.
    """
    poller = zmq.Poller()
    plain = {}
    for trial in trials:
        poller.register(trial.monitor, zmq.POLLIN)
        if trial.raw is not None:
            plain[trial.raw.fileno()] = trial.raw
            poller.register(trial.raw.fileno(), trial.raw_wants)
    wait = min(trial.due for trial in trials) - time.monotonic()
    return {plain.get(one, one) for one, _ in poller.poll(max(0, int(wait * 1000) + 1))}


def attempt(cells: list[dict[str, Any]], patience: Patience) -> list[dict[str, Any]]:
    """Try all cells, AT_ONCE at a time, in one poll loop."""
    addresses = resolve({cell["address"] for cell in cells})
    results: list[dict[str, Any]] = []
    waiting = collections.deque(cells)
    running: list[Attempt] = []
    context: zmq.Context[Any] = zmq.Context()

    def start(cell: dict[str, Any]) -> None:
        address, why_not = addresses[cell["address"]]
        now = time.monotonic()
        if not address:
            results.append(outcome(cell, "closed", "name", why_not, now, False))
            return
        try:
            trial = Attempt(cell, context, address, patience)
        except Undecided as problem:
            results.append(outcome(cell, problem.observed, problem.layer, problem.evidence, now, False))
        except (zmq.ZMQError, OSError, ValueError) as error:
            results.append(outcome(cell, "unknown", None, f"could not be tried: {error}", now, False))
        else:
            running.append(trial)

    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            start(waiting.popleft())
        if not running:
            break
        ready = poll(running)
        for trial in running:
            if trial.monitor in ready:
                while trial.result is None and trial.monitor.poll(0):
                    event, value = struct.unpack("=HI", trial.monitor.recv_multipart()[0])
                    trial.on_event(event, value)
            if trial.raw in ready and trial.result is None:
                trial.on_raw()
            if trial.due <= time.monotonic():
                trial.on_due()
            if trial.result is not None:
                results.append(trial.result)
                trial.close()
        running = [trial for trial in running if trial.result is None]
    context.term()
    return results


def main(cells: str, timeout: int) -> None:
    """Try the cells of a JSON list, each for `timeout` seconds, and print one line of JSON: {"results": [...]}."""
    print(json.dumps({"results": attempt(json.loads(cells), Patience(timeout))}))
