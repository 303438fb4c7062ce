"""Refuses wrong variables before any host is touched: each problem with file, key and the nearest right name."""

import difflib
import functools
import hashlib
import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from getopt import GetoptError
from pathlib import Path
from typing import Any

from zmqfleet import inventory as inventory_module
from zmqfleet.fleet.addresses import addresses
from zmqfleet.fleet.grammar import ADDRESS, DNS_NAME, GROUP, HOST, LOGIN, shown
from zmqfleet.fleet.model import (
    BUILD_VARIABLES,
    COMMANDS,
    PER_HOST,
    Fleet,
    FleetError,
    instance_from,
    is_loopback,
)
from zmqfleet.fleet.schema import check, key_shown, nearest, options
from zmqfleet.gosources import replacements
from zmqfleet.inventory import CONNECTION, FALSE, TEMPLATE, TRUE, Host, shortened, top_level

_RESERVED = {"probe", "manifest", "netrc", "root", "daemon", "bin", "sys", "sync", "mail", "backup", "nobody", "sshd",
             "ssh", "apparmor", "cron", "dbus", "nftables", "systemd", "zmq-build", "zmqfleet-firewall"}  # fmt: skip
_PREFIXES = ("zmq_", "zeromq_", "golang_", "firewall_", "zmqfleet_")
_LOOKUPS_AT_ONCE = 64
_BROADCAST = ipaddress.ip_address("255.255.255.255")

# What changes which code a process runs, or whom it takes for another: those that glibc keeps from privileged programs
# (sysdeps/generic/unsecvars.h) but for what only names directories, and Go's own.
_UNSAFE_ENV = re.compile(
    r"LD_\w+|GCONV_PATH|GLIBC_TUNABLES|GODEBUG|HOSTALIASES|LOCALDOMAIN|LOCPATH|NLSPATH|RESOLV_HOST_CONF|RES_OPTIONS"
)
_SET_BY_SYSTEMD = {
    "CREDENTIALS_DIRECTORY",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
}

# Ansible has more names for the same
_OTHER_NAMES = {
    "ansible_private_key_file": "ansible_ssh_private_key_file",
    "ansible_ssh_args": "ansible_ssh_common_args",
    "ansible_ssh_extra_args": "ansible_ssh_common_args",
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
}
_PASSWORDS = ("ansible_become_pass", "ansible_become_password", "ansible_password", "ansible_ssh_pass")

# what leads ssh to another host, of its options
_WAY = ("hostname", "port", "proxycommand", "proxyjump")
_PEER_ADDRESS = "zmq_address"

NO_SERVICES = "zmq_services: is missing; set it for all hosts"

Problem = tuple[str, str]


def problems(hosts: dict[str, Host], project: Path, inventory: Path, alone: bool = False) -> list[str]:
    """What is wrong, one line each, the first of them if they are many; empty if the fleet is as it should be. With
    `alone` there may be no services."""
    # what other problems would be told with, goes first
    found = list(dict.fromkeys(_names(hosts))) or list(
        dict.fromkeys([*_connections(hosts), *_variables(hosts, alone)])
    )
    if not found and "zmq_services" in next(iter(hosts.values())).variables:
        found = list(dict.fromkeys(_services(hosts, project)))
    if not found:
        return []
    elsewhere = project / "group_vars" / "all.yml"
    # an inventory that is no YAML tells no line
    where = dict.fromkeys([*CONNECTION, _PEER_ADDRESS], inventory)
    where |= {**inventory_module.where_set(project, inventory), "inventory": inventory}
    lines = [f"{where.get(top_level(key), elsewhere)}: {key}: {message}" for key, message in found]
    return shortened(lines)


def unresolved(fleet: Fleet) -> list[str]:
    """The hosts that run a service or may connect to one, and whose address is a name that does not resolve, one line
    each. Of others only ssh has to know the way."""
    services = fleet.services.values()
    groups = {group for s in services for group in (s.hosts, *(g for e in s.endpoints for g in e.allow))}
    concerned = [host for host in fleet.hosts.values() if not groups.isdisjoint(host.groups)]

    def problem(host: Host) -> str | None:
        try:
            addresses(host)
        except FleetError as error:
            return str(error)
        return None

    # a name server may be slow to answer, and slower not to
    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as pool:
        return [line for line in pool.map(problem, concerned) if line]


def _variables(hosts: dict[str, Host], alone: bool) -> Iterator[Problem]:
    declared = options()

    @functools.cache
    def unknown(name: str) -> str | None:
        if name.startswith(_PREFIXES):
            return f"unknown variable {name!r}; {nearest(name, declared)}"
        close = difflib.get_close_matches(name, declared, n=1, cutoff=0.85)
        return f"unknown variable {name!r}; did you mean {close[0]!r}?" if close else None

    checked: set[tuple[str, int]] = set()
    for host in hosts.values():
        for name, value in host.variables.items():
            # hosts with equal values share one object: a value that describes the fleet is checked once
            if (name, id(value)) in checked:
                continue
            checked.add((name, id(value)))
            if name in declared:
                yield from check(value, declared[name], name)
            elif message := unknown(name):
                yield name, message
    first = next(iter(hosts.values()))
    # not required by the roles' specifications: some can be used by themselves
    if "zmq_services" not in first.variables and not alone:
        yield "zmq_services", "is missing; set it for all hosts"
    for host in hosts.values():
        for name in ("zmq_build_hosts", "zmq_build_verify"):
            if host.variables.get(name) != first.variables.get(name):
                yield name, _differs(first, host)
        if key := _differing(first.variables.get("zmq_services"), host.variables.get("zmq_services")):
            yield key, _differs(first, host)


def _differing(first: Any, other: Any) -> str:
    """Which key of zmq_services is another one on another host, though it describes the fleet; empty if none is."""
    if first is other:
        return ""
    lists = isinstance(first, list) and isinstance(other, list) and len(first) == len(other)
    if not lists or not all(isinstance(entry, dict) for entry in (*first, *other)):
        return "zmq_services" if first != other else ""
    entries = enumerate(zip(first, other, strict=True))
    return next(
        (key for index, both in entries if (key := _deviating(*both, f"zmq_services[{index}]", PER_HOST))), ""
    )


def _deviating(one: Any, its: Any, at: str, besides: Collection[str] = ()) -> str:
    """The innermost key at which two values differ; empty if they do not."""
    if one is its:
        return ""
    if isinstance(one, dict) and isinstance(its, dict):
        keys = sorted({*one, *its} - {*besides}, key=str)
        pairs = [(f"{at}.{key_shown(key)}", one.get(key), its.get(key)) for key in keys]
    elif isinstance(one, list) and isinstance(its, list) and len(one) == len(its):
        pairs = [(f"{at}[{index}]", *both) for index, both in enumerate(zip(one, its, strict=True))]
    else:
        return at if one != its else ""
    return next((key for path, mine, theirs in pairs if (key := _deviating(mine, theirs, path))), "")


def _differs(first: Host, other: Host) -> str:
    return f"differs between {first.name} and {other.name}; it describes the fleet, set it for all"


def _names(hosts: dict[str, Host]) -> Iterator[Problem]:
    """Names of hosts and groups, whatever made the inventory: they become file names."""
    for host in hosts.values():
        if problem := HOST.problem(host.name):
            yield "inventory", problem
    for group in sorted({group for host in hosts.values() for group in host.groups}):
        if problem := GROUP.problem(group):
            yield "inventory", problem


def _connections(hosts: dict[str, Host]) -> Iterator[Problem]:
    """How a host is reached: by one way, which is nobody else's."""
    reached: dict[object, str] = {}
    for host in hosts.values():
        others = ("ansible_become", "ansible_port", *_OTHER_NAMES, *_PASSWORDS)
        texts = [name for name in CONNECTION if name not in others]
        if wrong := [name for name in texts if not _is_line(host.variables.get(name, ""))]:
            yield from ((name, f"must be one line of text, for {host.name}") for name in wrong)
            continue
        become = str(host.variables.get("ansible_become", False))
        if become.lower() not in (*TRUE, *FALSE):
            yield "ansible_become", f"is {shown(become)} for {host.name}: write true or false"
        for name, only in (("ansible_become_method", "sudo"), ("ansible_become_user", "root")):
            if (value := host.variables.get(name, only)) != only:
                yield name, f"is {shown(value)} for {host.name}: there is no way but {only}"
        for name, ours in _OTHER_NAMES.items():
            if name in host.variables:
                yield (
                    name,
                    f"is set for {host.name}: drift and the probe read {ours}, as Ansible does; write that",
                )
        for name in _PASSWORDS:
            if host.variables.get(name):
                why = "drift and the probe have no use for it: use a key, and sudo without a password"
                yield name, f"is set for {host.name}, but {why}"
        connection = host.variables.get("ansible_connection", "ssh")
        if "ssh" not in connection and connection != "smart":
            yield "ansible_connection", f"is {shown(connection)} for {host.name}: hosts are reached by ssh"
        port = str(host.variables.get("ansible_port", 22))
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            yield "ansible_port", f"is {shown(port)} for {host.name}: no TCP port (1 to 65535)"
        user = host.variables.get("ansible_user")
        if user and (problem := LOGIN.problem(user)):
            yield "ansible_user", f"{problem}, for {host.name}"
        by: list[object] = []
        try:
            file, settings = host.ssh_settings
            by = [file, *((name, value) for name, value in settings if name.lower() in _WAY)]
        except (ValueError, GetoptError) as error:
            yield "ansible_ssh_common_args", f"cannot be taken apart, for {host.name}: {shown(error)}"
        if problem := _address_problem(host.address):
            yield "ansible_host", f"{problem}, for {host.name}"
        key = _PEER_ADDRESS if _PEER_ADDRESS in host.variables else "ansible_host"
        # what it may be written with at all is its form
        if not ADDRESS.problem(host.peer_address) and (problem := _address_problem(host.peer_address)):
            yield key, f"{problem}, for {host.name}"
        elif key == _PEER_ADDRESS and is_loopback(host.peer_address):
            yield key, f"{host.peer_address} is each host's own, for {host.name}: write where others reach it"
        # ssh may find others there, too: at another port, or behind another host
        way = (_canonical(host.address), port, *by)
        for name, place, address in (
            ("ansible_host", way, host.address),
            (key, _canonical(host.peer_address), host.peer_address),
        ):
            if (other := reached.setdefault(place, host.name)) != host.name:
                yield name, f"{host.name} and {other} have the same address {shown(address)}"
                break


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _canonical(address: str) -> str:
    """One spelling of an address, or of a name in DNS."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address.lower().rstrip(".")


def _address_problem(address: str) -> str:
    """Why a host cannot be reached there, by us and by its peers; empty if it may be."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return DNS_NAME.problem(address)
    if found.is_unspecified or found.is_multicast or address == "255.255.255.255":
        return f"{address} is nobody's address"
    if isinstance(found, ipaddress.IPv6Address) and (found.scope_id or found.ipv4_mapped):
        return (
            f"{shown(address)} means something on this machine alone; write an address that all hosts can use"
        )
    return ""


def _services(hosts: dict[str, Host], project: Path) -> Iterator[Problem]:
    first = next(iter(hosts.values()))
    entries: list[dict[str, Any]] = first.variables["zmq_services"]
    groups = inventory_module.groups_of(hosts)
    if not entries:
        yield "zmq_services", "is empty; a fleet needs at least one service"
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        at = f"zmq_services[{index}]"
        name = entry["name"]
        if name in _RESERVED:
            yield f"{at}.name", f"{name!r} is taken by the system"
        if name in names:
            other = f"{name!r} is used already by zmq_services[{names[name]}]"
            yield (
                f"{at}.name",
                f"{other}; names are unique: a second instance on a host is a service of its own",
            )
        names.setdefault(name, index)
        if entry["hosts"] not in groups:
            yield (
                f"{at}.hosts",
                f"unknown or empty group {entry['hosts']!r}; {nearest(entry['hosts'], groups)}",
            )
        yield from _source(entry, at, project)
        if entry.get("build"):
            builders = first.variables["zmq_build_hosts"]
            if builders not in groups:
                yield (
                    "zmq_build_hosts",
                    f"unknown or empty group {builders!r}, but {name!r} is built; {nearest(builders, groups)}",
                )
        yield from _instances(hosts, index, groups, project)
        for place, one in enumerate(entry.get("egress", [])):
            try:
                ipaddress.ip_network(one)
            except ValueError as error:
                yield f"{at}.egress[{place}]", f"{shown(one)} is no IP address or network: {error}"
        yield from _endpoints(entry, at, groups)
    yield from _second_builder(hosts, groups, any(entry.get("build") for entry in entries))
    yield from _ports(entries, hosts, groups)
    yield from _connects(entries, groups)


def _second_builder(
    hosts: dict[str, Host], groups: Mapping[str, list[str]], is_built: bool
) -> Iterator[Problem]:
    """Whether there is one where one is asked for, and whether it can make the same as the first."""
    variables = next(iter(hosts.values())).variables
    group, builders = variables["zmq_build_verify"], groups.get(variables["zmq_build_hosts"])
    if not group or not is_built or not builders:
        return
    if group not in groups:
        yield "zmq_build_verify", f"unknown or empty group {group!r}; {nearest(group, groups)}"
    elif not (others := [host for host in groups[group] if host != builders[0]]):
        yield (
            "zmq_build_verify",
            f"group {group!r} has no host beside {builders[0]}, which builds: two are needed",
        )
    else:
        for name in sorted(BUILD_VARIABLES):
            if hosts[builders[0]].variables[name] != hosts[others[0]].variables[name]:
                yield name, f"differs between {builders[0]} and {others[0]}, which are to build the same"


_BINDINGS = {"goczmq": "github.com/zeromq/goczmq", "zmq4": "github.com/pebbe/zmq4"}


def _module(directory: Path, text: bytes, at: str) -> Iterator[Problem]:
    """What a module, whose go.mod holds this text, needs that its build would miss."""
    sums = ("go.sum", "vendor/modules.txt")
    if re.search(rb"^\s*require\b", text, re.MULTILINE) and not any(
        (directory / one).is_file() for one in sums
    ):
        yield at, f"{directory.name}/go.mod requires modules, but there is no go.sum: run `go mod tidy` there"
    for other in replacements(text):
        if not (directory / other).resolve().is_relative_to(directory.resolve()):
            why = "which is not below it, and does not go to the build host"
            yield at, f"its go.mod replaces a module by {shown(other)}, {why}"
        elif not (directory / other / "go.mod").is_file():
            yield at, f"its go.mod replaces a module by {shown(other)}, where there is no go.mod"


def _source(entry: dict[str, Any], at: str, project: Path) -> Iterator[Problem]:
    build, artifact = entry.get("build"), entry.get("artifact")
    if build and artifact:
        yield at, "has both build and artifact; keep one"
    elif build:
        directory = project / build["source"]
        if not (directory / "go.mod").is_file():
            yield (
                f"{at}.build.source",
                f"{build['source']!r} is no Go module: there is no {build['source']}/go.mod",
            )
            return
        go_mod = (directory / "go.mod").read_bytes()
        yield from _module(directory, go_mod, f"{at}.build.source")
        yield from _package(build, f"{at}.build.package", project)
        if (module := _BINDINGS.get(build.get("binding", ""))) and module.encode() not in go_mod:
            yield (
                f"{at}.build.binding",
                f"is {build['binding']}, but {build['source']}/go.mod does not require {module}",
            )
    elif artifact:
        if ("path" in artifact) == ("url" in artifact):
            yield f"{at}.artifact", "needs one of path and url"
        elif "url" in artifact:
            return
        elif not (project / artifact["path"]).is_file():
            yield f"{at}.artifact.path", f"{artifact['path']!r}: no such file in the project"
        elif (digest := _sha256(project / artifact["path"])) != artifact["sha256"]:
            yield (
                f"{at}.artifact.sha256",
                f"{artifact['path']!r} has {digest}: not the artefact that was meant",
            )
    else:
        yield at, "has neither build nor artifact; give one"


def _package(build: dict[str, Any], at: str, project: Path) -> Iterator[Problem]:
    package, source = build.get("package", "."), project / build["source"]
    # only what lies in the source goes to the build host, so no link may lead elsewhere
    if (source / package).resolve() != source.resolve() / package or not _is_program(source / package):
        found = {path.parent for path in source.rglob("*.go") if _is_program(path.parent)}
        programs = [f"./{path.relative_to(source)}".removesuffix("/.") for path in found]
        where = f"{build['source']} has no directory {package!r} with a .go file of package main"
        yield at, f"{where}; {nearest(package, programs)}"


def _is_program(directory: Path) -> bool:
    clauses = [re.search(r"^package\s+(\w+)", path.read_text(errors="replace"), re.MULTILINE)
               for path in directory.glob("*.go") if path.is_file() and not path.name.endswith("_test.go")]  # fmt: skip
    return any(clause and clause[1] == "main" for clause in clauses)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _instances(
    hosts: dict[str, Host], index: int, groups: Mapping[str, list[str]], project: Path
) -> Iterator[Problem]:
    """What is wrong with a service on hosts that run it; the first one is named, if they are not all alike."""
    at = f"zmq_services[{index}]"
    group = next(iter(hosts.values())).variables["zmq_services"][index]["hosts"]
    # hosts with equal values share one object
    distinct: dict[int, tuple[str, dict[str, Any]]] = {}
    for host in groups.get(group, []):
        entry = hosts[host].variables["zmq_services"][index]
        distinct.setdefault(id(entry), (host, entry))
    told: set[Problem] = set()
    for host, entry in distinct.values():
        for key, message in (
            *_environment(entry, at),
            *_limits(entry, at),
            *_files(entry, at, project),
            *_unit(entry, at),
        ):
            if (key, message) not in told:
                yield key, message if len(distinct) == 1 else f"{message}, for {host}"
            told.add((key, message))


def _limits(entry: dict[str, Any], at: str) -> Iterator[Problem]:
    limits = instance_from(entry).limits
    if limits["max_sockets"] > limits["nofile"]:
        yield (
            f"{at}.limits.max_sockets",
            f"{limits['max_sockets']} is above nofile, {limits['nofile']}: each socket takes a descriptor",
        )


def _files(entry: dict[str, Any], at: str, project: Path) -> Iterator[Problem]:
    for name, path in entry.get("files", {}).items():
        if (project / path).is_dir():
            yield f"{at}.files.{name}", f"{path!r} is a directory: name each of its files"
        elif not (project / path).is_file():
            yield f"{at}.files.{name}", f"{path!r}: no such file in the project"
        elif not path.endswith(TEMPLATE) and (project / path).read_bytes().startswith(b"$ANSIBLE_VAULT"):
            yield (
                f"{at}.files.{name}",
                f"{path!r} is vaulted, and would be placed as it is: put the secret in credentials",
            )


# What other keys of zmq_services say, or what would undo what a service is protected by.
_NOT_IN_UNIT = {
    "AppArmorProfile": "say it in mac",
    "BindPaths": "root would see other files than the host's: say ReadWritePaths",
    "BindReadOnlyPaths": "root would see other files than the host's: say ReadOnlyPaths",
    "CacheDirectory": "say it in state",
    "ConfigurationDirectory": "say it in files",
    "Conflicts": "it would stop other units",
    "DynamicUser": "the user is the service's own",
    "Environment": "say it in env",
    "EnvironmentFile": "say it in env",
    "ExecStart": "say it in build or artifact, and args",
    "ExtensionDirectories": "root would see other files than the host's",
    "ExtensionImages": "root would see other files than the host's",
    "FailureAction": "it would stop the host",
    "Group": "the group is the service's own",
    "IPAddressAllow": "say it in connects or egress",
    "IPAddressDeny": "say it in connects or egress",
    "JobTimeoutAction": "it would stop the host",
    "LimitNOFILE": "say it in limits.nofile",
    "ImportCredential": "say it in credentials",
    "LoadCredential": "say it in credentials",
    "LoadCredentialEncrypted": "say it in credentials",
    "LogsDirectory": "say it in state",
    "MemoryLimit": "say it in limits.memory",
    "MemoryMax": "say it in limits.memory",
    "MountImages": "root would see other files than the host's",
    "OpenFile": "root would open it: say it in files",
    "PAMName": "the user is the service's own",
    "PermissionsStartOnly": "no command of a unit is run by root",
    "RootDirectory": "root would see other files than the host's",
    "RootImage": "root would see other files than the host's",
    "RuntimeDirectory": "say it in state",
    "SetCredential": "say it in credentials",
    "SetCredentialEncrypted": "say it in credentials",
    "StandardError": "root would open it: write to standard error, for the journal",
    "StandardInput": "root would open it: say it in files",
    "StandardOutput": "root would open it: write to standard output, for the journal",
    "StartLimitAction": "it would stop the host",
    "StateDirectory": "say it in state",
    "SuccessAction": "it would stop the host",
    "SupplementaryGroups": "the group is the service's own",
    "TasksMax": "say it in limits.tasks",
    "TimeoutSec": "say it in start_timeout, and TimeoutStopSec",
    "TimeoutStartSec": "say it in start_timeout",
    "Type": "say it in type",
    "User": "the user is the service's own",
}


# One command, whose program systemd takes as it is written, without the prefixes that have root run it: see "Command
# lines" in systemd.service(5).
_COMMAND = re.compile(r"""[@:|-]*/[^\s"'\\;]*(\s+(?!;(\s|$)).*)?""")
_LATER_COMMAND = re.compile(r"(^|\s);(\s|$)")


def _unit(entry: dict[str, Any], at: str) -> Iterator[Problem]:
    for section, directives in entry.get("unit", {}).items():
        for directive, value in directives.items():
            if why := _NOT_IN_UNIT.get(directive):
                yield f"{at}.unit.{section}.{directive}", f"is not said here: {why}"
            elif directive in COMMANDS and (
                not _COMMAND.fullmatch(str(value)) or _LATER_COMMAND.search(str(value))
            ):
                yield (
                    f"{at}.unit.{section}.{directive}",
                    "must be one command that the service's user runs: a path (no quotes, '+' or '!') and arguments",
                )


def _environment(entry: dict[str, Any], at: str) -> Iterator[Problem]:
    env = entry.get("env", {})
    for key in env:
        if key.startswith("ZMQFLEET_"):
            yield f"{at}.env.{key}", "names that begin with ZMQFLEET_ are set by zmqfleet"
        elif key == "ZSYS_MAX_SOCKETS":
            yield f"{at}.env.{key}", "is set by limits.max_sockets"
        elif key in _SET_BY_SYSTEMD:
            yield f"{at}.env.{key}", "is set by systemd"
        elif _UNSAFE_ENV.fullmatch(key) and key not in entry.get("unsafe_env", []):
            yield (
                f"{at}.env.{key}",
                f"changes which code the service runs or whom it talks to: name it in {at}.unsafe_env if that is meant",
            )
    for index, key in enumerate(entry.get("requires_env", [])):
        if str(env.get(key, "")) == "":
            others = set(env) - {key}
            hint = f" ({nearest(key, others)})" if others else ""
            yield f"{at}.requires_env[{index}]", f"{key!r} has no value: set it in {at}.env{hint}"


def _endpoints(entry: dict[str, Any], at: str, groups: dict[str, list[str]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, endpoint in enumerate(entry.get("endpoints", [])):
        here = f"{at}.endpoints[{index}]"
        name = endpoint["name"]
        if name in seen:
            yield f"{here}.name", f"{name!r} is used twice in this service"
        seen.add(name)
        port = endpoint["port"]
        if not 1 <= port <= 65535:
            yield f"{here}.port", f"{port} is no TCP port (1024 to 65535)"
        elif port < 1024:
            yield (
                f"{here}.port",
                f"{port} is a privileged port, and services run without privileges: take 1024 to 65535",
            )
        for place, group in enumerate(endpoint["allow"]):
            if group not in groups:
                yield f"{here}.allow[{place}]", f"unknown or empty group {group!r}; {nearest(group, groups)}"
        if endpoint["security"] == "curve" and not endpoint["allow"]:
            yield f"{here}.allow", "is empty: with curve nobody could connect; name the groups that may"
        bind = endpoint.get("bind", "*")
        if bind != "*":
            try:
                address = ipaddress.ip_address(bind)
            except ValueError:
                yield f"{here}.bind", f"{shown(bind)} is neither '*' nor an IP address"
                continue
            is_mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
            if "%" in bind or is_mapped or address.is_multicast or address == _BROADCAST:
                yield f"{here}.bind", f"{shown(bind)} is no address at which peers reach one host"
            elif bind.lower() != str(address):
                # what is said in another way is not known for the same
                yield f"{here}.bind", f"write {shown(bind)} as {str(address)!r}"


def _ports(
    entries: list[dict[str, Any]], hosts: dict[str, Host], groups: dict[str, list[str]]
) -> Iterator[Problem]:
    taken: dict[tuple[str, int], str] = {(host.name, host.ssh_port): "sshd" for host in hosts.values()}
    for index, entry in enumerate(entries):
        for place, endpoint in enumerate(entry.get("endpoints", [])):
            for host in groups.get(entry["hosts"], []):
                other = taken.setdefault((host, endpoint["port"]), f"{entry['name']}.{endpoint['name']}")
                if other != f"{entry['name']}.{endpoint['name']}":
                    at = f"zmq_services[{index}].endpoints[{place}].port"
                    yield at, f"{endpoint['port']} is taken on {host} by {other}"
                    break


def _connects(entries: list[dict[str, Any]], groups: dict[str, list[str]]) -> Iterator[Problem]:
    known = {f"{e['name']}.{p['name']}": p for e in entries for p in e.get("endpoints", [])}
    for index, entry in enumerate(entries):
        for place, target in enumerate(entry.get("connects", [])):
            at = f"zmq_services[{index}].connects[{place}]"
            if target not in known:
                yield at, f"unknown endpoint {target!r}; {nearest(target, known)}"
                continue
            if is_loopback(known[target].get("bind", "*")):
                server = next(e for e in entries if e["name"] == target.partition(".")[0])
                if server["name"] == entry["name"]:
                    yield (
                        at,
                        f"{target} is its own and binds to loopback: there is no other instance to connect to",
                    )
                    continue
                serves = groups.get(server["hosts"], [])
                apart = [host for host in groups.get(entry["hosts"], []) if host not in serves]
                if apart:
                    yield (
                        at,
                        f"{target} binds to loopback, and {apart[0]} runs no {server['name']} to connect to",
                    )
                    continue
            may = {host for group in known[target]["allow"] for host in groups.get(group, [])}
            for host in groups.get(entry["hosts"], []):
                if host not in may:
                    yield at, f"{host} may not connect to {target}: its allow names {known[target]['allow']}"
                    break
