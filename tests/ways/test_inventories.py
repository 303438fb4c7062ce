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


@pytest.fixture
def behind(converged: Lab) -> Iterator[Lab]:
    """gateway1 lets in only those who come from broker1."""
    bastion = converged.fleet.hosts["broker1"].address
    rule = f"ip saddr != {bastion} tcp dport 22 drop"
    converged.inside(
        "gateway1",
        f"nft 'add table inet behind; add chain inet behind i {{ type filter hook input priority -200; }}; "
        f"add rule inet behind i {rule}'",
    )
    yield converged
    converged.inside("gateway1", "nft delete table inet behind")


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_host_behind_another_in_an_ini_inventory(behind: Lab, tmp_path: Path, jump: str) -> None:
    hosts = behind.fleet.hosts
    key = hosts["gateway1"].ssh_key
    config = hosts["gateway1"].ssh_arguments[1]
    by = f"-F {config} {jump.format(hosts['broker1'].address, config=config)}"
    lines = [
        "[all:vars]",
        f"ansible_user=admin\nansible_become=yes\nansible_ssh_private_key_file={key}",
        f"ansible_ssh_common_args=-F {config}",
    ]
    for host, group in (("builder1", "builders"), ("broker1", "brokers"), ("gateway1", "gateways")):
        way = f" ansible_ssh_common_args={shlex.quote(by)}" if host == "gateway1" else ""
        lines += [f"[{group}]", f"{host} ansible_host={hosts[host].address}{way}"]
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
