"""Builds services on the build hosts, reproducibly, with cgo against the system's libraries."""

import shlex
from collections.abc import Iterator, Sequence

from zmqfleet.capabilities.part import INSTALL, RETIRE, Part, script
from zmqfleet.fleet.model import BUILD, LIB, Fleet
from zmqfleet.releases import Release, release
from zmqfleet.resources import Directory, File, Generations, Inline, Made, Resource, Rule, Step, User

BUILDER = "zmq-build"  # user, and name of the script


def parts(fleet: Fleet, host: str, leaving: Sequence[Rule]) -> Iterator[Part]:
    """What builds, then each release by itself; artefacts are fetched by whoever places them."""
    if not fleet.builds(host):
        return
    releases = [release(fleet, one) for _, one in sorted(fleet.services.items()) if one.build]
    archives = {one.archive.name: one.archive for one in releases if one.archive}
    tool = script("zmq_build", BUILDER)
    directories = [
        Directory(LIB),
        Directory(BUILD),
        Directory(f"{BUILD}/sources"),
        Directory(f"{BUILD}/artifacts"),
        Directory(f"{BUILD}/caches", owner=BUILDER, group=BUILDER),
    ]
    sources = [
        File(f"{BUILD}/sources/{one.name}.tar", Inline(one.data), released=True) for one in archives.values()
    ]
    yield Part("zmq_build", INSTALL, (User(BUILDER, BUILD), *directories, tool, *sources))
    for one in releases:
        yield Part("zmq_build", INSTALL, tuple(_build(one, host, tool.path)), one.service)
    keep = fleet.hosts[host].variables["zmq_service_releases_kept"]
    kept = [Generations(_products(one), keep, (one.id,), one.service) for one in releases]
    archived = Generations(
        f"{BUILD}/sources", keep * max(1, len(archives)), tuple(f"{name}.tar" for name in archives)
    )
    yield Part("zmq_build", RETIRE, (*kept, archived))


def _products(one: Release) -> str:
    return f"{BUILD}/artifacts/{one.service}"


def _build(one: Release, host: str, tool: str) -> Iterator[Resource]:
    assert one.archive
    binary = shlex.quote(one.on_builder)
    # also for a controller that has not seen it: what a disk has made of it must not reach the hosts
    check = f"test -x {binary} && test ! -L {binary} && sha256sum --check --status {binary}.sha256"
    before = one.built(host)
    if before:
        check += f" && echo {before}'  '{binary} | sha256sum --check --status"
    command = (
        tool,
        one.service,
        one.id,
        one.archive.name,
        one.package,
        one.tags,
        one.ldflags,
        *([before] if before else []),
    )
    yield Directory(_products(one))
    yield Step(one.build, check, command)
    yield File(one.on_builder, Made(), "755", released=True)
