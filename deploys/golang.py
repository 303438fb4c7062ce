"""Go toolchain of one exact version, through the module proxy. See roles/golang."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from deploys import common

_SCRIPT = "/usr/local/lib/zmqfleet/golang-toolchain"


class ToolchainIsCurrent(FactBase[bool]):
    """Whether the toolchain, its links and its go.env are as declared."""

    def command(self, version: str, arch: str) -> str:
        return f"{_SCRIPT} --check {version} {arch} 2>/dev/null && echo yes || echo no"

    def process(self, output: list[str]) -> bool:
        return output == ["yes"]


@operation()
def bootstrap() -> Generator[StringCommand]:
    """The distribution's compiler, which fetches the toolchain."""
    release = common.found().release
    known = common.fleet().hosts[host.name].variables["golang_bootstrap_packages"]
    if release not in known:
        yield common.fail(f"golang_bootstrap_packages has no entry for release {release!r}; add one")
        return
    yield from common.install([known[release]] if known[release] not in common.found().packages else [])


@operation()
def toolchain() -> Generator[StringCommand]:
    """The toolchain, its links and its environment."""
    variables = common.fleet().hosts[host.name].variables
    version, arch = variables["golang_version"], variables["golang_arch"]
    if not host.get_fact(ToolchainIsCurrent, version=version, arch=arch):
        yield from common.touching([StringCommand(_SCRIPT, version, arch)])


@deploy("golang")
def deploy_golang() -> None:
    """Bootstrap, settings, toolchain."""
    bootstrap(name="Install the bootstrap compiler")
    common.directories("golang", name="Make directories")
    common.files("golang", name="Place go.env and the installer")
    toolchain(name="Install the toolchain")
