"""An nftables table of the fleet's own: each endpoint's port for its allowed peers; others' tables stay as they are."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zmqfleet.capabilities.part import CONFIGURE, INSTALL, Part, script
from zmqfleet.fleet.addresses import addresses
from zmqfleet.fleet.model import ETC, LIB, Fleet
from zmqfleet.render import render
from zmqfleet.resources import Directory, File, Inline, Package, Rule, Table, Unit

UNIT = "zmqfleet-firewall.service"
RULESET = f"{ETC}/firewall.nft"
TABLE = "inet zmqfleet"
# nftables.service flushes the whole ruleset; with this it loads ours behind its own
_DROP_IN = "/etc/systemd/system/nftables.service.d"


def parts(fleet: Fleet, host: str, leaving: Sequence[Rule]) -> Iterator[Part]:
    """The table, and the unit that loads it at the next boot; on every host of a fleet with services."""
    if not fleet.services:
        return
    start = script("fleet", "unit-start")
    yield Part("firewall", INSTALL, (Package("nftables"), Directory(ETC), Directory(LIB), start))
    declared = rules(fleet, host)
    wanted = ruleset([*(_narrowed(rule, leaving) for rule in declared), *_kept(declared, leaving)])
    ruleset_file = _file(RULESET, "firewall.nft.j2", {"_firewall_ruleset": wanted})
    unit_file = _file(f"/etc/systemd/system/{UNIT}", f"{UNIT}.j2")
    drop_in = _file(f"{_DROP_IN}/zmqfleet.conf", "nftables.service.conf.j2")
    unit = Unit(UNIT, start=(start.path, UNIT), restarted_by=(unit_file.path, drop_in.path))
    table = Table(TABLE, wanted, RULESET)
    # the table first: what comes after it is for the next boot
    resources = (*declared, ruleset_file, table, unit_file, Directory(_DROP_IN, shared=True), drop_in, unit)
    yield Part("firewall", CONFIGURE, resources)


def _file(path: str, template: str, variables: Mapping[str, Any] | None = None) -> File:
    return File(path, Inline.text(render("firewall", template, variables or {})))


def rules(fleet: Fleet, host: str) -> list[Rule]:
    """For each endpoint of a host its port and the addresses of the peers that may reach it."""
    found = []
    for service in fleet.services_of(host):
        for endpoint in service.endpoints:
            peers = [] if endpoint.loopback else fleet.allowed(service, endpoint, host)
            reachable = {address for peer in peers for address in addresses(fleet.hosts[peer])}
            found.append(Rule(f"{service.name}.{endpoint.name}", endpoint.port, tuple(sorted(reachable))))
    return sorted(found, key=lambda rule: rule.port)


def _narrowed(rule: Rule, leaving: Sequence[Rule]) -> Rule:
    """A port that was another's is open to nobody whom that one did not allow, as long as its process may listen."""
    before = [set(other.peers) for other in leaving if other.port == rule.port]
    return Rule(rule.endpoint, rule.port, tuple(sorted(set(rule.peers).intersection(*before))))


def _kept(declared: Sequence[Rule], leaving: Sequence[Rule]) -> list[Rule]:
    """Ports that a process may still listen on stay open to those alone whom each of their rules allowed, unless the
    port is another's now."""
    ports = {rule.port for rule in leaving} - {rule.port for rule in declared}
    by_port = {port: [set(rule.peers) for rule in leaving if rule.port == port] for port in sorted(ports)}
    return [Rule("leaving", port, tuple(sorted(set.intersection(*peers)))) for port, peers in by_port.items()]


def ruleset(found: Sequence[Rule]) -> str:
    """The table of these rules, in the words in which `nft --stateless list table` prints it."""
    data = [{"port": rule.port, "sets": list(_sets(rule))} for rule in found]
    return render("firewall", "ruleset.j2", {"_firewall_rules": data})


def _sets(rule: Rule) -> Iterator[dict[str, Any]]:
    every = [ipaddress.ip_address(peer) for peer in rule.peers]
    for version, family, kind in ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")):
        members = sorted((one for one in every if one.version == version), key=int)
        if members:
            name = f"{rule.endpoint.replace('.', '_')}_v{version}"
            if rule.endpoint == "leaving":
                name = f"leaving_{rule.port}_v{version}"
            yield {"name": name, "type": kind, "family": family, "addresses": [str(one) for one in members]}
