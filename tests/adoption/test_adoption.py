"""A fleet that is not ours, from `zmqfleet init` on: by each engine, and what becomes of it when it changes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from labs import ENGINES
from teams import HIDDEN, SERVICES, Team, restarted
from twins import compared, snapshot

both_engines = pytest.mark.parametrize("engine", ENGINES)


def test_the_first_run_is_enough_and_all_is_proven(adopted: Team) -> None:
    assert adopted.first
    assert {host for host, _ in adopted.first.changes} == set(adopted.fleet.hosts)
    for host in HIDDEN:
        assert adopted.fleet.hosts[host].address.endswith(".inside.example")
    assert adopted.fleet.hosts["builder1"].ssh_port == 2222
    before = adopted.running()
    assert before.keys() == {(service, host) for service, hosts in SERVICES.items() for host in hosts}
    for engine in ENGINES:
        assert adopted.forecast(engine) == adopted.converge(engine) == set()
    assert adopted.drift() == set()
    assert adopted.probe()[0] == 0
    assert adopted.running() == before


def test_the_other_engine_makes_the_same_of_hosts_that_had_left(adopted: Team) -> None:
    hosts = sorted(adopted.fleet.hosts)
    before = {host: snapshot(adopted, host) for host in hosts}
    for host in hosts:
        adopted.run("zmqfleet", "retire", host, "--yes").must_succeed()
        left = adopted.sh(host, "ls -d /etc/zmqfleet /opt/zmqfleet; nft list ruleset", check=False)
        assert left == ""
    assert {host for host, _ in adopted.converge("pyinfra")} == set(hosts)
    assert adopted.converge("ansible") == set()
    for host in hosts:
        assert compared(snapshot(adopted, host), before[host]) == []
    assert adopted.probe()[0] == 0


@both_engines
def test_a_panic_in_the_new_version_leaves_the_old_one_serving(team: Team, engine: str) -> None:
    before = team.running()
    source = team.project / "examples" / "pipeline" / "cmd" / "feeder" / "main.go"
    right = source.read_text()
    source.write_text(right.replace("func main() {\n", f'func main() {{\n\tpanic("not by {engine}")\n'))
    new = team.declare()
    with ThreadPoolExecutor() as pool:
        failed = pool.submit(new.engine, engine)
        while not failed.done():
            served = {
                cell["destination"]
                for cell in team.probe()[1]["cells"]
                if (cell["endpoint"], cell["credentials"]) == ("jobs", "right") and cell["verdict"] == "pass"
            }
            assert served & {"broker1", "broker2"}
    assert failed.result().status == {"pyinfra": 1, "ansible": 2}[engine]
    assert f"panic: not by {engine}" in failed.result().output
    assert "feeder.service: runs as before" in failed.result().output
    assert team.probe()[0] == 0
    after = team.running()
    assert {of: release for of, (release, _) in after.items()} == {
        of: release for of, (release, _) in before.items()
    }
    tried = restarted(before, after)
    assert len(tried) == 1, "one host has tried it, and the other one was not touched"
    assert tried <= {("feeder", "broker1"), ("feeder", "broker2")}
    source.write_text(right)
    team.declare().converge(engine)
    assert team.drift() == set()


@both_engines
def test_a_removed_service_is_gone_and_no_other_is_touched(team: Team, engine: str) -> None:
    before = team.running()
    fewer = team.declare(hub=None, presence=None)
    assert {host for host, _ in fewer.converge(engine)} == {"broker1", "broker2", "builder1", "gateway1"}
    after = fewer.running()
    assert after == {of: one for of, one in before.items() if of[0] not in ("hub", "presence")}
    assert fewer.probe()[0] == 0
    assert fewer.sh("gateway1", "ss -Hltn 'sport = 5573 or sport = 5574'") == ""
