"""Inventories as teams have them: both engines, drift and the probe reach the same hosts by the same ways."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import ENGINES, Lab, command

JUMPS = {
    "-J": "-J admin@{}:22",
    "ProxyCommand": "-o 'ProxyCommand=ssh -F {config} -W %h:%p {}'",
}


NAME = "gateway1.inside.example"


def named(config: Path, address: str, directory: Path) -> Path:
    """ssh's configuration, with the key of the host that has this address known by its name."""
    known = config.with_name("known_hosts")
    more = "".join(
        line.replace(address, NAME, 1)
        for line in known.read_text().splitlines(keepends=True)
        if address in line
    )
    (directory / "known_hosts").write_text(known.read_text() + more)
    found = directory / "ssh_config"
    found.write_text(config.read_text().replace(str(known), str(directory / "known_hosts")))
    return found


@pytest.fixture
def behind(converged: Lab) -> Iterator[Lab]:
    """gateway1 lets in only those who come from broker1, which alone knows its name."""
    bastion, hidden = (converged.fleet.hosts[name].address for name in ("broker1", "gateway1"))
    rule = f"ip saddr != {bastion} tcp dport 22 drop"
    converged.inside(
        "gateway1",
        f"nft 'add table inet behind; add chain inet behind i {{ type filter hook input priority -200; }}; "
        f"add rule inet behind i {rule}'",
    )
    converged.sh("broker1", f"echo {hidden} {NAME} >>/etc/hosts")
    yield converged
    converged.inside("gateway1", "nft delete table inet behind")
    # podman's file, which nothing may take the place of
    converged.sh("broker1", f'others=$(grep -v {NAME} /etc/hosts); echo "$others" >/etc/hosts')


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_host_behind_another_in_an_ini_inventory(behind: Lab, tmp_path: Path, jump: str) -> None:
    hosts = behind.fleet.hosts
    key = hosts["gateway1"].ssh_key
    config = named(Path(hosts["gateway1"].ssh_arguments[1]), hosts["gateway1"].address, tmp_path)
    by = f"-F {config} {jump.format(hosts['broker1'].address, config=config)}"
    lines = [
        "[all:vars]",
        f"ansible_user=admin\nansible_become=yes\nansible_ssh_private_key_file={key}",
        f"ansible_ssh_common_args=-F {config}",
    ]
    for host, group in (("builder1", "builders"), ("broker1", "brokers"), ("gateway1", "gateways")):
        where = f"ansible_host={hosts[host].address}"
        if host == "gateway1":
            where = where.replace("ansible_host", "zmq_address")
            where += f" ansible_host={NAME} ansible_ssh_common_args={shlex.quote(by)}"
        lines += [f"[{group}]", f"{host} {where}"]
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("\n".join([*lines, "[strangers]"]) + "\n")
    # what is open to gateway1 is not used any more
    ssh = str(tmp_path / "ssh")
    about = {"ZMQFLEET_INVENTORY": str(inventory), "ANSIBLE_SSH_CONTROL_PATH_DIR": ssh}
    for engine in ENGINES:
        behind.inside("gateway1", "echo '# by hand' >>/etc/zmqfleet/quotes-client/environment")
        assert behind.run("zmqfleet", "drift", **about).status == 1
        change = ("gateway1", "file /etc/zmqfleet/quotes-client/environment: content")
        assert change in behind.run(*command(engine, inventory), **about).must_succeed().changes
        assert "3 as declared" in behind.run("zmqfleet", "drift", **about).must_succeed().stdout
    behind.run("zmqfleet", "probe", **about).must_succeed()
