"""The zmqfleet command.

Exit statuses: 0 all well, 1 a check said no, 2 wrong input or could not tell, 130 interrupted.
"""

import json
import select
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import yaml

from zmqfleet import (
    __version__,
    default_inventory,
    default_project,
    drift,
    fleet,
    lab,
    operate,
    retire,
    status,
)
from zmqfleet import project as projects
from zmqfleet.fleet.validate import unresolved
from zmqfleet.probe import asking
from zmqfleet.probe.report import Report
from zmqfleet.text import counted
from zmqfleet.view import view_of


class _Failure(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"zmqfleet: {self.message}", err=True)


class _Dumper(yaml.SafeDumper):
    """YAML with texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
# ansible-inventory's own anchors and aliases say nothing to people
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]

_PROJECT = click.option(
    "--project",
    type=click.Path(path_type=Path),
    help="Directory that holds group_vars/ and inventories/ (default: ZMQFLEET_PROJECT, else the working directory).",
)
_INVENTORY = click.option(
    "--inventory",
    type=click.Path(path_type=Path),
    help="Inventory file or directory (default: ZMQFLEET_INVENTORY, else inventories/lab of the project).",
)


def _project(chosen: Path | None) -> Path:
    return chosen.resolve() if chosen else default_project()


def _fleet(project: Path | None, inventory: Path | None) -> fleet.Fleet:
    where = _project(project)
    with _told():
        return fleet.load(where, inventory.resolve() if inventory else default_inventory(where))


@contextmanager
def _told() -> Iterator[None]:
    """What the fleet refuses ends the command, in words."""
    try:
        yield
    except fleet.FleetError as error:
        raise _Failure(str(error)) from None


def _completed(
    names: Callable[[fleet.Fleet], Iterable[str]],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell may complete an argument to; nothing where the fleet is not as it should be."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
        try:
            found = _fleet(context.params.get("project"), context.params.get("inventory"))
        except click.ClickException:
            return []
        return sorted(name for name in names(found) if name.startswith(begun))

    return complete


_HOST = click.argument("host", shell_complete=_completed(lambda found: found.hosts))
_HOSTS = click.argument(
    "hosts", nargs=-1, shell_complete=_completed(lambda found: {*found.hosts, *found.groups})
)
_SERVICE = click.argument("service", shell_complete=_completed(lambda found: found.services))


def _say(message: str) -> None:
    click.echo(message, err=True)


class _Commands(click.Group):
    """What this machine refuses, such as a full disk, is told in words."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever reads has seen enough; click knows
        except KeyboardInterrupt:
            sys.exit(130)  # as shells have it; click's own is a 1
        except OSError as error:
            raise _Failure(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Provision, lock down and prove fleets of hosts that run Go + ZeroMQ services."""


@main.command(epilog="Example: zmqfleet init ~/fleet")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Write a new project into DIR: inventory, variables, an example service, and both engines' files."""
    try:
        projects.init(directory)
    except projects.ProjectError as error:
        raise _Failure(str(error)) from None
    click.echo(
        f"{directory}: a project with an example service; next:\n"
        f"  cd {shlex.quote(str(directory))}\n"
        "  zmqfleet lab up                   hosts to try it on (root); README.md says how to use your own\n"
        "  pyinfra -y inventory deploy.py    converge them, or: ansible-playbook site.yml\n"
        "  zmqfleet probe                    who reaches whom"
    )


@main.command(epilog="Example: zmqfleet validate --inventory inventories/production")
@_PROJECT
@_INVENTORY
def validate(project: Path | None, inventory: Path | None) -> None:
    """Check inventory and variables; touches no host."""
    found = _fleet(project, inventory)
    if lines := unresolved(found):
        raise _Failure("\n".join(lines))
    endpoints = sum(len(service.endpoints) for service in found.services.values())
    numbers = (len(found.hosts), "host"), (len(found.services), "service"), (endpoints, "endpoint")
    click.echo(f"ok: {', '.join(counted(*one) for one in numbers)}")


@main.command(epilog="Example: zmqfleet view broker1")
@_HOST
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
@click.option("--show-secrets", is_flag=True, help="Also files that hold secrets, such as environments.")
@_PROJECT
@_INVENTORY
def view(host: str, as_json: bool, show_secrets: bool, project: Path | None, inventory: Path | None) -> None:
    """Print what HOST will be: packages, users, files, units, ruleset, peers, expected probe cells."""
    found = _fleet(project, inventory)
    with _told():
        data = view_of(found, host, show_secrets)
    if as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=110), nl=False)


@main.command("drift", epilog="Example: zmqfleet drift brokers --json")
@_HOSTS
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@_PROJECT
@_INVENTORY
def drift_command(
    hosts: tuple[str, ...], as_json: bool, project: Path | None, inventory: Path | None
) -> None:
    """Say what differs between HOSTS (all of them, or names and groups) and what is declared; changes nothing.

    One command a host, over ssh, all hosts in parallel. Exit status: 0 nothing, 1 something, 2 could not tell.
    """
    found = _fleet(project, inventory)
    with _told():
        report = drift.look(found, hosts)
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else report.as_text())
    sys.exit(report.exit_status)


@main.command("status", epilog="Example: zmqfleet status quotes")
@click.argument(
    "names",
    nargs=-1,
    shell_complete=_completed(lambda found: {*found.hosts, *found.groups, *found.services}),
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@_PROJECT
@_INVENTORY
def status_command(
    names: tuple[str, ...], as_json: bool, project: Path | None, inventory: Path | None
) -> None:
    """Say how services are: state, release, endpoints, key, drift; all of them, or those of NAMES, which are services,
    hosts and groups of hosts.

    One command a host, over ssh, all hosts in parallel. Exit status: 0 all run as declared, 1 one does not, 2 a host
    could not be asked.
    """
    found = _fleet(project, inventory)
    with _told():
        report = status.look(found, names)
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else report.as_text())
    sys.exit(report.exit_status)


_LINES = click.option(
    "-n", "--lines", default=50, show_default=True, type=click.IntRange(1), help="How many lines."
)


def _is_read() -> bool:
    """Whether anybody still reads what is printed here, the other end of a pipe for instance."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)
    return not reader.poll(0)


def _unknown(unknown: Mapping[str, str]) -> None:
    for host, why in unknown.items():
        _say(f"{host}: {why}")
    if unknown:
        sys.exit(2)


@main.command(epilog="Example: zmqfleet logs quotes -f")
@_SERVICE
@click.option("-f", "--follow", is_flag=True, help="Go on with each line as it comes, until Ctrl-C.")
@_LINES
@_PROJECT
@_INVENTORY
def logs(service: str, follow: bool, lines: int, project: Path | None, inventory: Path | None) -> None:
    """Print the journal of SERVICE, of all its hosts, by time.

    Secrets of the service, as far as they are in `env` and `credentials`, are masked.
    """
    found = _fleet(project, inventory)
    with _told():
        one = operate.service_of(found, service)
        if follow:
            with suppress(KeyboardInterrupt), closing(operate.follow_journal(found, one, lines)) as followed:
                for line in followed:
                    if line is not None:
                        click.echo(line)
                    elif not _is_read():
                        break
                else:
                    sys.exit(2)
            return
        entries, unknown = operate.journal(found, one, lines)
    for line in entries:
        click.echo(line)
    _unknown(unknown)


@main.command(epilog="Example: zmqfleet restart quotes")
@_SERVICE
@_PROJECT
@_INVENTORY
def restart(service: str, project: Path | None, inventory: Path | None) -> None:
    """Start SERVICE anew on one host after the other, each proven to run before the next.

    What it runs with stays as it is on the host. Exit status: 0 all run, 2 one does not; later hosts are not touched.
    """
    found = _fleet(project, inventory)
    with _told():
        operate.restart(found, operate.service_of(found, service), click.echo)


@main.command(epilog="Example: zmqfleet rollback quotes")
@_SERVICE
@click.argument("release", default="")
@_PROJECT
@_INVENTORY
def rollback(service: str, release: str, project: Path | None, inventory: Path | None) -> None:
    """Have SERVICE run RELEASE (if none is given, the one that ran before) on one host after the other, each proven.

    Hosts that run it already are passed over. Only the program is another then: `zmqfleet drift` says what differs from
    the variables, and the next converge rolls out what they declare. `zmqfleet releases` lists what there is.
    """
    found = _fleet(project, inventory)
    with _told():
        operate.rollback(found, operate.service_of(found, service), release, click.echo)


@main.command(epilog="Example: zmqfleet releases quotes")
@_SERVICE
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@_PROJECT
@_INVENTORY
def releases(service: str, as_json: bool, project: Path | None, inventory: Path | None) -> None:
    """List the releases of SERVICE on each of its hosts, those that ran last first."""
    found = _fleet(project, inventory)
    with _told():
        entries, unknown = operate.releases(found, operate.service_of(found, service))
    if as_json:
        click.echo(json.dumps({"schema": 1, "releases": entries, "unknown": dict(unknown)}, indent=2))
    for one in [] if as_json else entries:
        marks = [mark for mark in ("runs", "declared") if one[mark]]
        marks += [] if one["runs"] else ["ran before"] if one["ran"] else ["not known to have run"]
        click.echo("  ".join((f"{one['host']:<12}", str(one["release"]), ", ".join(marks))).rstrip())
    _unknown({} if as_json else unknown)
    sys.exit(2 if unknown else 0)


@main.command("retire", epilog="Example: zmqfleet retire gateway7")
@_HOST
@click.option("-y", "--yes", is_flag=True, help="Do not ask first.")
@_PROJECT
@_INVENTORY
def retire_command(host: str, yes: bool, project: Path | None, inventory: Path | None) -> None:
    """Empty HOST, which leaves the fleet: its services, keys, rules, users. Then take it out of the inventory.

    Packages, the Go toolchain and the services' own state stay. The others forget its keys when they are converged.
    """
    found = _fleet(project, inventory)
    with _told():
        concerned = retire.concerned(found, host)
        if not yes and not sys.stdin.isatty():
            raise _Failure(f"nobody can be asked here: say --yes to empty {host}, which has {concerned}")
        if not yes:
            click.confirm(f"Empty {host}? It has {concerned}", abort=True)
        retire.retire(found, host, click.echo)
    click.echo(f"{host}: empty; take it out of {found.inventory}, then converge the others")


@main.command("probe", epilog="Example: zmqfleet probe --json -")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, allow_dash=True), help="Write JSON; - is stdout."
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 30),
    default=asking.TIMEOUT,
    show_default=True,
    help="Seconds that one connection may take: more for slow links and slow hosts.",
)
@_PROJECT
@_INVENTORY
def probe_command(json_file: Path | None, timeout: int, project: Path | None, inventory: Path | None) -> None:
    """Try every socket from every host, with and without keys, and compare with what the fleet declares.

    Exit status: 0 all as expected, 1 a cell is not, 2 could not tell.
    """
    found = _fleet(project, inventory)
    report = Report(*asking.run(found, found.public_keys(), _say, timeout))
    if json_file is not None:
        text = json.dumps(report.as_json(), indent=2) + "\n"
        if str(json_file) == "-":
            click.echo(text, nl=False)
        else:
            json_file.write_text(text)
    if str(json_file) != "-":
        width = shutil.get_terminal_size((110, 24)).columns
        click.echo(report.as_text(width))
    sys.exit(report.exit_status)


@main.group("lab")
def lab_group() -> None:
    """Hosts for trying and testing: containers with systemd and sshd, reached as production hosts are."""


_NAME = click.option("--name", default="lab", show_default=True, help="Name of the lab and of its inventory.")


def _guard(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except lab.LabError as error:
        raise _Failure(str(error)) from None


@lab_group.command("up", epilog="Example: zmqfleet lab up --hosts 3")
@click.option("--hosts", default=5, show_default=True, type=click.IntRange(1, 200), help="How many hosts.")
@click.option("--release", default="debian12,debian13", show_default=True, help="Releases, mixed in turn.")
@click.option(
    "--vm",
    "kernels",
    metavar="KERNELS",
    help=f"Make those that run services virtual machines, whose kernels enforce this: {', '.join(lab.KERNELS)}; mixed "
    "in turn.",
)
@_NAME
@_PROJECT
def lab_up(hosts: int, release: str, kernels: str | None, name: str, project: Path | None) -> None:
    """Make the lab, or what is missing of it, and write its inventory."""
    mixed = kernels.split(",") if kernels is not None else ()
    _guard(lambda: lab.up(_project(project), name, hosts, release.split(","), _say, mixed))


@lab_group.command("status", epilog="Example: zmqfleet lab status")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@_NAME
@_PROJECT
def lab_status(as_json: bool, name: str, project: Path | None) -> None:
    """List the lab's hosts."""
    rows: list[dict[str, str]] = _guard(lambda: lab.status(_project(project), name))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    for row in [] if as_json else rows:
        click.echo("  ".join(f"{value:<12}" for value in row.values()).rstrip())
    if not rows:
        raise _Failure(f"the lab {name!r} is not up; `zmqfleet lab up --name {name}` makes it")


@lab_group.command(
    "ssh",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: zmqfleet lab ssh broker1 systemctl status quotes",
)
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_NAME
@_PROJECT
def lab_ssh(host: str, command: tuple[str, ...], name: str, project: Path | None) -> None:
    """Log in to HOST, or run COMMAND there."""
    sys.exit(_guard(lambda: lab.ssh(_project(project), name, host, list(command))))


@lab_group.command("down", epilog="Example: zmqfleet lab down")
@_NAME
@_PROJECT
def lab_down(name: str, project: Path | None) -> None:
    """Remove the lab; its images stay as a cache."""
    _guard(lambda: lab.down(_project(project), name, _say))
