"""Prints docs/variables.md, from the roles' argument_specs: `python -m zmqfleet.docs >docs/variables.md`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zmqfleet import ROLES
from zmqfleet.fleet.grammar import grammars
from zmqfleet.fleet.model import PER_HOST
from zmqfleet.inventory import read_yaml

_HEAD = """\
# Variables

<!-- Generated from roles/*/meta/argument_specs.yml and grammar.yml by `python -m zmqfleet.docs`; change it there. -->

YAML in `group_vars/all.yml` of the project, or wherever Ansible reads variables; values may be Jinja and vaulted, see
[services](services.md#values). `zmqfleet validate` refuses what is not on this page, if it has a prefix of these
variables or nearly the name of one; a team's own variables pass. `zmq_build_hosts`, `zmq_build_verify` and
`zmq_services` describe the fleet, so they must be the same for every host, but for these keys of a service:
{per_host}. All others may differ by group or host.
"""


def page() -> str:
    """The page's Markdown, one section for each role that has variables. Raises InventoryError."""
    parts = [_HEAD.format(per_host=", ".join(f"`{name}`" for name in PER_HOST))]
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        parts += _role(path.parents[1].name, read_yaml(path)["argument_specs"]["main"])
    return "\n".join(parts)


def _role(name: str, spec: Mapping[str, Any]) -> Iterator[str]:
    if spec["options"]:
        yield f"## {name}\n\n{_text(spec['description'])}\n"
        yield from _table("", spec["options"])


def _table(prefix: str, options: Mapping[str, Any]) -> Iterator[str]:
    """The options as one table, then a table for each of those that has options of its own."""
    title = f"### `{prefix}`\n\n" if prefix else ""
    yield title + "| key | type | default | meaning |\n|---|---|---|---|"
    path = prefix.replace("[]", "")
    yield "\n".join(_row(key, spec, f"{path}.{key}" if path else key) for key, spec in options.items()) + "\n"
    for key, spec in options.items():
        if "options" in spec:
            path = f"{prefix}.{key}" if prefix else key
            yield from _table(path + ("[]" if spec["type"] == "list" else ""), spec["options"])


def _row(key: str, spec: Mapping[str, Any], path: str) -> str:
    kind = f"{spec['type']} of {spec['elements']}" if "elements" in spec else spec["type"]
    default = "*required*" if spec.get("required") else _literal(spec["default"]) if "default" in spec else ""
    meaning = _text(spec["description"])
    if "choices" in spec:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in spec['choices'])}."
    for what, where in (("Form", path), ("Form of a key", f"{path}.*"), ("Form of a value", f"{path}.=")):
        if where in grammars():
            meaning += f" {what}: {_text(grammars()[where].words)}."
    return f"| `{key}` | {kind} | {default} | {meaning} |".replace("|  |", "| |")


def _literal(value: object) -> str:
    if value == "":
        return "empty"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _text(description: str | list[str]) -> str:
    """A description as one paragraph; `|` would end a table's cell, C(…) is Ansible's markup for code."""
    paragraphs = [description] if isinstance(description, str) else description
    return re.sub(r"C\((.*?)\)", r"`\1`", " ".join(paragraphs)).replace("|", r"\|")


if __name__ == "__main__":
    print(page(), end="")
