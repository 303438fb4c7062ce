#!/usr/bin/python
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: converge
short_description: Brings a host into its desired state, a phase at a time
version_added: 0.1.0
author: zmqfleet authors (@zmqfleet)
description:
  - Derives from the project's variables and the inventory what a host is to have, reads with one command what it
    has, and does what differs, by commands over Ansible's connection; packages by M(ansible.builtin.apt), for which
    the host needs Python. Wrong variables fail before any host is touched.
  - The project is E(ZMQFLEET_PROJECT), else the playbook's directory if that has C(group_vars) or C(inventories),
    else the working directory if that has.
  - Each host is read at the first task of a play, and again after something was placed. In check mode nothing is
    placed, and all that would be is listed.
  - The roles of this collection are made of it.
options:
  phase:
    description:
      - C(check) validates the variables, on the controller alone. C(read) reads the host. C(compare), run once after
        all hosts of a play were read, tells which of them have something to do.
      - C(install), C(configure), C(start) and C(roll_out) place what a capability has in that phase; C(roll_out) is
        for services that run already, of which hosts take turns (C(throttle)). C(settle) fails where a service could
        not go on, once all that could has.
      - C(retire) removes what is no longer declared, and C(finish) ends the run on the host.
    type: str
    choices: [check, read, compare, install, configure, start, roll_out, settle, retire, finish]
    required: true
  capability:
    description: The capability, of install and configure; if left out, those that no role of the play is for.
    type: str
  turn:
    description:
      - Which of the fleet's turns of C(roll_out) it is, from 0; servers have theirs before those that connect to them.
        If left out, all services of the host are rolled out.
    type: int
attributes:
  check_mode:
    description: Lists what would be changed, and changes nothing.
    support: full
  diff_mode:
    description: Shows the differences of files whose content is no secret.
    support: full
"""

EXAMPLES = r"""
- name: Install
  zmqfleet.core.converge:
    phase: install
    capability: firewall
"""

RETURN = r"""
changes:
  description: What was, or would be, changed; a line each.
  type: list
  elements: str
  returned: changed
turns:
  description: The fleet's turns, of C(compare).
  type: list
  elements: int
  returned: compare
todo:
  description: The hosts of the play that have something to do.
  type: list
  elements: str
  returned: phase is compare
batch:
  description: On how many hosts at a time services that run may be replaced.
  type: int
  returned: phase is compare
"""
