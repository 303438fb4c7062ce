"""Checks values against a role's argument_specs, naming the key and the nearest right name."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zmqfleet import ROLES
from zmqfleet.fleet.grammar import Grammar, Span, grammars, shown
from zmqfleet.inventory import read_yaml

_TYPES: dict[str, tuple[type, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "list": (list, "a list"),
    "dict": (dict, "a mapping"),
}
_MANY = 30  # names that a message lists
_LONGEST = 32_768  # characters of a text; as an environment variable it must leave room for others


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` for the nearest known name, else the names there are."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word[:200], names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return f"known: {', '.join(names[:_MANY])}{more}" if names else "there is none"


def options() -> dict[str, dict[str, Any]]:
    """The specification of every variable that a role declares, by name."""
    declared: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(ROLES).glob("*/meta/argument_specs.yml")):
        declared |= read_yaml(path)["argument_specs"]["main"]["options"]
    return declared


def _kind(value: object, path: str = "") -> str:
    """What a value is, for a message; what text holds is not said, it may be a secret, nor a number in place of one."""
    if isinstance(value, bool | int | float):
        secret = getattr(grammars().get(path), "secret", False)
        return type(value).__name__ if secret else f"{type(value).__name__} {shown(value)}"
    if value is None:
        return "nothing (null)"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "a mapping"


def check(value: Any, spec: Mapping[str, Any], at: str) -> list[tuple[str, str]]:
    """What is wrong with the value of the variable `at`, as (key, message) pairs; empty if nothing is."""
    return _check(value, spec, at, at)


def _check(value: Any, spec: Mapping[str, Any], at: str, path: str) -> list[tuple[str, str]]:
    """`path` is that of `at` in the grammars."""
    expected, words = _TYPES[spec["type"]]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        is_text = expected is str and isinstance(value, (bool, int, float))
        is_null = value is None and "null" in spec.get("choices", ())
        remedy = ": put it in quotes" if is_text or is_null else ""
        return [(at, f"must be {words}, not {_kind(value, path)}{remedy}")]
    if isinstance(value, str):
        if "choices" in spec and value not in spec["choices"]:
            return [(at, f"unknown value {shown(value)}; {nearest(value, spec['choices'])}")]
        return [(at, problem) for problem in (_text(value, path),) if problem]
    if isinstance(value, int):
        span = grammars().get(path)
        return (
            [(at, problem) for problem in (span.problem(value),) if problem] if isinstance(span, Span) else []
        )
    found: list[tuple[str, str]] = []
    if isinstance(value, list):
        element = {**spec, "type": spec["elements"]}
        for index, item in enumerate(value):
            found += _check(item, element, f"{at}[{index}]", path)
    elif isinstance(value, dict) and "options" in spec:
        found += _check_options(value, spec["options"], at, path)
    elif isinstance(value, dict):
        found += _check_free(value, at, path)
    return found


def _text(value: str, path: str) -> str:
    grammar = grammars().get(path)
    if not value.isprintable() and not (isinstance(grammar, Grammar) and grammar.lines):
        return "must be one line of printable text"
    if len(value) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    return grammar.problem(value) if isinstance(grammar, Grammar) else ""


def _check_options(
    value: Mapping[Any, Any], known: Mapping[str, Any], at: str, path: str
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if key not in known:
            found.append(
                (f"{at}.{key_shown(key)}", f"unknown key {shown(str(key))}; {nearest(str(key), known)}")
            )
        else:
            found += _check(item, known[key], f"{at}.{key}", f"{path}.{key}")
    for key, spec in known.items():
        if spec.get("required") and key not in value:
            found.append((at, f"the key {key!r} is missing"))
    return found


def _check_free(value: Mapping[Any, Any], at: str, path: str) -> list[tuple[str, str]]:
    """A mapping whose keys are a team's."""
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if not isinstance(key, str):
            found.append((at, f"the key {shown(key)} must be text"))
        elif problem := _text(key, f"{path}.*"):
            found.append((at, problem))
        elif isinstance(item, (bool, float, dict, list)) or item is None:
            # true, yes and on are one to YAML, and so are 1.1 and 1.10
            remedy = ": put it in quotes" if isinstance(item, (bool, float)) else ""
            found.append((f"{at}.{key}", f"must be text or a whole number, not {_kind(item)}{remedy}"))
        elif (
            isinstance(item, int) and (form := grammars().get(f"{path}.=")) and getattr(form, "secret", False)
        ):
            found.append((f"{at}.{key}", "must be text, or YAML makes 83 of 0123: put it in quotes"))
        elif problem := _text(str(item), f"{path}.="):
            found.append((f"{at}.{key}", problem))
    return found


def key_shown(key: object) -> str:
    """A key as it may be shown on a terminal, as part of where a value is."""
    return shown(key).strip("'")
