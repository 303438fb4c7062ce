"""ZeroMQ libraries: run-time ones everywhere, headers on the build host; CURVE asserted. See roles/zeromq."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from deploys import common

_HAS_CURVE = 'python3 -c \'import ctypes, sys; sys.exit(not ctypes.CDLL("libzmq.so.5").zmq_has(b"curve"))\' 2>/dev/null'


class LibzmqHasCurve(FactBase[bool]):
    """Whether the libzmq that the dynamic linker finds was built with CURVE."""

    def command(self) -> str:
        return f"{_HAS_CURVE} && echo yes || echo no"

    def process(self, output: list[str]) -> bool:
        return output == ["yes"]


@operation()
def assert_curve() -> Generator[StringCommand]:
    """Fails on a host whose libzmq has no CURVE: its services would talk in the clear."""
    if not host.get_fact(LibzmqHasCurve):
        yield StringCommand(
            f"{_HAS_CURVE} || {{ echo 'libzmq.so.5 as the linker finds it has no CURVE (zmq_has); remove the "
            "self-built libzmq, or build it with --with-libsodium' >&2; exit 1; }"
        )


@deploy("zeromq")
def deploy_zeromq() -> None:
    """Packages, then the check."""
    common.packages("zeromq", name="Install libraries")
    assert_curve(name="Assert that libzmq has CURVE")
