"""Go toolchain of one exact version, through the module proxy, with the distribution's go as bootstrap."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zmqfleet.capabilities.part import INSTALL, Part, script
from zmqfleet.fleet.model import ETC, LIB, Fleet
from zmqfleet.render import render
from zmqfleet.resources import Directory, File, Inline, Link, Package, Rule, Step

STORE = "/usr/local/lib/go"


def settings(variables: Mapping[str, Any]) -> dict[str, str]:
    """The settings of go.env that the golang_ variables call for; empty ones leave Go's own default."""
    named = {
        "GOPROXY": variables["golang_proxy"],
        "GOSUMDB": variables["golang_sumdb"],
        "GONOSUMDB": variables["golang_nosumdb"],
        "GOPRIVATE": variables["golang_private"],
        **variables["golang_env"],
    }
    return {key: str(value) for key, value in named.items() if str(value) != ""}


def parts(fleet: Fleet, host: str, leaving: Sequence[Rule]) -> Iterator[Part]:
    """The build hosts'; also a host's of a project without services, where the role is used by itself."""
    if fleet.services and not fleet.builds(host):
        return
    variables = fleet.hosts[host].variables
    version, arch = variables["golang_version"], variables["golang_arch"]
    bootstrap = tuple((key, str(name)) for key, name in variables["golang_bootstrap_packages"].items())
    install = script("golang", "golang-toolchain")
    found = settings(variables)
    # a URL may hold a password
    secret = any("@" in value for value in found.values())
    environment = File(
        f"{ETC}/go.env", Inline.text(render("golang", "go.env.j2", {"_golang_env": found}), secret=secret)
    )
    netrc = "".join(
        f"machine {one['machine']} login {one['login']} password {one['password']}\n"
        for one in variables["golang_netrc"]
    )
    passwords = (File(f"{ETC}/netrc", Inline.text(netrc, secret=True), "600"),) if netrc else ()
    toolchain = Step(
        f"Go toolchain {version}",
        check=shlex.join([install.path, "--check", version, arch]),
        command=(install.path, version, arch),
        after=(environment.path, install.path),
    )
    resources = (
        Package("go for bootstrapping", by_release=bootstrap),
        Directory(LIB),
        Directory(ETC),
        Directory(STORE),
        environment,
        *passwords,
        install,
        toolchain,
        Link("/usr/local/go", f"{STORE}/{version}"),
        Link("/usr/local/bin/go", "/usr/local/go/bin/go"),
        Link("/usr/local/bin/gofmt", "/usr/local/go/bin/gofmt"),
    )
    yield Part("golang", INSTALL, resources)
