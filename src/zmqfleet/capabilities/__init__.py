"""What a host is given, one module a capability; the role of the same name holds its defaults, templates and files.

A module has `parts(fleet, host, leaving)`, the parts that a host is given, none where it does not need the capability.
`leaving` are the rules of endpoints that are no longer declared while their processes may still listen.
"""

from zmqfleet.capabilities import firewall, golang, zeromq, zmq_build, zmq_probe, zmq_service
from zmqfleet.capabilities.part import CONFIGURE, INSTALL, PHASES, RETIRE, START, Part

# The one order, in which parts of the same phase are placed.
ORDER = {
    "zeromq": zeromq,
    "golang": golang,
    "zmq_probe": zmq_probe,
    "zmq_build": zmq_build,
    "firewall": firewall,
    "zmq_service": zmq_service,
}

# What can be used without a fleet, on any host, where a project declares no services.
ALONE = ("zeromq", "golang")

__all__ = ["ALONE", "CONFIGURE", "INSTALL", "ORDER", "PHASES", "RETIRE", "START", "Part"]
