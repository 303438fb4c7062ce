"""What the probe's agent needs on a host: pyzmq, and a CURVE key of the host's own."""

from collections.abc import Iterator, Sequence

from zmqfleet.capabilities.part import INSTALL, Part, script
from zmqfleet.fleet.model import ETC, LIB, PROBE, Fleet
from zmqfleet.resources import Directory, Key, Package, Rule

KEYPAIR = "curve-keypair"


def parts(fleet: Fleet, host: str, leaving: Sequence[Rule]) -> Iterator[Part]:
    """Packages, the key tool, the probe's key; on every host of a fleet with services."""
    if not fleet.services:
        return
    own = f"{ETC}/{PROBE}"
    resources = (
        *map(Package, fleet.hosts[host].variables["zmq_probe_packages"]),
        Directory(LIB),
        Directory(ETC),
        Directory(own),
        script("zmq_probe", KEYPAIR),
        Key(PROBE, own, f"{LIB}/{KEYPAIR}"),
    )
    yield Part("zmq_probe", INSTALL, resources)
