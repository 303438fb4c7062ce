"""Public CURVE keys that hosts show, checked and kept on the controller.

What a host prints decides neither where something is written on the controller nor whose key is whose: names come from
the fleet, and a host with the key of another could pass for it (and CZMQ's allow-list dies of a key that it has twice).
"""

import re
from collections.abc import Container, Iterator, Mapping

from zmqfleet.atomic import replacing
from zmqfleet.fleet.model import ETC, Fleet, FleetError, Identity

_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


def kept(fleet: Fleet, host: str) -> dict[str, str | None]:
    """The public keys of a host that the controller has, by name; None for one that it has not."""
    return {identity.name: fleet.public_key(identity) for identity in fleet.identities(host)}


def learn(fleet: Fleet, host: str, shown: Mapping[str, str], made: Container[str] = ()) -> list[str]:
    """Keeps the public keys, by name, that a host has shown, and forgets those of services that it has no more: they
    may come back with another one. Says of each that is another one than before, and that
    this run has not made, in words.

    Raises FleetError, and keeps none of them, if one is no key, or is not the host's.
    """
    before = kept(fleet, host)
    new = {name: key for name, key in shown.items() if before.get(name) != key}
    # a run in which nothing is new reads no other host's keys
    if problems := list(_wrong(fleet, host, shown, list(before))) if new else []:
        raise FleetError("\n".join(problems))
    for name, key in new.items():
        path = fleet.public_key_file(Identity(host, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(f"{key}\n".encode())
    for path in (fleet.state / "curve" / host).glob("*.pub"):
        if path.stem not in before:
            path.unlink(missing_ok=True)
    return [
        f"{host}: its key {name} is {key} now, and was {before[name]}: if nobody has installed that host anew, "
        "removed the key, or renamed or moved its service and back, see who changed it"
        for name, key in new.items()
        if before[name] and name not in made
    ]


def _wrong(fleet: Fleet, host: str, shown: Mapping[str, str], names: list[str]) -> Iterator[str]:
    taken = {key: Identity(*at) for at, key in fleet.public_keys().items() if at[0] != host}
    for name, key in shown.items():
        other = taken.get(key)
        anew = f"remove {ETC}/{name}/curve.key and curve.key_secret there, and converge it"
        if name not in names:
            yield f"{host}: shows a key named {name!r}, but has {', '.join(names)} only; see who changed that host"
        elif not _Z85.fullmatch(key):
            yield f"{host}: its key {name} is {key[:60]!r}, not 40 characters of Z85; {anew}"
        elif other and _is_declared(fleet, other):
            yield f"{host}: its key {name} is that of {other.name} on {other.host}; {anew}"
        taken[key] = Identity(host, name)


def _is_declared(fleet: Fleet, identity: Identity) -> bool:
    """What is kept of a host that left the fleet, or of a service that left its host, is nobody's."""
    return identity.host in fleet.hosts and identity in fleet.identities(identity.host)
