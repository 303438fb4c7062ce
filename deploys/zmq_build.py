"""Builds services on the build host and fetches the artefacts to the controller. See roles/zmq_build."""

import hashlib
import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import (
    FileDownloadCommand,
    FileUploadCommand,
    FunctionCommand,
    StringCommand,
    deploy,
    operation,
)
from pyinfra.facts.files import Sha256File

from deploys import common
from zmqfleet.fleet.model import LIB
from zmqfleet.fleet.view import Release, release


def _publish(part: Path, artifact: Path) -> None:
    part.chmod(0o755)
    os.replace(part, artifact)


@operation()
def build(wanted: Release) -> Generator[StringCommand | FileUploadCommand]:
    """One release, from its source archive; nothing to do once it is there."""
    if wanted.on_builder in common.found().paths:
        return
    yield from common.touching(_build(wanted))


def _build(wanted: Release) -> Iterator[StringCommand | FileUploadCommand]:
    uploads = f"upload-{hashlib.sha256(wanted.id.encode()).hexdigest()[:16]}"
    yield FileUploadCommand(io.BytesIO(wanted.archive or b""), uploads, _sudo=False)
    yield StringCommand(f"install -m 644 -T {uploads} {wanted.archive_on_builder} && rm -f {uploads}")
    yield StringCommand(
        f"cd / && {LIB}/zmq-build {wanted.service} {wanted.id} {wanted.sources} {wanted.package}",
        _sudo=True,
        _sudo_user="zmq-build",
    )


@operation()
def fetch(wanted: Release) -> Generator[Any]:
    """The artefact, to the controller; checked against the build host's digest before it counts."""
    if wanted.artifact.exists():
        return
    part = wanted.artifact.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    yield FileDownloadCommand(wanted.on_builder, str(part), _sudo=False)

    def check() -> None:
        expected = host.get_fact(Sha256File, path=wanted.on_builder)
        if hashlib.sha256(part.read_bytes()).hexdigest() != expected:
            raise ValueError(f"{part}: arrived damaged")
        _publish(part, wanted.artifact)

    yield FunctionCommand(check, (), {})


@deploy("zmq_build")
def deploy_zmq_build() -> None:
    """User, directories, then each service."""
    common.users("zmq_build", name="Create the building user")
    common.directories("zmq_build", name="Make directories")
    common.files("zmq_build", name="Place the build script")
    for service in common.fleet().services.values():
        if service.build:
            wanted = release(common.fleet(), service)
            build(name=f"Build {service.name} {wanted.id}", wanted=wanted)
            fetch(name=f"Fetch {service.name} {wanted.id}", wanted=wanted)
