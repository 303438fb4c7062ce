"""What the probe's agent needs on a host, and the public keys of all hosts on the controller. See roles/zmq_probe."""

from collections.abc import Generator

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, Host, State, StringCommand, deploy, operation

from deploys import common
from zmqfleet.fleet import FleetError, keys
from zmqfleet.fleet.model import ETC, LIB, PROBE


@operation()
def key(name: str) -> Generator[StringCommand]:
    """A CURVE key of the host's own, by name; born there."""
    if name not in common.found().keys:
        make = StringCommand(f"{LIB}/curve-keypair {ETC}/{name} && chmod 400 {ETC}/{name}/curve.key_secret")
        yield from common.touching([make])


@operation()
def collect() -> Generator[FunctionCommand]:
    """The host's public keys, to the controller."""
    shown = common.found().keys
    if shown != keys.kept(common.fleet(), host.name):
        yield FunctionCommand(_store, (shown,), {})


def _store(state: State, host: Host, shown: dict[str, str]) -> bool:
    """With these two arguments pyinfra takes what is returned; an exception would be shown with a traceback."""
    try:
        keys.store(common.fleet(), host.name, shown)
    except FleetError as error:
        logger.error(str(error))
        return False
    return True


@deploy("zmq_probe")
def deploy_zmq_probe() -> None:
    """Packages, the key tool, the probe's key."""
    common.packages("zmq_probe", name="Install pyzmq")
    common.directories("zmq_probe", name="Make directories")
    common.files("zmq_probe", name="Place the key tool")
    key(PROBE, name="Make the probe's key")


@deploy("zmq_probe: public keys")
def fetch_public_keys() -> None:
    """Public keys travel, secret ones never do."""
    collect(name="Collect public keys")
