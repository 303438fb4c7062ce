"""Checks values against a role's argument_specs, naming the key and the nearest right name."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zmqfleet import ROLES
from zmqfleet.inventory import read_yaml

_TYPES: dict[str, tuple[type, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "list": (list, "a list"),
    "dict": (dict, "a mapping"),
}


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` for the nearest known name, else the names there are."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there is none"


def options() -> dict[str, dict[str, Any]]:
    """The specification of every variable that a role declares, by name."""
    declared: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(ROLES).glob("*/meta/argument_specs.yml")):
        declared |= read_yaml(path)["argument_specs"]["main"]["options"]
    return declared


def _kind(value: object) -> str:
    return "nothing (null)" if value is None else f"{type(value).__name__} {value!r}"


def check(value: object, spec: Mapping[str, Any], at: str) -> list[tuple[str, str]]:
    """What is wrong with `value`, as (key, message) pairs; empty if nothing is."""
    expected, words = _TYPES[spec["type"]]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        return [(at, f"must be {words}, not {_kind(value)}")]
    found: list[tuple[str, str]] = []
    if isinstance(value, str):
        if any(mark in value for mark in ("{{", "{%", "{#")):
            return [
                (
                    at,
                    f"{value!r} holds a Jinja template; write the value itself, it is read before any engine",
                )
            ]
        if "choices" in spec and value not in spec["choices"]:
            found.append((at, f"unknown value {value!r}; {nearest(value, spec['choices'])}"))
    if isinstance(value, list) and "elements" in spec:
        element = {**spec, "type": spec["elements"]}
        for index, item in enumerate(value):
            found += check(item, element, f"{at}[{index}]")
    elif isinstance(value, dict) and "options" in spec:
        found += _check_mapping(value, spec["options"], at)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                found.append((at, f"the key {key!r} must be text"))
            elif isinstance(item, (dict, list)) or item is None:
                found.append((f"{at}.{key}", f"must be text or a number, not {_kind(item)}"))
            elif isinstance(item, str):
                found += check(item, {"type": "str"}, f"{at}.{key}")
    return found


def _check_mapping(value: Mapping[Any, Any], known: Mapping[str, Any], at: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if key not in known:
            found.append((f"{at}.{key}", f"unknown key {str(key)!r}; {nearest(str(key), known)}"))
        else:
            found += check(item, known[key], f"{at}.{key}")
    for key, spec in known.items():
        if spec.get("required") and key not in value:
            found.append((at, f"the key {key!r} is missing"))
    return found
