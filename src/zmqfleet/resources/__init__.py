"""The kinds of things that a host has: what is expected, how it is read, how both compare. Knows nothing of a fleet."""

from zmqfleet.resources.base import Actual, Entry, ReadError, Resource
from zmqfleet.resources.content import Artefact, Content, Inline, Made, Pending
from zmqfleet.resources.generations import Generations
from zmqfleet.resources.key import Key
from zmqfleet.resources.package import Package
from zmqfleet.resources.paths import Directory, File, Link
from zmqfleet.resources.peers import Peers
from zmqfleet.resources.profile import Profile
from zmqfleet.resources.reading import KINDS, parse, read
from zmqfleet.resources.rule import Rule
from zmqfleet.resources.step import Step
from zmqfleet.resources.table import Table
from zmqfleet.resources.unit import Unit
from zmqfleet.resources.user import User

__all__ = [
    "KINDS",
    "Actual",
    "Artefact",
    "Content",
    "Directory",
    "Entry",
    "File",
    "Generations",
    "Inline",
    "Key",
    "Link",
    "Made",
    "Package",
    "Peers",
    "Pending",
    "Profile",
    "ReadError",
    "Resource",
    "Rule",
    "Step",
    "Table",
    "Unit",
    "User",
    "parse",
    "read",
]
