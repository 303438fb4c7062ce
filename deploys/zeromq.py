"""ZeroMQ libraries: run-time ones everywhere, headers on the build host; CURVE asserted. See roles/zeromq."""

from collections.abc import Generator

from pyinfra.api import StringCommand, deploy, operation

from deploys import common


@operation()
def assert_curve() -> Generator[StringCommand]:
    """Fails on a host whose libzmq has no CURVE: its services would talk in the clear."""
    if not common.found().has_curve:
        yield common.fail(
            "libzmq.so.5 as the linker finds it is missing or has no CURVE (zmq_has); remove a self-built libzmq, or "
            "build it with --with-libsodium"
        )


@deploy("zeromq")
def deploy_zeromq() -> None:
    """Packages, then the check."""
    common.packages("zeromq", name="Install libraries")
    assert_curve(name="Assert that libzmq has CURVE")
