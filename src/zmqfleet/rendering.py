"""`ansible-inventory --list` with each host's variables as Ansible renders them for it: Jinja, lookups and vaults.

zmqfleet.inventory runs it in a process of its own, since Ansible keeps its options and its display in its modules. Of
Ansible's internals it uses that HostVars makes `hostvars` known, and where InventoryCLI gathers a host's variables.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible.cli.inventory import InventoryCLI
from ansible.errors import AnsibleError, AnsibleTemplateSyntaxError, AnsibleUndefinedVariable
from ansible.parsing.vault import EncryptedString
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars

from zmqfleet.fleet.model import without_others
from zmqfleet.fleet.schema import options
from zmqfleet.inventory import CONNECTION, TEMPLATE, defaults

_UNDEFINED = re.compile(r"'[A-Za-z_]\w*' is undefined")
_MARKS = ("{{", "{%", "{#")
_TEMPLATE = trust_as_template("lookup('ansible.builtin.template', path, convert_data=False)")


class _Rendered(InventoryCLI):  # type: ignore[misc] # Ansible has no types
    """Prints the values of our variables and of those that say how a host is reached; of all others the names."""

    def json_inventory(self, top: Any) -> Any:
        self._ours = {*options(), *CONNECTION}
        self._defaults = defaults()
        self._literal: dict[int, tuple[object, bool]] = {}
        self._problems: dict[tuple[str, str], list[str]] = {}
        self._templates: dict[str, dict[str, str]] = {}
        HostVars(self.inventory, self.vm, self.loader)  # `hostvars` in templates, from now on
        found = super().json_inventory(top)
        found["_meta"]["problems"] = [
            {"key": key, "message": message, "hosts": hosts}
            for (key, message), hosts in self._problems.items()
        ]
        found["_meta"]["templates"] = self._templates
        return found

    def _get_host_variables(self, host: Any) -> dict[str, Any]:
        raw = self.vm.get_vars(host=host, stage="all")
        groups = [group.name for group in host.get_groups()]
        if not self._is_literal(services := raw.get("zmq_services")):
            raw["zmq_services"] = without_others(services, groups)
        templar = Templar(self.loader, {**self._defaults, **raw})
        found = {
            name: self._rendered(templar, value, name, host.name) if name in self._ours else None
            for name, value in self._remove_internal(dict(raw)).items()
        }
        self._templates[host.name] = {
            path: self._file(templar, path, at, host.name)
            for path, at in _templates(found.get("zmq_services"), groups)
        }
        return found

    def _file(self, templar: Templar, path: str, at: str, host: str) -> str:
        """A file of the project as Ansible's own module `template` renders it, a header of the file's own included."""
        if not Path(self.loader.path_dwim(path)).is_file():
            return ""  # validation says so
        try:
            variables = {"path": self.loader.path_dwim(path)}
            text = str(templar.evaluate_expression(_TEMPLATE, local_variables=variables))
            text.encode()
            return text
        except AnsibleError as error:
            why = _cause(error)
        except UnicodeEncodeError:
            why = "is no text in UTF-8"
        self._problems.setdefault((at, f"{path}: {why}"), []).append(host)
        return ""

    def _rendered(self, templar: Templar, value: Any, at: str, host: str) -> Any:
        if self._is_literal(value):
            return value
        try:
            return templar.template(value)
        except AnsibleError as error:
            for key, message in list(_wrong(templar, value, at)) or [(at, _cause(error))]:
                self._problems.setdefault((key, message), []).append(host)
        return None

    def _is_literal(self, value: Any) -> bool:
        """Whether nothing in it is to be rendered; found once for what many hosts share."""
        if id(value) not in self._literal:
            # kept with what it was found for: no other object gets its number meanwhile
            self._literal[id(value)] = value, not any(_is_rendered(leaf) for _, leaf in _leaves(value, ""))
        return self._literal[id(value)][1]

    @staticmethod
    def dump(stuff: Any) -> str:
        return json.dumps(stuff, default=str)


def _templates(services: Any, groups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The templates among the files of the services that a host in these groups runs: their paths, and their keys."""
    for index, entry in enumerate(services if isinstance(services, list) else []):
        files = entry.get("files") if isinstance(entry, dict) and entry.get("hosts") in groups else None
        for name, path in files.items() if isinstance(files, dict) else ():
            if isinstance(path, str) and path.endswith(TEMPLATE):
                yield path, f"zmq_services[{index}].files.{name}"


def _leaves(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{at}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{at}[{index}]")
    else:
        yield at, value


def _is_rendered(leaf: Any) -> bool:
    return isinstance(leaf, EncryptedString) or (
        isinstance(leaf, str) and any(mark in leaf for mark in _MARKS)
    )


def _wrong(templar: Templar, value: Any, at: str) -> Iterator[tuple[str, str]]:
    """Which parts of a value cannot be rendered, and why."""
    for key, leaf in _leaves(value, at):
        try:
            templar.template([leaf])  # in a list, which may leave it out
        except AnsibleError as error:
            yield key, _cause(error)


def _cause(error: AnsibleError) -> str:
    """Why, in one line; what Ansible says may quote the value, which may be a secret."""
    about = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, AnsibleUndefinedVariable):
        what = about if _UNDEFINED.fullmatch(about) else "something in it is undefined"
        return f"{what}: variables come from the inventory, group_vars and host_vars (facts and plays are not read)"
    if isinstance(error, AnsibleTemplateSyntaxError):
        return re.sub("'.*'", "'…'", about)
    # of a class that is Ansible's own affair
    if "undecryptable" in about:
        return (
            "is vaulted, and no password that is known here opens it: name one in ansible.cfg (vault_password_file) or "
            "ANSIBLE_VAULT_PASSWORD_FILE"
        )
    return "cannot be rendered; `ansible HOST -m debug -a var=…` says why"


def main() -> None:
    """As ansible-inventory, with its arguments."""
    _Rendered.cli_executor(["ansible-inventory", *sys.argv[1:]])
