"""Hosts and their merged variables, as Ansible sees and renders them."""

import functools
import getopt
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zmqfleet import ROLES, python

try:
    from yaml import CSafeLoader as _SafeLoader  # ten times as fast, and what Ansible reads with
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


# The variables that say how a host is reached.
CONNECTION = (
    "ansible_become",
    "ansible_become_method",
    "ansible_become_pass",
    "ansible_become_password",
    "ansible_become_user",
    "ansible_connection",
    "ansible_host",
    "ansible_password",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_host",
    "ansible_ssh_pass",
    "ansible_ssh_port",
    "ansible_ssh_private_key_file",
    "ansible_ssh_user",
    "ansible_user",
)

# OpenSSH's options that one may want for a connection, of `man ssh`; with a colon those that take an argument
_SSH_OPTIONS = "46ACKTakqvxB:b:c:F:I:i:J:l:m:o:P:p:"
_SSH_KEYWORDS = {
    "-A": "ForwardAgent yes",
    "-i": "IdentityFile",
    "-J": "ProxyJump",
    "-l": "User",
    "-p": "Port",
}


# Ansible's words: an INI file's values may be text
TRUE = ("true", "yes", "on", "1", "y", "t")
FALSE = ("false", "no", "off", "0", "n", "f")

TEMPLATE = ".j2"  # how the path of a file ends that is rendered

_MOST_LINES = 20

Vault = tuple[str, bytes]  # a vault's id and its password


class InventoryError(Exception):
    """An inventory or variables file that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Host:
    """One host of the inventory.

    `address` is ansible_host (or the name), where ssh reaches it, `groups` all groups it is in, parents and `all`
    included, `variables` its merged variables with the roles' defaults beneath, rendered; a team's own ones are None.
    `templates` are the templates among its services' files, rendered, by their paths.
    """

    name: str
    address: str
    groups: tuple[str, ...]
    variables: dict[str, Any]
    templates: Mapping[str, str] = field(default_factory=dict)

    @property
    def peer_address(self) -> str:
        """Where other hosts reach it."""
        return str(self.variables.get("zmq_address", self.address))

    @property
    def become(self) -> bool:
        """Whether commands on this host need sudo."""
        return str(self.variables.get("ansible_become", False)).lower() in TRUE

    @property
    def ssh_port(self) -> int:
        """The TCP port of its sshd."""
        return int(self.variables.get("ansible_port", 22))

    @property
    def ssh_key(self) -> str | None:
        """The private key file with which to log in, if the inventory names one."""
        value = self.variables.get("ansible_ssh_private_key_file")
        return str(Path(value).expanduser()) if value else None

    @property
    def ssh_arguments(self) -> list[str]:
        """The arguments that the inventory wants every ssh to get."""
        return shlex.split(self.variables.get("ansible_ssh_common_args", ""))

    @property
    def ssh_settings(self) -> tuple[str, list[tuple[str, str]]]:
        """The same for who has only a configuration's keywords: the file that -F names, or none; keywords and values.

        Raises getopt.GetoptError for what ssh does not know, or what is no option.
        """
        options, others = getopt.getopt(self.ssh_arguments, _SSH_OPTIONS)
        if others:
            raise getopt.GetoptError(f"{others[0]!r} is no option")
        file, settings = "", []
        for option, value in options:
            if option == "-F":
                file = value
            elif option == "-o" or option in _SSH_KEYWORDS:
                text = f"{_SSH_KEYWORDS.get(option, '')} {value}".strip()
                keyword, argument = re.split(r"\s*=\s*|\s+|$", text, maxsplit=1)
                settings.append((keyword, argument))
        return file, settings

    def ssh(self, *command: str) -> list[str]:
        """The argument list of the system's ssh that runs `command` (joined by blanks, as ssh does) there."""
        user = self.variables.get("ansible_user")
        return [
            "ssh",
            *self.ssh_arguments,
            *(["-i", self.ssh_key] if self.ssh_key else []),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-p", str(self.ssh_port)),
            f"{user}@{self.address}" if user else self.address,
            *command,
        ]


class _Loader(_SafeLoader):
    """Safe YAML that lets Ansible's own tags (!vault, !unsafe) pass as what they hold. No key may be there twice: the
    last one would win, and nobody would know."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _any_tag(loader: _Loader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _any_tag)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InventoryError with file, line and cause."""
    try:
        return yaml.load(path.read_text(), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InventoryError(f"{where}: not valid YAML: {error.problem}; mend this line") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InventoryError(f"{path}: cannot be read as YAML: {error}") from None


def variable_files(project: Path, inventory: Path) -> list[Path]:
    """The files that can hold variables: group_vars and host_vars of the project and of the inventory, and
    the inventory itself."""
    base = inventory if inventory.is_dir() else inventory.parent
    folders = [where / name for where in (project, base) for name in ("group_vars", "host_vars")]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if _is_yaml(path)]
    own = sorted(p for p in base.iterdir() if _is_yaml(p)) if inventory.is_dir() else [inventory]
    return list(dict.fromkeys([*found, *own]))


def _is_yaml(path: Path) -> bool:
    return path.is_file() and path.suffix in {".yml", ".yaml", ""} and not path.name.startswith(".")


def _check_files(project: Path, inventory: Path) -> None:
    """Broken files are refused here: Ansible itself only warns of some of them, and goes on without."""
    for path in variable_files(project, inventory):
        if path.read_bytes().startswith(b"$ANSIBLE_VAULT"):
            continue
        base = inventory if inventory.is_dir() else inventory.parent
        if path.parent == base and path.suffix not in {".yml", ".yaml"}:
            continue  # an INI inventory or a script: Ansible knows
        content = read_yaml(path)
        if content is None:
            raise InventoryError(f"{path}: is empty; write the variables or hosts there, or remove the file")
        if not isinstance(content, dict):
            kind = "a list" if isinstance(content, list) else f"a {type(content).__name__}"
            raise InventoryError(f"{path}: holds {kind}, but a mapping (key: value) belongs there")


_KEY = re.compile(r"^[ \t]*[\"']?([^\s\"':]+)[\"']?[ \t]*:", re.MULTILINE)


def where_set(project: Path, inventory: Path) -> dict[str, Path]:
    """The file that sets a variable, by its name, for messages; the last one that Ansible would take, if several do."""
    where: dict[str, Path] = {}
    for path in variable_files(project, inventory):
        for variable in _KEY.findall(path.read_text(errors="replace")):
            where.setdefault(variable, path)
    return where


def defaults() -> dict[str, Any]:
    """The defaults of all roles in one mapping."""
    merged: dict[str, Any] = {}
    for path in sorted(ROLES.glob("*/defaults/main.yml")):
        merged |= read_yaml(path) or {}
    return merged


def load(project: Path, inventory: Path, vaults: Sequence[Vault] = ()) -> dict[str, Host]:
    """All hosts of an inventory, by name. Vaults are opened with `vaults` beside what ansible.cfg and the environment
    name.

    Raises InventoryError if the inventory is missing, does not parse, or holds no host.
    """
    if not project.is_dir():
        raise InventoryError(f"{project}: no such project directory")
    if not inventory.exists():
        known = sorted(p.name for p in (project / "inventories").glob("*") if p.is_dir())
        hint = f"there are: {', '.join(known)}" if known else "there is none in inventories/"
        raise InventoryError(
            f"{inventory}: no such inventory ({hint}); `zmqfleet lab up` makes inventories/lab, "
            "ZMQFLEET_INVENTORY or --inventory choose another"
        )
    _check_files(project, inventory)
    data = _ansible_inventory(project, inventory, vaults)
    if found := data["_meta"].get("problems"):
        where = where_set(project, inventory)
        lines = [_told(one, where.get(top_level(one["key"]), inventory)) for one in found]
        raise InventoryError("\n".join(shortened(lines)))
    hostvars = _shared(data["_meta"]["hostvars"])
    templates = _shared(data["_meta"].get("templates", {}))
    base = defaults()
    groups = _memberships(data)
    if not groups:
        raise InventoryError(f"{inventory}: holds no host; name at least one under a group")
    hosts = {}
    for name in sorted(groups):
        # ansible-inventory leaves hosts without variables out of hostvars
        variables = {**base, **hostvars.get(name, {})}
        address = str(variables.get("ansible_host", name))
        hosts[name] = Host(name, address, tuple(sorted(groups[name])), variables, templates.get(name, {}))
    return hosts


def top_level(key: str) -> str:
    """The variable that a key such as zmq_services[0].name is in."""
    return re.split(r"[.[]", key)[0]


def shortened(lines: list[str]) -> list[str]:
    """What is wrong, a line each, the first of them if they are many."""
    more = [f"and {len(lines) - _MOST_LINES + 1} more problems; mend these first"]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], *more]


def _told(problem: dict[str, Any], where: Path) -> str:
    first, *others = problem["hosts"]
    more = f" and {len(others)} more" if others else ""
    return f"{where}: {problem['key']}: {problem['message']}, for {first}{more}"


def _shared(hostvars: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same variables, with equal values as one object: ansible-inventory prints what describes the fleet once for
    each host, and a thousand copies would be kept and validated."""
    # by repr, since True and 1 are equal, and one of them is no port
    kept: dict[str, Any] = {}
    return {
        host: {name: kept.setdefault(repr(value), value) for name, value in variables.items()}
        for host, variables in hostvars.items()
    }


def groups_of(hosts: dict[str, Host]) -> dict[str, list[str]]:
    """The hosts of every group, sorted."""
    result: dict[str, list[str]] = {}
    for host in hosts.values():
        for group in host.groups:
            result.setdefault(group, []).append(host.name)
    return {group: sorted(members) for group, members in sorted(result.items())}


def _memberships(data: dict[str, Any]) -> dict[str, set[str]]:
    """The groups of each host, parents included; Ansible has every host in `all`."""
    contents = {group: content for group, content in data.items() if group != "_meta"}
    parents: dict[str, list[str]] = {}
    for group, content in contents.items():
        for child in content.get("children", []):
            parents.setdefault(child, []).append(group)

    @functools.cache
    def upwards(group: str) -> frozenset[str]:
        return frozenset({group}.union(*map(upwards, parents.get(group, []))))

    result: dict[str, set[str]] = {}
    for group, content in contents.items():
        for host in content.get("hosts", []):
            result.setdefault(host, set()).update(upwards(group))
    return result


# What is printed there is for us alone: it holds decrypted values, which a log would keep for all to read. The
# environment has the last word over every ansible.cfg; what reads the inventory (vaults, plugins) is left as it is.
_PLAIN = {
    "ANSIBLE_DEBUG": "false",
    "ANSIBLE_DISPLAY_TRACEBACK": "never",
    "ANSIBLE_FORCE_COLOR": "false",
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    "ANSIBLE_INVENTORY_EXPORT": "false",
    "ANSIBLE_LOCALHOST_WARNING": "false",
    "ANSIBLE_LOG_PATH": os.devnull,
    "ANSIBLE_NOCOLOR": "true",
    "ANSIBLE_VERBOSITY": "0",
}


# what Ansible says of passwords, not of variables that are called after the vault
_OF_VAULT = re.compile(r"decrypt|vault (secret|password)", re.IGNORECASE)


def _ansible_inventory(project: Path, inventory: Path, vaults: Sequence[Vault]) -> dict[str, Any]:
    command = [
        *python("zmqfleet.rendering"),
        *("-i", str(inventory), "--playbook-dir", str(project), "--list"),
    ]
    pipes = []
    for name, password in vaults:
        # through a pipe, which holds more than any password
        end, start = os.pipe()
        os.write(start, password)
        os.close(start)
        pipes.append(end)
        command += ["--vault-id", f"{name}@/dev/fd/{end}"]
    run = subprocess.run(
        command,
        pass_fds=pipes,
        stdin=subprocess.DEVNULL,  # Ansible refuses the one that its own workers hand down
        capture_output=True,
        text=True,
        # what has been asked for is not asked for again
        env={**os.environ, **_PLAIN, **({"ANSIBLE_ASK_VAULT_PASS": "false"} if vaults else {})},
        cwd=project,
        check=False,
    )
    for end in pipes:
        os.close(end)
    if run.returncode != 0:
        errors = [line for line in run.stderr.splitlines() if line.strip()]
        if _OF_VAULT.search(run.stderr):
            vaulted = [
                str(path)
                for path in variable_files(project, inventory)
                if b"$ANSIBLE_VAULT;" in path.read_bytes()
            ]
            errors.append(
                f"vaulted are: {', '.join(vaulted)}; their passwords are those of ANSIBLE_VAULT_PASSWORD_FILE, of "
                "vault_password_file or vault_identity_list in ansible.cfg, or of ansible-playbook's options"
            )
        raise InventoryError(f"{inventory}: Ansible cannot read it:\n  " + "\n  ".join(errors[-6:]))
    parsed: dict[str, Any] = json.loads(run.stdout)
    return parsed
