"""Releases of services: their ids, the sources that they are built from, and their artefacts on the controller."""

import fcntl
import hashlib
import io
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zmqfleet import ROLES
from zmqfleet.atomic import replacing
from zmqfleet.fleet.model import BUILD, BUILD_VARIABLES, OPT, Fleet, FleetError, Service
from zmqfleet.gosources import inputs
from zmqfleet.locking import WORKING
from zmqfleet.remote import TOO_MUCH, bounded
from zmqfleet.resources import Actual

_ID = 16  # hexadecimal digits
_MOST = 512 * 1024 * 1024  # bytes of an artefact
_ABSENT = 44  # no status of ssh's or cat's
_SILENT_SECONDS = 60

_Files = Mapping[str, tuple[bool, bytes]]  # by path: whether it is executable, and what it holds


@dataclass(frozen=True)
class Archive:
    """Sources as a tar archive, named after its content: services of one module share it."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Release:
    """One release of a service: its id (of all inputs of the build, or of the artefact), where the controller keeps
    the artefact, and what it is made from: a package of sources, by which hosts, of which the first one's is placed; or
    a URL; or nothing (a file of the project)."""

    service: str
    id: str
    artifact: Path
    declared: str | None = None
    archive: Archive | None = None
    package: str = "."
    tags: str = ""  # with commas between them
    ldflags: str = ""
    builders: tuple[str, ...] = ()
    url: str | None = None

    @property
    def on_host(self) -> str:
        """Its binary on a host."""
        return f"{OPT}/{self.service}/releases/{self.id}/{self.service}"

    @property
    def on_builder(self) -> str:
        """Its binary on a build host."""
        return f"{BUILD}/artifacts/{self.service}/{self.id}/{self.service}"

    @property
    def build(self) -> str:
        """The name of the step that makes it there."""
        return f"build of {self.service} {self.id}"

    @property
    def sha256(self) -> str | None:
        """Its digest: as declared, or of what the build hosts made; None while that is not known, or differs."""
        if self.declared:
            return self.declared
        found = {self.built(host) for host in self.builders}
        return found.pop() if len(found) == 1 else None

    def built(self, host: str) -> str | None:
        """The digest of what a build host has made, as it showed it; None if it has not."""
        try:
            return self.digest_file(host).read_text().strip()
        except FileNotFoundError:
            return None

    def digest_file(self, host: str) -> Path:
        """Where the controller keeps what a build host has shown."""
        return self.artifact.with_name(f"{host}.sha256")

    @property
    def unverified(self) -> str:
        """Why the build host is not believed; empty if it is, or nobody else is asked."""
        if len(self.builders) < 2 or self.sha256:
            return ""
        if missing := [host for host in self.builders if not self.built(host)]:
            return f"no run has seen yet what {' and '.join(missing)} made of it: converge {' and '.join(missing)}"
        made = ", ".join(f"{host} made sha256 {self.built(host)}" for host in self.builders)
        return (
            f"{made}: one of them has another Debian release, compiler or libraries, or somebody was there. Find out "
            f"who is right, remove {self.on_builder} and {BUILD}/caches on the other and {self.artifact.parent} here, "
            "and converge both"
        )


def release(fleet: Fleet, service: Service) -> Release:
    """The release that a service's variables and sources call for; computed once for each fleet."""
    found: Release = fleet.once(f"release {service.name}", lambda: _release(fleet, service))
    return found


def _release(fleet: Fleet, service: Service) -> Release:
    if service.artifact:
        digest = service.artifact["sha256"]
        url = service.artifact.get("url")
        stored = _stored(fleet, service, digest) if url else fleet.project / service.artifact["path"]
        return Release(service.name, digest[:_ID], stored, digest, url=url)
    assert service.build  # validated
    assert fleet.builder
    source = service.build["source"]
    package, ldflags = service.build.get("package", "."), service.build.get("ldflags", "")
    tags = ",".join(service.build.get("tags", []))
    # what none of its programs is built from, such as tests, makes nothing new
    programs: dict[str, _Files] = fleet.once(f"programs {source}", lambda: _programs(fleet, source))
    archive: Archive = fleet.once(f"archive {source}", lambda: _archive(programs))
    variables = fleet.hosts[fleet.builder].variables
    recipe = (ROLES / "zmq_build" / "files" / "zmq-build").read_bytes()
    settings = {name: value for name, value in sorted(variables.items()) if name in BUILD_VARIABLES}
    # another build host has another compiler and other libraries, and so makes other bytes of the same sources
    builders = tuple(host for host in (fleet.builder, fleet.verifier) if host)
    how = [package, tags, ldflags, repr(settings), " ".join(builders)]
    parts = [_tar(programs[package]), recipe, *(one.encode() for one in how)]
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    return Release(
        service.name,
        digest[:_ID],
        _stored(fleet, service, digest),
        archive=archive,
        package=package,
        tags=tags,
        ldflags=ldflags,
        builders=builders,
    )


def _stored(fleet: Fleet, service: Service, digest: str) -> Path:
    return fleet.state / "artifacts" / service.name / digest[:_ID] / service.name


def _programs(fleet: Fleet, source: str) -> dict[str, _Files]:
    """What each program of a module that is a service's is built from."""
    directory = fleet.project / source
    files = {
        str(path.relative_to(directory)): (bool(path.stat().st_mode & 0o100), path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    }
    contents = {name: data for name, (_, data) in files.items()}
    builds = [service.build for service in fleet.services.values() if service.build]
    packages = {build.get("package", ".") for build in builds if build["source"] == source}
    assert fleet.builder
    # which may name other files
    flags = fleet.hosts[fleet.builder].variables["golang_env"].get("GOFLAGS")
    return {
        package: files if flags else {name: files[name] for name in inputs(contents, package)}
        for package in packages
    }


def _archive(programs: Mapping[str, _Files]) -> Archive:
    data = _tar({name: file for files in programs.values() for name, file in files.items()})
    return Archive(hashlib.sha256(data).hexdigest()[:_ID], data)


def _tar(files: _Files) -> bytes:
    """A tar archive that depends on nothing but names, contents and exec bits."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, (is_executable, data) in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755 if is_executable else 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def learn(fleet: Fleet, host: str, actual: Actual) -> None:
    """Keeps the digests of what a build host has built, and has still as it was built."""
    for service in fleet.services.values():
        if not service.build:
            continue
        one = release(fleet, service)
        digest = actual.sha256.get(one.on_builder)
        if digest and one.build in actual.steps and one.built(host) is None:
            one.artifact.parent.mkdir(parents=True, exist_ok=True)
            with replacing(one.digest_file(host)) as file:
                file.write(f"{digest}\n".encode())


def ensure(fleet: Fleet, one: Release) -> Path:
    """The artefact on the controller, got from the build host or its URL if it is not there yet.

    Raises FleetError if it is not to be had, or is not what its digest says.
    """
    if one.declared and not one.url:
        return one.artifact
    if one.unverified:
        raise FleetError(f"{one.service} {one.id}: {one.unverified}")
    one.artifact.parent.mkdir(parents=True, exist_ok=True)
    with _alone(one.artifact.parent / ".lock"):
        if not one.artifact.exists():
            with replacing(one.artifact) as file:
                _get(fleet, one, file)
            one.artifact.chmod(0o755)
    return one.artifact


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else, in this process or another, is inside meanwhile."""
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # not a lock that blocks: pyinfra's hosts share one thread
                time.sleep(0.1)
        yield


def ensure_at(fleet: Fleet, artifact: Path) -> Path:
    """As `ensure`, for the release whose artefact has that path on the controller."""
    every = (release(fleet, service) for service in fleet.services.values())
    return ensure(fleet, next(one for one in every if one.artifact == artifact))


def _get(fleet: Fleet, one: Release, file: IO[bytes]) -> None:
    if one.url:
        try:
            with urllib.request.urlopen(one.url, timeout=_SILENT_SECONDS) as answer:
                while (more := answer.read(1024 * 1024)) and file.tell() <= _MOST:
                    file.write(more)
        except OSError as error:
            raise FleetError(f"{one.service}: artifact.url {one.url}: {error}") from None
        wherefrom, too_much = f"artifact.url {one.url}", file.tell() > _MOST
    else:
        assert fleet.builder
        builder = fleet.hosts[fleet.builder]
        try:
            there = f"[ -e {one.on_builder} ] || exit {_ABSENT}; exec cat {one.on_builder}"
            status, said = bounded(_MOST, builder.ssh(there), file, WORKING)
        except subprocess.TimeoutExpired:
            raise FleetError(
                f"{one.service}: {builder.name} has not sent {one.on_builder} in {WORKING} s"
            ) from None
        too_much = status == TOO_MUCH
        if status == _ABSENT:
            raise FleetError(
                f"{one.service} {one.id}: {builder.name} has not built it: where its build has failed that is why; "
                f"else converge {builder.name} first"
            )
        if status and not too_much:
            raise FleetError(
                f"{one.service} {one.id}: has not come from {builder.name}, which builds it: {said[:4096].strip()}"
            )
        wherefrom = f"{one.on_builder} of {builder.name}"
    if too_much:
        raise FleetError(f"{one.service}: {wherefrom} is larger than {_MOST // 1024**2} MiB: no program is")
    file.flush()
    with open(file.name, "rb") as written:
        if one.archive and written.read(4) != b"\x7fELF":
            raise FleetError(
                f"{one.service}: {wherefrom} is no program (ELF): see who changed {builder.name}"
            )
        written.seek(0)
        found = hashlib.file_digest(written, "sha256").hexdigest()
    if one.sha256 is not None and found != one.sha256:
        raise FleetError(f"{one.service}: {wherefrom} has sha256 {found}, not {one.sha256}")
