"""Knocks at ports until it is told to stop, then says what opened: run on a host, over ssh's standard input."""

import itertools
import json
import select
import signal
import socket
import sys
import time

stopped = []
WAIT = 0.2  # seconds: the hosts are on one machine
RATE = 1500  # connections a second
AT_ONCE = 100  # most new ones in a round, where this process had to wait for its turn
OPEN = 500  # most that wait for an answer, where packets are dropped: a login session has 1024 descriptors


def knock(addresses, ports):
    """Prints `knocking`, and at SIGTERM one line of JSON: connections tried, seconds, those that opened."""
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    started, tried, opened = time.monotonic(), 0, []
    doors = itertools.cycle(itertools.product(addresses, ports))
    waiting = {}
    poll = select.poll()
    print("knocking")
    while not stopped:
        now = time.monotonic()
        due = max(0, int((now - started) * RATE) - tried)
        for address, port in itertools.islice(doors, min(AT_ONCE, OPEN - len(waiting), due)):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, port))
            waiting[one.fileno()] = (one, f"{address}:{port}", now)
            poll.register(one, select.POLLOUT)
            tried += 1
        for number, _ in poll.poll(5):
            one, where, _ = waiting.pop(number)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                opened.append(f"{where} after {now - started:.2f} s")
            poll.unregister(number)
            one.close()
        for number, (one, _, since) in list(waiting.items()):
            if now - since > WAIT:
                poll.unregister(number)
                one.close()
                del waiting[number]
        time.sleep(0.005)
    print(json.dumps({"tried": tried, "seconds": time.monotonic() - started, "opened": opened[:20]}))
    sys.stdout.flush()
