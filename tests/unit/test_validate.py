"""Wrong variables are refused before any host is touched: status 2, file, key, nearest right name, no traceback."""

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from team_project import CLIENT, SERVICE, Project

Change = Callable[[dict[str, Any]], object]


def validate(project: Project, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "zmqfleet", "validate", *(arguments or project.arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout + run.stderr


def endpoint(index: int, **values: object) -> Change:
    return lambda service: service["endpoints"][index].update(values)


def drop(key: str) -> Change:
    return lambda service: service.pop(key)


def put(**values: object) -> Change:
    return lambda service: service.update(values)


SERVICE_FAULTS: dict[str, tuple[Change, str, str]] = {
    # name: (change of the first service, key that must be named, what the message must hold)
    "unknown group": (put(hosts="broker"), "zmq_services[0].hosts", "did you mean 'brokers'"),
    "unknown key of a service": (put(endpoint=[]), "zmq_services[0].endpoint", "did you mean 'endpoints'"),
    "unknown key of an endpoint": (
        endpoint(0, prot=1),
        "zmq_services[0].endpoints[0].prot",
        "did you mean 'port'",
    ),
    "unknown key of build": (
        put(build={"source": "src", "bindings": "goczmq"}),
        "zmq_services[0].build.bindings",
        "did you mean 'binding'",
    ),
    "unknown key of limits": (
        put(limits={"nofiles": 1}),
        "zmq_services[0].limits.nofiles",
        "did you mean 'nofile'",
    ),
    "duplicate port": (
        endpoint(1, port=5555),
        "zmq_services[0].endpoints[1].port",
        "taken on broker1 by quotes.orders",
    ),
    "a variable of ours in env": (
        put(env={"REGION": "eu-1", "ZMQFLEET_ENDPOINTS": "/tmp/x"}),
        "zmq_services[0].env.ZMQFLEET_ENDPOINTS",
        "are set by zmqfleet",
    ),
    "a dot in an endpoint's name": (
        endpoint(0, name="a.b"),
        "zmq_services[0].endpoints[0].name",
        "no safe name",
    ),
    "a service named as a file of ours": (put(name="manifest"), "zmq_services[0].name", "manifest"),
    "a service named as the file of passwords": (
        put(name="netrc"),
        "zmq_services[0].name",
        "taken by the system",
    ),
    "duplicate endpoint": (endpoint(1, name="orders"), "zmq_services[0].endpoints[1].name", "used twice"),
    "privileged port": (endpoint(0, port=1023), "zmq_services[0].endpoints[0].port", "privileged port"),
    "port zero": (endpoint(0, port=0), "zmq_services[0].endpoints[0].port", "no TCP port"),
    "port too high": (endpoint(0, port=65536), "zmq_services[0].endpoints[0].port", "no TCP port"),
    "port negative": (endpoint(0, port=-1), "zmq_services[0].endpoints[0].port", "no TCP port"),
    "port as text": (endpoint(0, port="5555"), "zmq_services[0].endpoints[0].port", "whole number"),
    "port as boolean": (endpoint(0, port=True), "zmq_services[0].endpoints[0].port", "whole number"),
    "port as fraction": (endpoint(0, port=5555.5), "zmq_services[0].endpoints[0].port", "whole number"),
    "unknown socket type": (
        endpoint(0, socket="ROUTE"),
        "zmq_services[0].endpoints[0].socket",
        "did you mean 'ROUTER'",
    ),
    "unknown mechanism": (
        endpoint(0, security="curv"),
        "zmq_services[0].endpoints[0].security",
        "did you mean 'curve'",
    ),
    "bare null mechanism": (
        endpoint(0, security=None),
        "zmq_services[0].endpoints[0].security",
        "must be text",
    ),
    "allow names an unknown group": (
        endpoint(0, allow=["gateway"]),
        "zmq_services[0].endpoints[0].allow[0]",
        "did you mean 'gateways'",
    ),
    "a mode of security that YAML takes for nothing": (
        endpoint(0, security=None),
        "zmq_services[0].endpoints[0].security",
        "must be text, not nothing (null): put it in quotes",
    ),
    **{
        f"bound to {bind}": (endpoint(0, bind=bind), "zmq_services[0].endpoints[0].bind", words)
        for bind, words in {
            "::0": "write '::0' as '::'",
            "0:0:0:0:0:0:0:1": "as '::1'",
            "2001:DB8::0:1": "as '2001:db8::1'",
            "::ffff:0.0.0.0": "no address at which peers reach one host",
            "::ffff:127.0.0.1": "no address at which peers reach one host",
            "fe80::1%eth0": "no address at which peers reach one host",
            "224.0.0.1": "no address at which peers reach one host",
            "ff02::1": "no address at which peers reach one host",
            "255.255.255.255": "no address at which peers reach one host",
        }.items()
    },
    "curve with an empty allow": (endpoint(0, allow=[]), "zmq_services[0].endpoints[0].allow", "is empty"),
    "allow as text": (endpoint(0, allow="gateways"), "zmq_services[0].endpoints[0].allow", "must be a list"),
    "negative limit": (put(limits={"nofile": -1}), "zmq_services[0].limits.nofile", "must be 1 to"),
    "hosts missing": (drop("hosts"), "zmq_services[0]", "'hosts' is missing"),
    "unknown type": (put(type="forking"), "zmq_services[0].type", "notify, simple"),
    "no time to start": (put(start_timeout=0), "zmq_services[0].start_timeout", "must be 1 to 300"),
    "more time to start than a step has": (
        put(start_timeout=301),
        "zmq_services[0].start_timeout",
        "1 to 300",
    ),
    "arguments as text": (put(args="--queue jobs"), "zmq_services[0].args", "must be a list"),
    "an argument that is a number": (put(args=["--port", 5555]), "zmq_services[0].args[1]", "must be text"),
    "an argument of two lines": (put(args=["a\nb"]), "zmq_services[0].args[0]", "one line"),
    "state as a path": (put(state="/var/lib/quotes"), "zmq_services[0].state", "must be true or false"),
    "its own loopback endpoint": (
        put(connects=["quotes.health"]),
        "zmq_services[0].connects[0]",
        "there is no other instance to connect to",
    ),
    "neither build nor artifact": (drop("build"), "zmq_services[0]", "neither build nor artifact"),
    "both build and artifact": (
        put(artifact={"path": "x", "sha256": "0" * 64}),
        "zmq_services[0]",
        "both build and artifact",
    ),
    "artifact is not there": (
        lambda s: (s.pop("build"), s.update(artifact={"path": "none", "sha256": "0" * 64})),
        "zmq_services[0].artifact.path",
        "no such file",
    ),
    "artifact's digest is none": (
        lambda s: (s.pop("build"), s.update(artifact={"path": "src/go.mod", "sha256": "abc"})),
        "zmq_services[0].artifact.sha256",
        "64 hexadecimal digits",
    ),
    "artifact is another": (
        lambda s: (s.pop("build"), s.update(artifact={"path": "src/go.mod", "sha256": "0" * 64})),
        "zmq_services[0].artifact.sha256",
        "not the artefact that was meant",
    ),
    "artifact of two sources": (
        lambda s: (s.pop("build"), s.update(artifact={"path": "x", "url": "https://x/", "sha256": "0" * 64})),
        "zmq_services[0].artifact",
        "one of path and url",
    ),
    "artifact of no source": (
        lambda s: (s.pop("build"), s.update(artifact={"sha256": "0" * 64})),
        "zmq_services[0].artifact",
        "one of path and url",
    ),
    "artifact's url is a path": (
        lambda s: (s.pop("build"), s.update(artifact={"url": "/srv/quotes", "sha256": "0" * 64})),
        "zmq_services[0].artifact.url",
        "no http or https URL",
    ),
    "binding is another": (
        put(build={"source": "src", "binding": "zmq4"}),
        "zmq_services[0].build.binding",
        "does not require github.com/pebbe/zmq4",
    ),
    "package outside the source": (
        put(build={"source": "src", "package": "./../src"}),
        "zmq_services[0].build.package",
        "write '.' or a path such as",
    ),
    "package without ./": (
        put(build={"source": "src", "package": "cmd/serve"}),
        "zmq_services[0].build.package",
        "write '.' or a path such as",
    ),
    "package for a shell": (
        put(build={"source": "src", "package": "./$(id)"}),
        "zmq_services[0].build.package",
        "write '.' or a path such as",
    ),
    "package misspelt": (
        put(build={"source": "src", "package": "./cmd/srve"}),
        "zmq_services[0].build.package",
        "did you mean './cmd/serve'?",
    ),
    "package is a library": (
        put(build={"source": "src", "package": "./internal"}),
        "zmq_services[0].build.package",
        "known: ., ./cmd/serve",
    ),
    "package is a link": (
        put(build={"source": "src", "package": "./linked"}),
        "zmq_services[0].build.package",
        "src has no directory './linked' with a .go file of package main; known: ., ./cmd/serve",
    ),
    "source is no module": (put(build={"source": "nowhere"}), "zmq_services[0].build.source", "no Go module"),
    "required environment missing": (drop("env"), "zmq_services[0].requires_env[0]", "'REGION' has no value"),
    "required environment empty": (
        put(env={"REGION": ""}),
        "zmq_services[0].requires_env[0]",
        "has no value",
    ),
    "environment that YAML has changed": (
        put(env={"REGION": "eu", "DEBUG": True}),
        "zmq_services[0].env.DEBUG",
        "must be text or a whole number, not bool True: put it in quotes",
    ),
    "environment that has lost a digit": (
        put(env={"REGION": "eu", "LEVEL": 1.1}),
        "zmq_services[0].env.LEVEL",
        "must be text or a whole number, not float 1.1: put it in quotes",
    ),
    "required environment misspelt": (
        put(env={"REGOIN": "eu"}),
        "zmq_services[0].requires_env[0]",
        "did you mean 'REGOIN'",
    ),
    "environment as a list": (put(env=["REGION"]), "zmq_services[0].env", "must be a mapping"),
    "environment of two lines": (put(env={"REGION": "a\nb"}), "zmq_services[0].env.REGION", "one line"),
    "Jinja of nothing": (put(env={"REGION": "{{ x }}"}), "zmq_services[0].env.REGION", "'x' is undefined"),
    "Jinja without an end": (put(env={"REGION": "{{ x"}), "zmq_services[0].env.REGION", "unexpected end"),
    "file that is not there": (
        put(files={"a.yml": "files/a.yml.j2"}),
        "zmq_services[0].files.a.yml",
        "'files/a.yml.j2': no such file in the project",
    ),
    "directory as a file": (
        put(files={"conf": "group_vars"}),
        "zmq_services[0].files.conf",
        "'group_vars' is a directory: name each of its files",
    ),
    "file outside the project": (
        put(files={"a": "../secret"}),
        "zmq_services[0].files.a",
        "path inside the project",
    ),
    "name of a file is a path": (
        put(files={"../a": "group_vars/all.yml"}),
        "zmq_services[0].files",
        "name of a file",
    ),
    "credential of ours": (
        put(credentials={"curve.key_secret": "x"}),
        "zmq_services[0].credentials",
        "name of a credential",
    ),
    "credential that is a path": (
        put(credentials={"a/b": "x"}),
        "zmq_services[0].credentials",
        "name of a credential",
    ),
    "credential that is empty": (put(credentials={"a": ""}), "zmq_services[0].credentials.a", "no text"),
    "credential with control characters": (
        put(credentials={"a": "x\x1b[2J"}),
        "zmq_services[0].credentials.a",
        "what is given is no text",
    ),
    "user in a unit": (
        put(unit={"Service": {"User": "root"}}),
        "zmq_services[0].unit.Service.User",
        "the user is the service's own",
    ),
    "arguments in a unit": (
        put(unit={"Service": {"ExecStart": "/bin/true"}}),
        "zmq_services[0].unit.Service.ExecStart",
        "say it in build or artifact, and args",
    ),
    "command of root's in a unit": (
        put(unit={"Service": {"ExecStartPre": "+/bin/true"}}),
        "zmq_services[0].unit.Service.ExecStartPre",
        "one command that the service's user runs",
    ),
    "command of root's in a unit, after other signs": (
        put(unit={"Service": {"ExecStopPost": " -@!!/bin/true"}}),
        "zmq_services[0].unit.Service.ExecStopPost",
        "one command that the service's user runs",
    ),
    "command of root's in a unit, in quotes": (
        put(unit={"Service": {"ExecStartPre": '"+/bin/sh" -c id'}}),
        "zmq_services[0].unit.Service.ExecStartPre",
        "one command that the service's user runs",
    ),
    "command of root's in a unit, escaped": (
        put(unit={"Service": {"ExecStartPre": "\\x2b/bin/sh"}}),
        "zmq_services[0].unit.Service.ExecStartPre",
        "one command that the service's user runs",
    ),
    "command of root's in a unit, behind another one": (
        put(unit={"Service": {"ExecStartPre": "/bin/true a ; +/bin/sh"}}),
        "zmq_services[0].unit.Service.ExecStartPre",
        "one command that the service's user runs",
    ),
    "output that root opens": (
        put(unit={"Service": {"StandardOutput": "append:/etc/cron.d/x"}}),
        "zmq_services[0].unit.Service.StandardOutput",
        "root would open it",
    ),
    "files that root would take for its own": (
        put(unit={"Service": {"BindPaths": "/var/lib/zmqfleet-state/quotes/lib:/usr/local/lib/zmqfleet"}}),
        "zmq_services[0].unit.Service.BindPaths",
        "root would see other files than the host's",
    ),
    "another root": (
        put(unit={"Service": {"RootDirectory": "/var/lib/zmqfleet-state/quotes"}}),
        "zmq_services[0].unit.Service.RootDirectory",
        "root would see other files than the host's",
    ),
    "time said twice": (
        put(unit={"Service": {"TimeoutSec": 500}}),
        "zmq_services[0].unit.Service.TimeoutSec",
        "say it in start_timeout",
    ),
    "a unit that stops others": (
        put(unit={"Unit": {"Conflicts": "ssh.service nftables.service"}}),
        "zmq_services[0].unit.Unit.Conflicts",
        "it would stop other units",
    ),
    "a unit that stops its host": (
        put(unit={"Unit": {"FailureAction": "poweroff-force"}}),
        "zmq_services[0].unit.Unit.FailureAction",
        "it would stop the host",
    ),
    "group of another service": (
        put(unit={"Service": {"SupplementaryGroups": "quotes-client"}}),
        "zmq_services[0].unit.Service.SupplementaryGroups",
        "the group is the service's own",
    ),
    "name that a run sweeps away": (
        put(credentials={"tls.new": "x"}),
        "zmq_services[0].credentials",
        "name of a cred",
    ),
    "number as a credential": (
        put(credentials={"pin": 83}),
        "zmq_services[0].credentials.pin",
        "put it in quotes",
    ),
    "guard taken away": (
        put(unit={"Service": {"ExecStartPre": ""}}),
        "zmq_services[0].unit.Service.ExecStartPre",
        "one command that the service's user runs",
    ),
    "directive with a line of its own": (
        put(unit={"Service": {"Nice=5\nUser": "root"}}),
        "zmq_services[0].unit.Service",
        "one line",
    ),
    "directive that goes on in the next line": (
        put(unit={"Service": {"Nice": "5\\"}}),
        "zmq_services[0].unit.Service.Nice",
        "no backslash at its end",
    ),
    "directive that is true": (
        put(unit={"Service": {"PrivateNetwork": True}}),
        "zmq_services[0].unit.Service.PrivateNetwork",
        "put it in quotes",
    ),
    "section of a unit": (
        put(unit={"Install": {"Alias": "sshd.service"}}),
        "zmq_services[0].unit.Install",
        "unknown key 'Install'",
    ),
    "bind is no address": (endpoint(0, bind="eth0"), "zmq_services[0].endpoints[0].bind", "IP address"),
}


@pytest.mark.parametrize("fault", SERVICE_FAULTS)
def test_wrong_service_is_refused(project: Project, fault: str) -> None:
    change, key, message = SERVICE_FAULTS[fault]
    service = copy.deepcopy(SERVICE)
    change(service)
    project.write(zmq_services=[service])
    status, output = validate(project)
    assert status == 2
    line = next(line for line in output.splitlines() if f"{key}: " in line)
    assert str(project.variables) in line
    assert message in line


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 32,
        "../x",
        "a b",
        "-a",
        "Quotes",
        "a\nb",
        "a\n",
        "a;b",
        "a$b",
        "a`b",
        "a{{b}}",
        "a{%b%}",
        "a'b",
        "é",
        "root",
    ],
)
def test_unsafe_name_is_refused(project: Project, name: str) -> None:
    project.write(zmq_services=[{**SERVICE, "name": name}])
    status, output = validate(project)
    assert status == 2
    assert f"{project.variables}: zmq_services[0].name: " in output


def test_duplicate_service_is_refused(project: Project) -> None:
    project.write(zmq_services=[SERVICE, SERVICE])
    status, output = validate(project)
    assert status == 2
    assert (
        "zmq_services[1].name: 'quotes' is used already by zmq_services[0]; names are unique: a second"
        in output
    )


def test_duplicate_port_across_services_is_refused(project: Project) -> None:
    other = {**copy.deepcopy(SERVICE), "name": "other"}
    project.write(zmq_services=[SERVICE, other])
    status, output = validate(project)
    assert status == 2
    assert "zmq_services[1].endpoints[0].port: 5555 is taken on broker1 by quotes.orders" in output


def test_port_of_sshd_is_refused(project: Project) -> None:
    hosts = project.hosts.read_text()
    project.hosts.write_text(
        hosts.replace("ansible_host: 192.0.2.2\n", "ansible_host: 192.0.2.2\n          ansible_port: 5555\n")
    )
    status, output = validate(project)
    assert status == 2
    assert "zmq_services[0].endpoints[0].port: 5555 is taken on broker1 by sshd" in output


def test_connecting_to_an_unknown_endpoint_is_refused(project: Project) -> None:
    project.write(zmq_services=[SERVICE, {**CLIENT, "connects": ["quotes.order"]}])
    status, output = validate(project)
    assert status == 2
    assert (
        "zmq_services[1].connects[0]: unknown endpoint 'quotes.order'; did you mean 'quotes.orders'?"
        in output
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "require example.com/x v1.0.0",
            "src/go.mod requires modules, but there is no go.sum: run `go mod tidy` there",
        ),
        ("replace example.com/x => ../x", "its go.mod replaces a module by '../x', which is not below it"),
        ("replace example.com/x => ./x", "its go.mod replaces a module by './x', where there is no go.mod"),
        ("// require and replace", ""),
    ],
)
def test_a_module_that_could_not_be_built_is_refused(project: Project, line: str, why: str) -> None:
    (project.root / "x").mkdir()
    (project.root / "x" / "go.mod").write_text("module example.com/x\n")
    (project.root / "src" / "go.mod").write_text(f"module example.com/src\n{line}\n")
    status, output = validate(project)
    assert (status, f"zmq_services[0].build.source: {why}" in output) == ((2, True) if why else (0, False))


def test_connecting_without_being_allowed_is_refused(project: Project) -> None:
    project.write(zmq_services=[SERVICE, {**CLIENT, "hosts": "strangers"}])
    status, output = validate(project)
    assert status == 2
    assert "zmq_services[1].connects[0]: stranger1 may not connect to quotes.orders" in output


def test_connecting_to_anothers_loopback_is_refused(project: Project) -> None:
    project.write(zmq_services=[SERVICE, {**CLIENT, "connects": ["quotes.health"]}])
    status, output = validate(project)
    assert status == 2
    assert (
        "zmq_services[1].connects[0]: quotes.health binds to loopback, and gateway1 runs no quotes to connect to"
        in output
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"ansible_host": "192.0.2.2"},
            "ansible_host: gateway1 and broker1 have the same address '192.0.2.2'",
        ),
        (
            {"zmq_address": "192.0.2.2"},
            "zmq_address: gateway1 and broker1 have the same address '192.0.2.2'",
        ),
        (
            {"ansible_host": "192.0.2.2", "zmq_address": "10.0.0.4"},
            "ansible_host: gateway1 and broker1 have the same address '192.0.2.2'",
        ),
        (
            {"zmq_address": "::"},
            "zmq_address: :: is nobody's address, for gateway1",
        ),
        (
            {"zmq_address": "127.0.0.1"},
            "zmq_address: 127.0.0.1 is each host's own, for gateway1: write where others reach it",
        ),
        (
            {
                "ansible_host": "192.0.2.2",
                "zmq_address": "10.0.0.4",
                "ansible_ssh_common_args": "-o Compression=yes",
            },
            "ansible_host: gateway1 and broker1 have the same address '192.0.2.2'",
        ),
        (
            {"ansible_connection": "local"},
            "ansible_connection: is 'local' for gateway1: hosts are reached by ssh",
        ),
        (
            {"ansible_ssh_extra_args": "-J bastion"},
            "ansible_ssh_extra_args: is set for gateway1: drift and the probe read ansible_ssh_common_args, as",
        ),
        (
            {"ansible_ssh_port": 2222},
            "ansible_ssh_port: is set for gateway1: drift and the probe read ansible_port, as Ansible does; write that",
        ),
        (
            {"ansible_ssh_common_args": "-o ProxyJump=bastion --jump"},
            "ansible_ssh_common_args: cannot be taken apart, for gateway1: option --jump not recognized",
        ),
        (
            {"ansible_ssh_common_args": "a" * 3000},
            f"ansible_ssh_common_args: cannot be taken apart, for gateway1: '{'a' * 75} …",
        ),
    ],
)
def test_hosts_that_engines_would_reach_differently_are_refused(
    project: Project, variables: dict[str, str], message: str
) -> None:
    host_vars = project.inventory / "host_vars"
    host_vars.mkdir()
    (host_vars / "gateway1.yml").write_text(yaml.safe_dump(variables))
    status, output = validate(project)
    assert status == 2
    assert message in output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"zmq_service": []}, "zmq_service: unknown variable 'zmq_service'; did you mean 'zmq_services'?"),
        ({"golang_verison": "1.25.4"}, "did you mean 'golang_version'?"),
        ({"golnag_version": "1.25.4"}, "did you mean 'golang_version'?"),
        ({"zmq_services": {"quotes": {}}}, "zmq_services: must be a list"),
        ({"zmq_services": ["quotes"]}, "zmq_services[0]: must be a mapping"),
        ({"golang_version": 1.25}, "golang_version: must be text"),
        ({"zmq_build_hosts": "builder"}, "zmq_build_hosts: unknown or empty group 'builder'"),
        ({"zmq_build_verify": "gateway"}, "zmq_build_verify: unknown or empty group 'gateway'"),
        (
            {"zmq_build_verify": "builders"},
            "zmq_build_verify: group 'builders' has no host beside builder1, which builds: two are needed",
        ),
    ],
)
def test_wrong_variable_is_refused(project: Project, variables: dict[str, object], message: str) -> None:
    project.write(**{"zmq_services": [SERVICE], **variables})
    status, output = validate(project)
    assert status == 2
    assert str(project.variables) in output
    assert message in output


def test_a_second_builder_that_would_make_something_else_is_refused(project: Project) -> None:
    project.write(zmq_services=[SERVICE, CLIENT], zmq_build_verify="gateways")
    assert validate(project)[0] == 0
    (project.inventory / "host_vars").mkdir()
    (project.inventory / "host_vars" / "gateway1.yml").write_text("golang_version: 1.25.3\n")
    status, output = validate(project)
    assert status == 2
    assert "golang_version: differs between builder1 and gateway1, which are to build the same" in output
    project.write(zmq_services=[SERVICE, CLIENT])
    assert validate(project)[0] == 0, "nobody builds there"


def test_a_name_is_no_hint_to_itself(project: Project) -> None:
    project.write(zmq_services=[{**SERVICE, "env": {"REGION": "", "ZONE": "a"}}, CLIENT])
    _, output = validate(project)
    assert "'REGION' has no value: set it in zmq_services[0].env (known: ZONE)\n" in output


def test_missing_services_are_refused(project: Project) -> None:
    project.write(team_name="x")
    status, output = validate(project)
    assert status == 2
    assert f"{project.variables}: zmq_services: is missing" in output


def test_a_teams_own_variables_pass(project: Project) -> None:
    project.write(zmq_services=[SERVICE, CLIENT], team_name="x", go_style="y", users=["a"])
    status, output = validate(project)
    assert (status, output) == (0, "ok: 5 hosts, 2 services, 4 endpoints\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zmq_services: [\n", "not valid YAML"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- zmq_services\n", "holds a list, but a mapping"),
        ("a: {b: 1, c: 2, b: 3}\n", ":1:17: not valid YAML: the key 'b' is there twice"),
    ],
)
def test_broken_file_is_refused(project: Project, text: str, message: str) -> None:
    for path in (project.variables, project.hosts):
        before = path.read_text()
        path.write_text(text)
        status, output = validate(project)
        assert status == 2
        assert str(path) in output
        assert message in output
        path.write_text(before)


def test_missing_inventory_is_refused(project: Project) -> None:
    status, output = validate(
        project, "--project", str(project.root), "--inventory", str(project.root / "nowhere")
    )
    assert status == 2
    assert "no such inventory (there are: production)" in output


def test_inventory_without_hosts_is_refused(project: Project) -> None:
    project.hosts.write_text("all:\n  children:\n    brokers: {}\n")
    status, output = validate(project)
    assert status == 2
    assert "holds no host" in output
