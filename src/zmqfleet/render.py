"""One template renderer for both engines: its text equals that of Ansible's template module, byte for byte.

Ansible sets trim_blocks, prints None as nothing and keeps the final newline
(ansible-core 2.19, `template` action and `Templar`).
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from zmqfleet import ROLES


def _to_nice_json(value: object, indent: int = 4) -> str:
    """Ansible's filter of the same name."""
    return json.dumps(value, indent=indent, sort_keys=True, separators=(",", ": "))


_ENVIRONMENT = Environment(
    undefined=StrictUndefined,
    trim_blocks=True,
    finalize=lambda value: "" if value is None else value,
)
_ENVIRONMENT.filters["to_nice_json"] = _to_nice_json


def template_path(role: str, name: str) -> Path:
    """Where a role's template lies."""
    return ROLES / role / "templates" / name


def render(role: str, name: str, variables: Mapping[str, Any]) -> str:
    """The text of a role's template. Raises jinja2.TemplateError, as for an undefined variable."""
    template, newlines = _template(template_path(role, name))
    result = template.render(variables)
    # final newlines that Jinja, or a block at the end, swallowed are given back as Ansible does: up to the
    # template's own number, counting those that a value at the end brought along
    return result + "\n" * (newlines - _final_newlines(result))


@functools.cache
def _template(path: Path) -> tuple[Template, int]:
    """A template, compiled once for all hosts, and how many newlines it ends with."""
    text = path.read_text()
    return _ENVIRONMENT.from_string(text), _final_newlines(text)


def _final_newlines(text: str) -> int:
    return len(text) - len(text.rstrip("\n"))
