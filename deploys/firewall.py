"""nftables table of the fleet's own. See roles/firewall."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, deploy, operation

from deploys import common


class Ruleset(FactBase[str]):
    """The loaded table, without counters."""

    default = str

    def command(self) -> str:
        return "nft --stateless list table inet zmqfleet 2>/dev/null || true"

    def process(self, output: list[str]) -> str:
        return "\n".join(output)


@operation()
def ruleset() -> Generator[StringCommand]:
    """The table in the kernel equals the declared one, whatever was done to it by hand."""
    if host.get_fact(Ruleset).split() != common.view().ruleset.split():
        yield StringCommand("systemctl reload-or-restart zmqfleet-firewall.service")


@deploy("firewall")
def deploy_firewall() -> None:
    """Files, unit, table; the unit's own reload replaces the table in one transaction."""
    common.packages("firewall", name="Install nftables")
    common.directories("firewall", name="Make directories")
    common.files("firewall", name="Place the ruleset and its unit")
    common.units("firewall", name="Enable and start the firewall")
    ruleset(name="Load the ruleset")
