#!/usr/bin/python
"""Documentation of the action plugin of this name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: fleet
short_description: Derives from the fleet what each host is to have
version_added: 0.1.0
author: zmqfleet authors (@zmqfleet)
description:
  - Loads and validates the project's variables and the inventory that Ansible was given, on the controller, and
    returns for every host what the roles of this collection place there. Wrong variables fail here, before any host
    is touched.
  - The project is E(ZMQFLEET_PROJECT), else the playbook's directory; for the collection's own playbooks the
    working directory.
  - Meant to run once a play; the internal role C(fleet) does so.
options:
  public_keys:
    description: Public CURVE keys that hosts have shown, to be kept on the controller; by host and name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Derive every host's data from the variables
  zmqfleet.core.fleet:
  register: _fleet_data
  run_once: true
"""

RETURN = r"""
refused:
  description: The hosts whose public keys were not kept, by name, with the reason.
  type: dict
  returned: success
hosts:
  description: The derived data of every host of the inventory, by name. Not shown, it may hold services' secrets.
  type: dict
  returned: success
"""
