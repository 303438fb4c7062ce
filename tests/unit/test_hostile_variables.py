"""What a variable holds is text: it is refused in words, or it is compiled to commands in which it can do nothing."""

import copy
import functools
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import team_project
from hypothesis import given
from hypothesis import strategies as st
from team_project import CLIENT, GROUPS, HOSTS, SERVICE, Project

from zmqfleet import desired, inventory
from zmqfleet.fleet import Fleet
from zmqfleet.fleet.grammar import grammars
from zmqfleet.fleet.schema import options
from zmqfleet.inventory import Host
from zmqfleet.resources import Actual

Variables = dict[str, Any]
Set = Callable[[Variables], object]

_defaults = functools.cache(inventory.defaults)


def plain() -> dict[str, Variables]:
    """The variables of each host of a fleet that is as it should be."""
    shared = {**copy.deepcopy(_defaults()), "zmq_services": copy.deepcopy([SERVICE, CLIENT])}
    hosts = {name: address for members in HOSTS.values() for name, address in members.items()}
    return {name: {**shared, "ansible_host": address} for name, address in hosts.items()}


def compiled(root: Path, variables: dict[str, Variables], groups: dict[str, list[str]]) -> Fleet | list[str]:
    """The fleet, or what is wrong with it."""
    hosts = {
        name: Host(name, str(own.get("ansible_host", name)), tuple(groups[name]), {**_defaults(), **own})
        for name, own in variables.items()
    }
    return team_project.compiled(root, hosts)


def groups() -> dict[str, list[str]]:
    return {name: ["all", *of] for name, of in GROUPS.items()}


def of_service(**values: object) -> Set:
    return lambda variables: variables["zmq_services"][0].update(values)


def of_endpoint(**values: object) -> Set:
    return lambda variables: variables["zmq_services"][0]["endpoints"][0].update(values)


def of_host(**values: object) -> Set:
    return lambda variables: variables.update(values)


COMMAND = "$(touch /root/x)"

REFUSED: dict[str, tuple[Set, str, str]] = {
    # name: (what is set, the key that must be named, what the line must hold)
    "a command as a package": (
        of_host(zeromq_packages=[COMMAND]),
        "zeromq_packages[0]",
        "'$(touch /root/x)' is no name of a Debian package",
    ),
    "an option as a package": (
        of_host(zmq_probe_packages=["--allow-downgrades"]),
        "zmq_probe_packages[0]",
        "no name of a Debian package",
    ),
    "a command as the bootstrap package": (
        of_host(golang_bootstrap_packages={"12": COMMAND}),
        "golang_bootstrap_packages.12",
        "no name of a Debian package",
    ),
    "a command behind a version": (
        of_host(golang_version="1.25.4; touch /root/x #"),
        "golang_version",
        "no exact version of Go's, such as 1.25.4",
    ),
    "a blank in GOPROXY": (
        of_host(golang_proxy="https://user:hunter2@goproxy.example.com | direct"),
        "golang_proxy",
        "what is given is no list of URLs without blanks",
    ),
    "a blank in a password": (
        of_host(
            golang_netrc=[{"machine": "goproxy.example.com", "login": "us", "password": "hunter2 machine x"}]
        ),
        "golang_netrc[0].password",
        "what is given is no password without blanks",
    ),
    "a number as a password": (
        of_host(golang_netrc=[{"machine": "goproxy.example.com", "login": "us", "password": 83}]),
        "golang_netrc[0].password",
        "must be text, not int: put it in quotes",
    ),
    "a line in go.env": (of_host(golang_env={"CC": "gcc\nGOFLAGS=-toolexec=x"}), "golang_env.CC", "one line"),
    "a key of go.env with a sign": (of_host(golang_env={"A=B": "c"}), "golang_env", "no name of a setting"),
    "a group with a sign": (of_service(hosts=COMMAND), "zmq_services[0].hosts", "no name of a group"),
    "an artefact elsewhere": (
        of_service(artifact={"path": "../../etc/shadow", "sha256": "0" * 64}),
        "zmq_services[0].artifact.path",
        "no path inside the project",
    ),
    "an artefact by an absolute path": (
        of_service(artifact={"path": "/etc/shadow", "sha256": "0" * 64}),
        "zmq_services[0].artifact.path",
        "no path inside the project",
    ),
    "sources elsewhere": (
        of_service(build={"source": "src/../../src"}),
        "zmq_services[0].build.source",
        "no path inside the project",
    ),
    "another library in env": (
        of_service(env={"REGION": "eu-1", "LD_PRELOAD": "/tmp/x.so"}),
        "zmq_services[0].env.LD_PRELOAD",
        "name it in zmq_services[0].unsafe_env",
    ),
    "another debug setting in env": (
        of_service(env={"REGION": "eu-1", "GODEBUG": "x=1"}, unsafe_env=["LD_PRELOAD"]),
        "zmq_services[0].env.GODEBUG",
        "name it in zmq_services[0].unsafe_env",
    ),
    **{
        f"{name} in env": (
            of_service(env={"REGION": "eu-1", name: "x"}),
            f"zmq_services[0].env.{name}",
            "name it in zmq_services[0].unsafe_env",
        )
        for name in [
            "LD_LIBRARY_PATH",
            "GCONV_PATH",
            "GLIBC_TUNABLES",
            "HOSTALIASES",
            "LOCALDOMAIN",
            "LOCPATH",
            "NLSPATH",
            "RESOLV_HOST_CONF",
            "RES_OPTIONS",
        ]
    },
    "systemd's socket in env": (
        of_service(env={"REGION": "eu-1", "NOTIFY_SOCKET": "/tmp/x"}),
        "zmq_services[0].env.NOTIFY_SOCKET",
        "is set by systemd",
    ),
    "an escape sequence in env": (
        of_service(env={"REGION": "\x1b]0;x\x07"}),
        "zmq_services[0].env.REGION",
        "one line of printable text",
    ),
    "half a character in env": (
        of_service(env={"REGION": "\ud800"}),
        "zmq_services[0].env.REGION",
        "one line of printable text",
    ),
    "a name of env with a sign": (
        of_service(env={"REGION": "eu-1", "A B": "c"}),
        "zmq_services[0].env",
        "'A B' is no name of an environment variable",
    ),
    "more files than there can be": (
        of_service(limits={"nofile": 10**30}),
        "zmq_services[0].limits.nofile",
        "must be 1 to 1073741816, not 1000000",
    ),
    "more sockets than files": (
        of_service(limits={"nofile": 512, "max_sockets": 1000}),
        "zmq_services[0].limits.max_sockets",
        "1000 is above nofile, 512",
    ),
    "a command as a network": (
        of_service(egress=[COMMAND]),
        "zmq_services[0].egress[0]",
        "no IP address or network such as 10.20.0.0/16",
    ),
    "an address of a network for the network": (
        of_service(egress=["10.20.0.0/16", "10.20.0.1/16"]),
        "zmq_services[0].egress[1]",
        "'10.20.0.1/16' is no IP address or network: 10.20.0.1/16 has host bits set",
    ),
    "no releases kept": (
        of_host(zmq_service_releases_kept=0),
        "zmq_service_releases_kept",
        "must be 1 to 1000",
    ),
    "everybody's address": (of_host(ansible_host="0.0.0.0"), "ansible_host", "0.0.0.0 is nobody's address"),
    "an address of one machine's": (
        of_host(ansible_host="fe80::1%eth0"),
        "ansible_host",
        "this machine alone",
    ),
    "an address that is none": (
        of_host(ansible_host="10.0.0.256"),
        "ansible_host",
        "no IP address and no name",
    ),
    "an option as the address": (
        of_host(ansible_host="-oProxyCommand=touch x"),
        "ansible_host",
        "no IP address and no name",
    ),
    "a label too long": (of_host(ansible_host="a" * 64 + ".example.com"), "ansible_host", "no name in DNS"),
    "a port that is none": (of_host(ansible_port="abc"), "ansible_port", "'abc' for broker1: no TCP port"),
    "become with a doubt": (
        of_host(ansible_become="maybe"),
        "ansible_become",
        "is 'maybe' for broker1: write true or false",
    ),
    "another way to root": (
        of_host(ansible_become_method="su"),
        "ansible_become_method",
        "is 'su' for broker1: there is no way but sudo",
    ),
    "somebody who is not root": (
        of_host(ansible_become_user="admin"),
        "ansible_become_user",
        "is 'admin' for broker1: there is no way but root",
    ),
    "a password for sudo": (
        of_host(ansible_become_password="hidden"),
        "ansible_become_password",
        "is set for broker1, but drift and the probe have no use for it",
    ),
    "a password for ssh": (of_host(ansible_ssh_pass="hidden"), "ansible_ssh_pass", "is set for broker1"),
    "a port too high": (of_host(ansible_port=65536), "ansible_port", "'65536' for broker1: no TCP port"),
    "an option as the user": (of_host(ansible_user="-oProxyCommand=x"), "ansible_user", "no name of a user"),
    "a quote too few for ssh": (
        of_host(ansible_ssh_common_args="-o 'x"),
        "ansible_ssh_common_args",
        "taken apart",
    ),
    "an address of peers that is none": (
        of_host(zmq_address="10.0.0.300"),
        "zmq_address",
        "'10.0.0.300' is no IP address and no name in DNS, for broker1",
    ),
    "an address of peers with a line": (of_host(zmq_address="10.0.0.1\n"), "zmq_address", "must be one line"),
    "an address twice, otherwise written": (
        of_host(ansible_host="2001:DB8:0::1"),
        "ansible_host",
        "gateway1 and broker1 have the same address",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_words(project: Project, name: str) -> None:
    change, key, message = REFUSED[name]
    variables = plain()
    variables["gateway1"]["ansible_host"] = "2001:db8::1"
    change(variables["broker1"])
    problems = compiled(project.root, variables, groups())
    assert isinstance(problems, list)
    line = next(line for line in problems if f": {key}: " in line)
    assert message in line
    assert line.isprintable()
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "name", ["gw$(touch x)", "../../x", "-x", ".x", "a/b", "a b", "x" * 201, "a..b", "\x1b[2J"]
)
def test_a_host_whose_name_is_no_file_name_is_refused(project: Project, name: str) -> None:
    variables, member_of = plain(), groups()
    variables[name], member_of[name] = variables.pop("broker1"), member_of.pop("broker1")
    problems = compiled(project.root, variables, member_of)
    assert isinstance(problems, list)
    assert problems[0].startswith(f"{project.inventory}: inventory: ")
    assert "is no name of a host" in problems[0]


def test_a_group_with_a_name_of_no_file_is_refused(project: Project) -> None:
    member_of = groups()
    member_of["broker1"].append("$(touch x)")
    problems = compiled(project.root, plain(), member_of)
    assert isinstance(problems, list)
    assert "'$(touch x)' is no name of a group" in problems[0]


@pytest.mark.parametrize(
    "change",
    [
        of_service(env={"REGION": COMMAND, "QUOTE": "'\"`\\", "WORDS": "a b"}),
        of_service(env={"REGION": "eu-1", "LD_PRELOAD": "/opt/x.so"}, unsafe_env=["LD_PRELOAD"]),
        of_service(limits={"nofile": 512}),
        of_service(build={"source": "./src", "package": "./cmd/serve"}),
        of_host(golang_proxy="https://user:password@goproxy.example.com/go|direct"),
        of_host(golang_env={"CGO_CFLAGS": "-O2 -g"}),
        of_host(golang_netrc=[{"machine": "goproxy.example.com", "login": "us", "password": "hunter2"}]),
        of_host(golang_version="1.26rc1"),
        of_host(ansible_host="broker-1.example.com"),
        of_host(ansible_port="2222", ansible_user="EXAMPLE\\deploy"),
    ],
)
def test_what_is_in_use_passes(project: Project, change: Set) -> None:
    variables = plain()
    change(variables["broker1"])
    assert isinstance(compiled(project.root, variables, groups()), Fleet)


def test_many_problems_are_told_in_twenty_lines(project: Project) -> None:
    variables = plain()
    variables["broker1"]["zeromq_packages"] = [f"A{number}" for number in range(100)]
    problems = compiled(project.root, variables, groups())
    assert isinstance(problems, list)
    assert len(problems) == 20
    assert problems[-1] == "and 81 more problems; mend these first"


def test_every_text_has_a_grammar_or_choices() -> None:
    """But for what is any text: a service's arguments, its linker's flags, the values of its environment and of go.env,
    checked against all others."""
    free = {"golang_env.=", "zmq_services.args", "zmq_services.build.ldflags", "zmq_services.env.="}

    def texts(path: str, spec: Variables) -> Iterator[str]:
        if spec.get("options"):
            for key, inner in spec["options"].items():
                yield from texts(f"{path}.{key}", inner)
        elif spec["type"] == "dict":
            yield from (f"{path}.*", f"{path}.=")
        elif "choices" not in spec and spec["type"] != "bool":
            yield path

    # checked as ports and addresses are, in words of their own
    elsewhere = {"zmq_services.endpoints.port", "zmq_services.endpoints.bind"}
    declared = {path for name, spec in options().items() for path in texts(name, spec)}
    assert declared - free - elsewhere == set(grammars())


# What is tried in place of any value: a canary is written where it becomes a command, even without a PATH.
TEXTS = [
    "$(: >CANARY)",
    "`: >CANARY`",
    "; : >CANARY #",
    "' ; : >CANARY ; '",
    '" ; : >CANARY ; "',
    "| : >CANARY",
    "\n: >CANARY\n",
    "&& : >CANARY",
    "../../x",
    "/etc/passwd",
    "-rf",
    "--help",
    "%s%n",
    "\x1b[2J",
    "\x00",
    "\ud800",
    "é",
    "a" * 40000,
    "{{ 7 * 7 }}",
    "",
    " ",
    "null",
    "*",
    "quotes",
    "quotes.orders",
    "all",
    "brokers",
    "0.0.0.0",
    "192.0.2.3",
    "::1",
]
scalars = st.one_of(
    st.sampled_from(TEXTS),
    st.text(max_size=20),
    st.integers(),
    st.sampled_from(
        [0, -1, 1, 22, 5555, 5556, 65535, 65536, 10**30, True, False, None, 1.5, math.nan, math.inf]
    ),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(TEXTS), st.text(max_size=5)), inner, max_size=3),
    ),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    found: list[tuple[Any, Any]] = []
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += places(inner)
    return found


@st.composite
def projects(draw: st.DrawFn) -> tuple[dict[str, Variables], dict[str, list[str]]]:
    """Variables and groups of hosts, in a few places other than they should be."""
    variables, member_of = plain(), groups()
    everywhere = draw(st.booleans())  # what describes the fleet is one object of all hosts
    host = variables[draw(st.sampled_from(sorted(variables)))]
    host |= {"ansible_port": 22, "ansible_user": "root", "ansible_ssh_common_args": "-o A=b"}
    for _ in range(draw(st.integers(1, 3))):
        all_places = places(
            host["zmq_services"] if everywhere and isinstance(host.get("zmq_services"), list) else host
        )
        if not all_places:
            break
        container, key = draw(st.sampled_from(all_places))
        kind = draw(st.sampled_from(["set", "set", "set", "drop", "add"]))
        if kind == "set":
            container[key] = draw(junk)
        elif kind == "drop":
            del container[key]
        elif isinstance(container, list):
            container.append(draw(st.one_of(junk, st.just(copy.deepcopy(container[key])))))
        else:
            container[draw(st.one_of(st.sampled_from(TEXTS), st.text(max_size=8)))] = draw(junk)
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from(TEXTS))
        variables[name], member_of[name] = variables.pop("gateway1"), member_of.pop("gateway1")
    if draw(st.integers(0, 9)) == 0:
        member_of["broker1"] = [*member_of["broker1"], draw(st.sampled_from(TEXTS))]
    return variables, member_of


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project; in place of a name server, each name in DNS has an address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.getaddrinfo", lambda *_: [(2, 1, 6, "", ("192.0.2.200", 0))])
        yield Project(tmp_path_factory.mktemp("hostile"))


@given(projects())
def test_any_project_is_refused_or_compiled(
    shared: Project, made: tuple[dict[str, Variables], dict[str, list[str]]]
) -> None:
    variables, member_of = made
    fleet = compiled(shared.root, variables, member_of)
    if isinstance(fleet, list):
        assert 0 < len(fleet) <= 20
        assert all(line.isprintable() and len(line) < 2000 for line in fleet)
        return
    place = shared.root / "nothing"
    place.mkdir(exist_ok=True)
    for host in fleet.hosts:
        look = desired.reading(fleet, host)
        done = subprocess.run(
            ["/bin/sh", "-c", look], cwd=place, env={"PATH": "/nowhere"}, capture_output=True, check=False
        )
        assert b"yntax error" not in done.stderr
        for part in desired.parts(fleet, host):
            for resource in part.resources:
                assert not resource.name.startswith("-")
                assert os.path.normpath(resource.name) == resource.name or not resource.name.startswith("/")
                for command in resource.commands(Actual(), triggered=True):
                    assert all(isinstance(word, str) for word in command)
    assert list(place.iterdir()) == []
