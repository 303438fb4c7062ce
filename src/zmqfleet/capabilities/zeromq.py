"""ZeroMQ libraries: run-time ones where services run, headers where they are built; CURVE asserted."""

from collections.abc import Iterator, Sequence

from zmqfleet.capabilities.part import INSTALL, Part
from zmqfleet.fleet.model import Fleet
from zmqfleet.resources import Package, Rule, Step

# a service against a libzmq without CURVE would talk in the clear
_HAS_CURVE = (
    """python3 -I -S -c 'import ctypes, sys; sys.exit(not ctypes.CDLL("libzmq.so.5").zmq_has(b"curve"))'"""
)
_NO_CURVE = (
    "libzmq.so.5 as the linker finds it is missing or has no CURVE (zmq_has); remove a self-built libzmq, or build it "
    "with --with-libsodium"
)


def parts(fleet: Fleet, host: str, leaving: Sequence[Rule]) -> Iterator[Part]:
    """Packages, then the check; also on a host of a project without services, where the role is used by itself."""
    if not (fleet.services_of(host) or fleet.builds(host) or not fleet.services):
        return
    variables = fleet.hosts[host].variables
    names = ["python3", *variables["zeromq_packages"]]  # the check's, and scripts'
    if fleet.builds(host) or not fleet.services:
        names += variables["zeromq_build_packages"]
    check = Step("libzmq has CURVE", _HAS_CURVE, after=tuple(names), cause=_NO_CURVE)
    yield Part("zeromq", INSTALL, (*map(Package, names), check))
