"""Reads what a host has of its view, and says what is still to do: see plugins/modules/fleet_look.py."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_ROOT = Path(__file__).resolve().parents[2]
# as in the action plugin fleet
if "zmqfleet" not in sys.modules and (_ROOT / "src").is_dir():
    sys.path.insert(0, str(_ROOT / "src"))

from zmqfleet.fleet.look import parse, todo  # noqa: E402


class ActionModule(ActionBase):
    """One command on the host, without Python there; what it prints is compared here."""

    _VALID_ARGS = frozenset({"command", "declared"})
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """What is there, and for each capability what is to do; fails if the host's shell does."""
        result = super().run(tmp, task_vars)
        done = self._low_level_execute_command(self._task.args["command"])
        if done["rc"] != 0:
            raise AnsibleActionFail(
                f"could not look at the host: {done['stderr'].strip() or done['stdout'].strip()}"
            )
        found = parse(done["stdout_lines"])
        differs = {name: todo(part, found) for name, part in self._task.args["declared"].items()}
        # the digests of files with secrets are nothing to print
        return {**result, "changed": False, "found": asdict(found), "todo": differs, "_ansible_no_log": True}
