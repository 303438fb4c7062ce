"""CURVE keys: the secret one fits the public one, which is the one that the controller hands to the peers."""

import json

from testinfra.host import Host

from zmqfleet.fleet import Fleet, Identity
from zmqfleet.fleet.model import ETC

# Prints public keys only: the secret one does not leave the host.
_PUBLIC_KEYS = """
import json, re, sys, zmq
secret, public = (open(f"{sys.argv[1]}/{name}").read() for name in ("curve.key_secret", "curve.key"))
key = lambda text, which: re.search(which + r'-key\\s*=\\s*"(.{40})"', text)[1]
print(json.dumps({
    "follows from the secret": zmq.curve_public(key(secret, "secret").encode()).decode(),
    "beside the secret": key(secret, "public"),
    "certificate": key(public, "public"),
    "certificate has a secret": "secret" in public,
}))
"""


def test_key_pair_fits_and_the_controller_has_its_public_half(
    host: Host, fleet: Fleet, identity: Identity
) -> None:
    collected = fleet.public_key_file(identity)
    assert collected.is_file(), "the controller has not collected this public key"
    expected = collected.read_text().strip()
    found = json.loads(host.check_output("python3 -c %s %s", _PUBLIC_KEYS, f"{ETC}/{identity.name}"))
    assert found == {
        "follows from the secret": expected,
        "beside the secret": expected,
        "certificate": expected,
        "certificate has a secret": False,
    }
