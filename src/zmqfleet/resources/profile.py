"""Profiles of AppArmor, and what they have denied."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zmqfleet.resources.base import Actual, Resource

ENABLED = '[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]'
"""A shell command that holds where the kernel enforces what AppArmor's profiles say."""

PREFIX = "zmqfleet."
"""What the names of all our profiles begin with."""

_MOST, _MOST_OF_ONE = 200, 40  # denials of a host, and of a profile: those of one hide no other's
_LONGEST = 2000  # characters of one
_KERNEL = "/sys/kernel/security/apparmor"
_LOADED = f"sed -n 's/^{re.escape(PREFIX)}/loaded|&/p' {_KERNEL}/profiles"
# where auditd runs the kernel tells it, and not its own log
_DENIED = (
    "{ journalctl --dmesg --quiet --no-pager -o cat; tail -c 4194304 /var/log/audit/audit.log; } 2>/dev/null | "
    f"grep -aF 'profile=\"{PREFIX}' | cut -c -{_LONGEST} | tac | awk 'match($0, /profile=\"[^\"]*/) && "
    f'++seen[substr($0, RSTART, RLENGTH)] <= {_MOST_OF_ONE} {{ print "denied|" $0 }}\' | head -n {_MOST} | tac'
)
_REMOVE = f'! grep -q "^$0 (" {_KERNEL}/profiles 2>/dev/null || printf %s "$0" >{_KERNEL}/.remove'
# as the kernel's log has it, and as auditd's has
_AUDIT = re.compile(
    r"(audit: type=1400 |(node=\S+ )?type=AVC msg=)"
    r'audit\((?P<event>\d+\.\d+:\d+)\): (?P<said>apparmor="(DENIED|ALLOWED)" .*)'
)
_FIELD = re.compile(r'\b(\w{1,32})=("[^"]*"|\S+)')
# what is another each time, or says nothing of what is missing
_IDLE = {
    "class",
    "error",
    "info",
    "pid",
    "fsuid",
    "ouid",
    "FSUID",
    "OUID",
    "protocol",
    "profile",
    "requested_mask",
}
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_RIGHTS = {"r": "r", "w": "w", "a": "w", "c": "w", "d": "w", "k": "k", "l": "l", "m": "m", "x": "ix"}


@dataclass(frozen=True)
class Profile(Resource):
    """A profile in the kernel, where that has AppArmor: `file` defines it, `mode` is enforce or complain."""

    kind: ClassVar[str] = "profile"
    name: str
    file: str
    mode: str

    @property
    def label(self) -> str:
        """What a process that it confines is labelled with."""
        return f"{self.name} ({self.mode})"

    @property
    def placed_with(self) -> str:
        return self.file

    def differs(self, actual: Actual) -> str:
        if actual.profiles is None:
            return ""
        found = actual.profiles.get(self.name)
        return "missing" if found is None else "" if found == self.mode else f"is to {found}"

    def is_there(self, actual: Actual) -> bool:
        return self.name in (actual.profiles or {})

    def commands(self, actual: Actual, triggered: bool) -> list[tuple[str, ...]]:
        return []  # loaded before each start of its service, by unit-guard

    @classmethod
    def remove(cls, entry: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [("sh", "-c", _REMOVE, entry["name"])]

    @classmethod
    def read(cls, items: Sequence["Profile"]) -> str:
        return f"{ENABLED} || exit 0; echo 'enabled|'; {_LOADED}; {_DENIED}"

    @classmethod
    def parse(cls, line: str, actual: Actual) -> None:
        what, _, said = line.partition("|")
        if actual.profiles is None:
            actual.profiles = {}
        if what == "loaded":
            name, _, mode = said.partition(" ")
            actual.profiles[name] = mode.strip("()")
        elif what == "denied":
            # what the host was asked to keep to
            if len(said) > _LONGEST:
                raise ValueError(f"a denial of more than {_LONGEST} characters")
            if found := Denial.of(said):
                actual.denials.append(found)
            if len(actual.denials) > _MOST:
                raise ValueError(f"more than {_MOST} denials")


@dataclass(frozen=True)
class Denial:
    """What a profile has denied, or would have in mode complain: the kernel's number of the event, and the fields that
    its audit has written."""

    event: str
    profile: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, line: str) -> "Denial | None":
        """What a line of the kernel's or auditd's log says; None if it says something else."""
        found = _AUDIT.match(line)
        if not found:
            return None
        fields = {key: _value(key, value) for key, value in _FIELD.findall(found["said"])}
        told = tuple((key, value) for key, value in fields.items() if key not in _IDLE)
        return cls(found["event"], fields.get("profile", ""), told)

    @property
    def of_profile(self) -> str:
        """The profile, also of what a program that it does not allow did in mode complain (its child //null-…)."""
        return self.profile.partition("//")[0]

    @property
    def at(self) -> float:
        """When that was, in seconds since 1970."""
        return float(self.event.partition(":")[0])

    @property
    def rule(self) -> str:
        """The rule that would allow it, in AppArmor's words; empty if that is not known, or no rule can name it."""
        fields = dict(self.fields)
        mask = fields.get("denied_mask", "")
        if any(_UNPRINTABLE in value for value in fields.values()):
            return ""
        if "capname" in fields:
            return f"capability {fields['capname']},"
        if fields.get("operation") in ("signal", "ptrace"):
            which = f" set=({fields['signal']})" if "signal" in fields else ""
            return f"{fields['operation']} ({mask}){which} peer={fields.get('peer', 'unconfined')},"
        if "family" in fields:
            return f"network {fields['family']} {fields.get('sock_type', '')}".rstrip() + ","
        rights = "".join(dict.fromkeys(_RIGHTS[one] for one in "rwacdklmx" if one in mask))
        path = fields.get("name", "")
        return f"{literally(path)} {rights}," if rights and path.startswith("/") else ""


def told(denials: Iterable[Denial]) -> list[str]:
    """A line for each thing that was denied: what the audit says, how often, and the rule that would allow it."""
    counted = Counter((one.fields, one.rule) for one in dict.fromkeys(denials))
    return [
        f"{' '.join(f'{key}={value}' for key, value in fields)}{f' ({times} times)' if times > 1 else ''}"
        + (f"; what would allow it: {rule}" if rule else "")
        for (fields, rule), times in counted.items()
    ]


def literally(path: str, more: str = "") -> str:
    """A path in a rule, which stands for itself: see "Globbing" in apparmor.d(5); and a pattern that follows it."""
    # these are links on each Debian, and AppArmor sees where they lead
    path = re.sub("^/(?=(s?bin|lib(32|64|x32)?)(/|$))", "/usr/", path)
    path = re.sub("^/var/(?=run(/|$))", "/", path)
    escaped = re.sub(r'([*?\[\]{}^\\"])', r"\\\1", path)
    return f'"{escaped}{more}"'


def _value(key: str, value: str) -> str:
    if value.startswith('"'):
        return value.strip('"')
    # names with odd characters are in hexadecimal
    if key in ("name", "target") and re.fullmatch("([0-9A-F]{2})+", value):
        text = bytes.fromhex(value).decode(errors="replace")
        return "".join(one if one.isprintable() else _UNPRINTABLE for one in text)
    return value
