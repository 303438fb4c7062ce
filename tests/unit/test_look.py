"""What is to do on a host follows from what was read of it."""

import subprocess
from dataclasses import replace

import pytest
from team_project import Project

from zmqfleet import fleet
from zmqfleet.fleet.look import Found, command, declared, parse, todo
from zmqfleet.fleet.view import Directory, File, Link, Resources, User

PART = Resources(
    packages=["libzmq5"],
    users=[User("quotes", "/opt/quotes")],
    directories=[Directory("/etc/q"), Directory("/etc/q/clients", exact=True)],
    files=[File("/etc/q/a", content="x"), File("/etc/q/clients/one.key", content="y")],
    links=[Link("/opt/q/current", "releases/1")],
)
# printf x | sha256sum
X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
Y = "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"
AS_DECLARED = f"""\
== release
12
== packages
libzmq5|installed
libczmq4|config-files
== users
quotes:/opt/quotes:/usr/sbin/nologin
== paths
/etc/q|directory|755|root|root
/etc/q/clients|directory|755|root|root
/etc/q/a|regular file|644|root|root
/etc/q/clients/one.key|regular file|644|root|root
== sha256
{X}  /etc/q/a
{Y}  /etc/q/clients/one.key
== links
/opt/q/current|releases/1
== keys
probe|some key
== unit quotes.service
enabled=enabled
active=active
== ruleset
table inet zmqfleet {{
}}
== curve
yes
"""
NOTHING: dict[str, list[str]] = {
    kind: [] for kind in ("packages", "users", "directories", "prune", "files", "links")
}


def difference(old: str, new: str) -> dict[str, list[str]]:
    assert old in AS_DECLARED
    found = todo(declared(PART), parse(AS_DECLARED.replace(old, new).splitlines()))
    return {kind: names for kind, names in found.items() if names}


def test_all_that_was_printed_is_read() -> None:
    found = parse(AS_DECLARED.splitlines())
    assert (found.release, found.packages, found.keys) == ("12", ["libzmq5"], {"probe": "some key"})
    assert found.units == {"quotes.service": {"enabled": "enabled", "active": "active"}}
    assert found.ruleset == "table inet zmqfleet {\n}\n"
    assert found.has_curve


def test_nothing_is_to_do_where_all_is_as_declared() -> None:
    assert todo(declared(PART), parse(AS_DECLARED.splitlines())) == NOTHING


@pytest.mark.parametrize(
    ("old", "new", "kind", "name"),
    [
        ("libzmq5|installed", "libzmq5|half-configured", "packages", "libzmq5"),
        ("libzmq5|installed\n", "", "packages", "libzmq5"),
        ("/usr/sbin/nologin", "/bin/bash", "users", "quotes"),
        ("/etc/q|directory|755", "/etc/q|directory|777", "directories", "/etc/q"),
        ("/etc/q|directory", "/etc/q|symbolic link", "directories", "/etc/q"),
        ("/etc/q/a|regular file|644", "/etc/q/a|regular file|600", "files", "/etc/q/a"),
        ("644|root|root\n/etc/q/clients", "644|root|games\n/etc/q/clients", "files", "/etc/q/a"),
        (X, Y, "files", "/etc/q/a"),
        (f"{X}  /etc/q/a\n", "", "files", "/etc/q/a"),
        ("current|releases/1", "current|releases/0", "links", "/opt/q/current"),
        ("== sha256", "/etc/q/clients/a|b|regular file|644|root|root\n== sha256", "prune", "/etc/q/clients/a|b"),
    ],
)  # fmt: skip
def test_what_differs_is_to_do_and_nothing_else(old: str, new: str, kind: str, name: str) -> None:
    assert difference(old, new) == {kind: [name]}


def test_on_a_blank_host_all_is_to_do() -> None:
    assert todo(declared(PART), Found()) == {
        "packages": ["libzmq5"],
        "users": ["quotes"],
        "directories": ["/etc/q", "/etc/q/clients"],
        "prune": [],
        "files": ["/etc/q/a", "/etc/q/clients/one.key"],
        "links": ["/opt/q/current"],
    }


def test_what_the_controller_does_not_know_stays_as_it_is() -> None:
    unknown = replace(PART, files=[File("/etc/q/a"), File("/etc/q/clients/one.key")])
    assert todo(declared(unknown), Found())["files"] == []
    assert todo(declared(unknown), parse(AS_DECLARED.splitlines())) == NOTHING


def test_the_command_succeeds_on_a_host_that_has_nothing(project: Project) -> None:
    found = fleet.load(project.root, project.inventory)
    for name in found.hosts:
        # the machine of the tests is no host of a fleet
        look = command(found, fleet.view(found, name))
        done = subprocess.run(["sh", "-c", look], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        read = parse(done.stdout.splitlines())
        assert read.release
        assert not read.keys
        for part in fleet.view(found, name).capabilities.values():
            assert set(todo(declared(part), read)["files"]) == set(declared(part)["files"])
