"""Both engines give the same hosts, and each has nothing to do after the other."""

import re
from typing import Any

import pytest
from exceptions import is_exception
from twin import Twin

Twins = tuple[Twin, Twin]
HOSTS = ("builder1", "broker1", "gateway1", "stranger1", "broker2")

# a host, what is done to it, what Ansible has to do then, what pyinfra has
DRIFT = [
    (
        "broker1",
        "echo x >>/etc/zmqfleet/quotes/environment",
        ["zmq_service : Place environments", "zmq_service : Enable and start, or restart after a change"],
        [
            "zmq_service | Place release, configuration and unit",
            "zmq_service | Enable and start, or restart after a change",
        ],
    ),
    (
        "broker2",
        "touch /etc/zmqfleet/quotes/clients/old.key",
        ["zmq_service : Prune: quotes"],
        ["zmq_service | Prune the allow-list"],
    ),
    (
        "stranger1",
        "echo '# x' >>/etc/zmqfleet/firewall.nft",
        ["firewall : Place the ruleset"],
        ["firewall | Place the ruleset and its unit"],
    ),
    (
        "gateway1",
        "nft flush chain inet zmqfleet input",
        ["firewall : Show that the ruleset would be loaded"],
        ["firewall | Load the ruleset"],
    ),
    (
        "gateway1",
        "systemctl stop quotes-client",
        ["zmq_service : Enable and start, or restart after a change"],
        ["zmq_service | Enable and start, or restart after a change"],
    ),
    (
        "builder1",
        "userdel zmq-build",
        ["zmq_build : Create the building user"],
        ["zmq_build | Create the building user", "zmq_build | Make directories"],
    ),
]


def _differences(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{kind} {name}: pyinfra {one[kind].get(name)!r}, ansible {other[kind].get(name)!r}"
        for kind in one
        for name in sorted(one[kind].keys() | other[kind].keys())
        if one[kind].get(name) != other[kind].get(name) and not is_exception(f"{kind} {name}")
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_twins_are_equal(twins: Twins, host: str) -> None:
    one, other = (twin.snapshot(host) for twin in twins)
    assert all(f"/etc/zmqfleet/{name}" in one["file"] for name in ("firewall.nft", "probe/curve.key_secret"))
    differences = _differences(one, other)
    assert not differences, f"{host}:\n" + "\n".join(differences)


def test_go_has_one_environment_everywhere(twins: Twins) -> None:
    for twin in twins:
        found = twin.snapshot("builder1")["go env"]
        assert "/usr/local/lib/go/" in found["login shell"]
        assert set(found.values()) == {found["login shell"]}, found


def test_hosts_are_all_compared(twins: Twins) -> None:
    assert all(sorted(twin.fleet.hosts) == sorted(HOSTS) for twin in twins)


def test_pyinfra_changes_nothing_after_ansible(twins: Twins) -> None:
    assert _pyinfra_changes(twins[1].converge("pyinfra")) == set()


def test_ansible_changes_nothing_after_pyinfra(twins: Twins) -> None:
    output = twins[0].converge("ansible")
    recap = dict(re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.MULTILINE))
    assert recap == dict.fromkeys((*HOSTS, "localhost"), "0")


def test_forecasts_agree_on_what_has_drifted(twins: Twins) -> None:
    """`--check` and `--dry` name the same, and nothing else; then the one mends it, and the other sees that."""
    twin = twins[1]
    for host, damage, *_ in DRIFT:
        twin.run(host, damage)
    ansible = _ansible_changes(twin.converge("ansible", "--check"))
    pyinfra = _pyinfra_forecast(twin.converge("pyinfra", "--dry"))
    assert ansible == {(task, host) for host, _, tasks, _ in DRIFT for task in tasks}
    assert pyinfra == {(operation, host) for host, *_, operations in DRIFT for operation in operations}
    twin.converge("ansible")
    assert _pyinfra_changes(twin.converge("pyinfra")) == set()


def _ansible_changes(output: str) -> set[tuple[str, str]]:
    """The tasks that had, or would have, something to do, and on which host."""
    found, task = set(), ""
    for line in output.splitlines():
        if heading := re.match(r"TASK \[(.*)\] \**$", line):
            task = heading[1]
        elif changed := re.match(r"changed: \[([^]]+)\]", line):
            found.add((task, changed[1]))
    return found


def _pyinfra_changes(output: str) -> set[str]:
    """The operations that had, or would have, something to do on some host."""
    rows = re.findall(r"^ {4}(\S.*?) {2,}(\d+) +(\S+) +(\S+) +(\S+)", output, re.MULTILINE)
    assert rows, f"pyinfra's table is not as expected:\n{output[-2000:]}"
    return {name for name, hosts, *_, unchanged in rows if unchanged != hosts}


def _pyinfra_forecast(output: str) -> set[tuple[str, str]]:
    """The operations of which `--dry` says that they have, or may have, something to do, and on which host."""
    rows = re.findall(r"^ {4}(\S+ \| .*?|\S+: .*?) {2,}(\S.*?) {2,}(\S.*?) *$", output, re.MULTILINE)
    assert rows, f"pyinfra's table is not as expected:\n{output[-2000:]}"
    return {
        (name, host)
        for name, *columns in rows
        for column in columns
        for hosts in re.findall(r"\((.*)\)", column)
        for host in hosts.split(", ")
    }
