"""What the probe's agent needs on a host, and the public keys of all hosts on the controller. See roles/zmq_probe."""

from collections.abc import Generator
from pathlib import Path

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, deploy, operation

from deploys import common
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
    identities = common.fleet().identities(host.name)
    have = common.found().keys
    for identity in identities:
        path = common.fleet().public_key_file(identity)
        key = have.get(identity.name)
        if key is None or not path.exists() or path.read_text() != f"{key}\n":
            yield FunctionCommand(_store, (path, key), {})


def _store(path: Path, key: str | None) -> None:
    if key is None:
        raise ValueError(f"{path.stem}: the host has no such key")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{key}\n")


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
