"""A team's own repository, which `zmqfleet init` began: services of every shape, a vault, an inventory in INI."""

import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from labs import ROOT, Lab, hub, pipeline, run, variables

PASSWORD = "vaulted-5d0e9a41"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIB\n-----END CERTIFICATE-----\n"
TEMPLATE = """\
{% if rack == 'r1' %}
first: true
{% endif %}
peers: {{ groups.brokers | join(',') }}
password: {{ vault_db_password }}
"""
LITERAL = "{{ .Name }} {% not ours %}\n"
# what feeder gets beside its program
GIVEN: dict[str, Any] = {
    "env": {"RACK": "{{ rack | upper }}", "TOKEN": "{{ vault_db_password }}"},
    # one has the name of a file of ours
    "files": {
        "feeder.yml": "files/feeder.yml.j2",
        "names.tmpl": "files/names.tmpl",
        "peers": "files/names.tmpl",
        "rack": "files/rack.j2",
    },
    "credentials": {"db_password": "{{ vault_db_password }}", "ca.pem": CERTIFICATE},
    "unit": {"Service": {"CPUQuota": "150%", "Nice": 5}, "Unit": {"Description": "feeds {{ rack }}"}},
}
SERVICES = {
    "quotes": ("broker1", "broker2"),
    "quotes-client": ("gateway1",),
    "feeder": ("broker1", "broker2"),
    "worker": ("gateway1",),
    "hub": ("gateway1",),
    "presence": ("broker1", "broker2"),
}
Running = dict[tuple[str, str], tuple[str, str]]
FILES = {
    "files/feeder.yml.j2": TEMPLATE,
    "files/names.tmpl": LITERAL,
    "files/rack.j2": "{{ rack }}\n",
    "host_vars/broker1.yml": "rack: r1\n",
    "host_vars/broker2.yml": "rack: r2\n",
}
JUMP, PORT = "broker1", 2222
# who is reached by way of broker1, which alone knows their names
HIDDEN = {
    "gateway1": "-J admin@{jump}:22",
    "stranger1": "-o 'ProxyCommand=ssh -F {config} -W %h:%p {jump}'",
}


class Team(Lab):
    """A lab whose hosts are declared in a repository of its own, in which all commands are run."""

    @property
    def inventory(self) -> Path:
        """The team's, in INI."""
        return self.project / "inventories" / "production"

    @property
    def state(self) -> Path:
        """What the controller keeps for it."""
        return self.project / ".zmqfleet" / "production"

    def declare(self, **changed: dict[str, Any] | None) -> "Team":
        """What the team declares, but for some services: keys that are others, or not set where they are None; one that
        is None is removed."""
        services = [*variables()["zmq_services"], *pipeline(), *hub()]
        services[2].update(GIVEN)
        assert changed.keys() <= {one["name"] for one in services}
        services = [
            {key: value for key, value in {**one, **other}.items() if value is not None}
            for one in services
            if (other := changed.get(one["name"], {})) is not None
        ]
        declared = yaml.safe_dump({**variables(), "zmq_services": services}, sort_keys=False)
        (self.project / "group_vars" / "all.yml").write_text(declared)
        return replace(self)  # without the fleet that it was before

    def restore(self) -> None:
        """What the team wrote beside its variables, whatever tests have made of it."""
        shutil.rmtree(self.project / "examples" / "pipeline", ignore_errors=True)
        shutil.copytree(ROOT / "examples" / "pipeline", self.project / "examples" / "pipeline")
        for name, text in FILES.items():
            (self.project / name).parent.mkdir(exist_ok=True)
            (self.project / name).write_text(text)

    def running(self) -> Running:
        """Which release runs, and which start of it, by service and host, of all that are active."""
        found = {}
        for host in {host for hosts in SERVICES.values() for host in hosts}:
            ask = "; ".join(
                f"systemctl -q is-active {name} && echo {name} "
                f"$(readlink /proc/$(systemctl show -P MainPID {name})/exe) $(systemctl show -P InvocationID {name})"
                for name in SERVICES
            )
            for line in self.sh(host, f"{ask}; true").splitlines():
                service, binary, start = line.split()
                found[service, host] = (Path(binary).parent.name, start)
        return found


def restarted(before: Running, after: Running) -> set[tuple[str, str]]:
    """The services, and their hosts, that do not run as they did before."""
    return {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)}


def settle(lab: Lab, where: Path) -> Team:
    """The repository in a new directory, for the blank hosts of a lab."""
    run("zmqfleet", "init", str(where)).must_succeed()
    (where / "ansible_collections").symlink_to(ROOT / "ansible_collections")
    team = Team(lab.name, where, where)
    team.restore()
    password = where.with_name("password")
    password.write_text("open sesame\n")
    config = where / "ansible.cfg"
    config.write_text(
        config.read_text().replace("[defaults]\n", f"[defaults]\nvault_password_file = {password}\n")
    )
    vault = where / "group_vars" / "brokers.yml"
    vault.write_text(f"vault_db_password: {PASSWORD}\n")
    subprocess.run(["ansible-vault", "encrypt", vault], cwd=where, check=True, capture_output=True)
    shutil.rmtree(where / "inventories" / "production")
    (where / "inventories" / "production").mkdir()
    (where / "inventories" / "production" / "hosts.ini").write_text(_hosts(lab, where.parent))
    _hide(lab)
    return team.declare()


def _hosts(lab: Lab, directory: Path) -> str:
    """The inventory's text; ssh's configuration for it is written to a directory."""
    hosts = lab.fleet.hosts
    given = Path(hosts[JUMP].ssh_arguments[1])
    known = given.with_name("known_hosts").read_text()
    for host, one in hosts.items():
        seen = _name(host, one.address) if host in HIDDEN else f"[{one.address}]:{PORT}"
        lines = [line for line in known.splitlines() if line.startswith(one.address + " ")]
        assert lines, f"{host} is not known:\n{known}"
        known += "".join(line.replace(one.address, seen, 1) + "\n" for line in lines)
    (directory / "known_hosts").write_text(known)
    config = directory / "ssh_config"
    config.write_text(
        given.read_text().replace(str(given.with_name("known_hosts")), str(directory / "known_hosts"))
    )
    text = [
        "[all:vars]",
        "ansible_user=admin",
        "ansible_become=yes",
        f"ansible_ssh_private_key_file={hosts[JUMP].ssh_key}",
        f"ansible_ssh_common_args=-F {config}",
    ]
    for group, members in lab.fleet.groups.items():
        if group in ("all", "ungrouped"):
            continue
        text.append(f"[{group}]")
        for host in members:
            address = hosts[host].address
            if host in HIDDEN:
                by = f"-F {config} {HIDDEN[host].format(jump=hosts[JUMP].address, config=config)}"
                common = shlex.quote(by)
                text.append(
                    f"{host} ansible_host={_name(host, address)} zmq_address={address} ansible_ssh_common_args={common}"
                )
            else:
                port = f" ansible_port={PORT}" if host == "builder1" else ""
                text.append(f"{host} ansible_host={address}{port}")
    return "\n".join(text) + "\n"


def _hide(lab: Lab) -> None:
    """Has hidden hosts let in only those who come from the jump host, and builder1's sshd listen at another port."""
    hosts = lab.fleet.hosts
    sshd = {**dict.fromkeys(HIDDEN, f"AllowUsers admin@{hosts[JUMP].address}"), "builder1": f"Port {PORT}"}
    for host in HIDDEN:
        lab.sh(JUMP, f"echo {hosts[host].address} {_name(host, hosts[host].address)} >>/etc/hosts")
    for host, line in sshd.items():
        lab.inside(host, f"echo {line} >/etc/ssh/sshd_config.d/team.conf && systemctl restart ssh")


def _name(host: str, address: str) -> str:
    """One that no other lab has: Ansible keeps connections by host, port and user, whatever lies between."""
    return f"{host}.net{address.split('.')[2]}.inside.example"
