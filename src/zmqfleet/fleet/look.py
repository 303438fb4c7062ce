"""What a host has of that which its view declares, read by one shell command, and what is still to do there.

Both engines go by it, pyinfra's operations and, through the action plugin fleet_look, Ansible's tasks: so they agree on
what has drifted, and a run with nothing to do costs a few commands a host.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zmqfleet.fleet.model import Fleet
from zmqfleet.fleet.view import NOLOGIN, File, Resources, View, look_for_keys

# a service against a libzmq without CURVE would talk in the clear
_HAS_CURVE = """python3 -c 'import ctypes, sys; sys.exit(not ctypes.CDLL("libzmq.so.5").zmq_has(b"curve"))'"""
_STAT = "stat -c '%n|%F|%a|%U|%G'"


@dataclass
class Found:
    """What `command` has printed."""

    release: str = ""  # of the distribution, the number before the dot
    packages: list[str] = field(default_factory=list)  # those of the declared that are installed
    users: list[str] = field(default_factory=list)  # name:home:shell
    paths: dict[str, str] = field(default_factory=dict)  # kind|mode|owner|group
    sha256: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # public ones, by the key's name
    units: dict[str, dict[str, str]] = field(default_factory=dict)  # see Unit.look
    ruleset: str = ""
    has_curve: bool = False  # libzmq as the dynamic linker finds it


def command(fleet: Fleet, view: View) -> str:
    """A shell command for root, which changes nothing, always succeeds, and prints what `parse` reads."""
    host = fleet.hosts[view.host]
    packages = [*view.all("packages"), *host.variables["golang_bootstrap_packages"].values()]
    users = [user.name for user in view.all("users")]
    exact = [one.path for one in view.all("directories") if one.exact]
    # what is in an exact directory is found there: thousands of clients would be too long a command
    files = [one for one in view.all("files") if str(Path(one.path).parent) not in exact]
    paths = [one.path for one in (*view.all("directories"), *files)]
    readable = [one.path for one in files if _digest(one)]
    links = [one.path for one in view.all("links")]
    inside = f"find {' '.join(exact)} -mindepth 1 -maxdepth 1" if exact else ":"
    # the view's names and paths hold no character that a shell would take for more than itself
    sections = {
        "release": '. /etc/os-release; echo "${VERSION_ID%%.*}"',
        "packages": f"dpkg-query -Wf '${{Package}}|${{db:Status-Status}}\\n' {' '.join(packages)} 2>/dev/null",
        "users": f"getent passwd {' '.join(users)} | cut -d: -f1,6,7" if users else ":",
        "paths": f"{_STAT} {' '.join(paths)} 2>/dev/null; {inside} -exec {_STAT} {{}} + 2>/dev/null",
        "sha256": f"sha256sum {' '.join(readable)} /dev/null 2>/dev/null; "
        f"{inside} -type f -exec sha256sum {{}} + 2>/dev/null",
        "links": "; ".join(f"printf '%s|%s\\n' {link} \"$(readlink {link})\"" for link in links) or ":",
        "keys": look_for_keys([identity.name for identity in fleet.identities(view.host)]),
        **{f"unit {unit.name}": unit.look for unit in view.all("units")},
        "ruleset": "nft --stateless list table inet zmqfleet 2>/dev/null",
        "curve": f"{_HAS_CURVE} 2>/dev/null && echo yes" if "zeromq" in view.capabilities else ":",
    }
    return "; ".join(f"echo '== {name}'; ({look})" for name, look in sections.items()) + "; true"


def parse(printed: list[str]) -> Found:
    """Reads what `command` printed."""
    found = Found()
    section, unit = "", ""
    for line in printed:
        if line.startswith("== "):
            section, _, unit = line[3:].partition(" ")
            if unit:
                found.units[unit] = {}
        elif section == "release":
            found.release = line
        elif section == "packages":
            name, status = line.split("|")
            found.packages += [name] if status == "installed" else []
        elif section == "users":
            found.users.append(line)
        elif section == "sha256":
            digest, path = line.split("  ", 1)
            found.sha256[path] = digest
        elif section == "paths":
            path, *entry = line.rsplit("|", 4)
            found.paths[path] = "|".join(entry)
        elif section == "unit":
            key, value = line.split("=", 1)
            found.units[unit][key] = value
        elif section == "curve":
            found.has_curve = line == "yes"
        elif section == "ruleset":
            found.ruleset += f"{line}\n"
        else:
            key, value = line.split("|", 1)
            {"links": found.links, "keys": found.keys}[section][key] = value
    return found


def _digest(file: File) -> str | None:
    """What the content of a file has to be, as sha256; None if only the host knows it, or nobody yet."""
    if file.content is not None:
        return hashlib.sha256(file.content.encode()).hexdigest()
    if file.source is not None and file.source.exists():
        with file.source.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    return None


def declared(part: Resources) -> dict[str, Any]:
    """The resources of a capability as plain data, for `todo`. Files whose content is the host's own, or is not known
    yet, are not among them: what is there stays."""
    return {
        "packages": part.packages,
        "users": {one.name: f"{one.name}:{one.home}:{NOLOGIN}" for one in part.users},
        "directories": {
            one.path: f"directory|{one.mode}|{one.owner}|{one.group}" for one in part.directories
        },
        "exact": {
            one.path: [file.path for file in part.files if Path(file.path).parent == Path(one.path)]
            for one in part.directories
            if one.exact
        },
        "files": {
            one.path: [f"{one.mode}|{one.owner}|{one.group}", _digest(one)]
            for one in part.files
            if one.content is not None or one.source is not None
        },
        "links": {one.path: one.target for one in part.links},
    }


def todo(wanted: dict[str, Any], found: Found) -> dict[str, list[str]]:
    """What differs, by kind; `prune` is what exact directories hold beside the declared files."""
    return {
        "packages": [name for name in wanted["packages"] if name not in found.packages],
        "users": [name for name, line in wanted["users"].items() if line not in found.users],
        "directories": [
            path for path, entry in wanted["directories"].items() if found.paths.get(path) != entry
        ],
        "prune": [
            path
            for directory, files in wanted["exact"].items()
            for path in found.paths
            if Path(path).parent == Path(directory) and path not in files
        ],
        "files": [
            path
            for path, (entry, digest) in wanted["files"].items()
            if found.paths.get(path, "").partition("|")[2] != entry
            or digest not in (None, found.sha256.get(path))
        ],
        "links": [path for path, target in wanted["links"].items() if found.links.get(path) != target],
    }
