#!/usr/bin/python
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fleet_look
short_description: Reads what a host has of its view, and says what is still to do
version_added: 0.1.0
author: zmqfleet authors (@zmqfleet)
description:
  - Runs one shell command on the host, also in check mode, which changes nothing there, and compares what it prints
    with what is declared. Tasks that would find nothing to do are skipped by it, which saves a command a task.
  - Meant for the internal role C(fleet).
options:
  command:
    description: The command, as M(zmqfleet.core.fleet) returns it for the host.
    type: str
    required: true
  declared:
    description: What is declared, by capability, as M(zmqfleet.core.fleet) returns it for the host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Look at the host
  zmqfleet.core.fleet_look:
    command: "{{ _fleet_data.hosts[inventory_hostname].look }}"
    declared: "{{ _fleet_data.hosts[inventory_hostname].declared }}"
  register: _fleet_look
"""

RETURN = r"""
found:
  description: Packages, users, paths, digests, links, public keys, units and ruleset as they are.
  type: dict
  returned: success
todo:
  description:
    - What differs, by capability and kind (packages, users, directories, prune, files, links); names and paths.
  type: dict
  returned: success
"""
