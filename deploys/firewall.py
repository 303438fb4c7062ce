"""nftables table of the fleet's own. See roles/firewall."""

from collections.abc import Generator

from pyinfra.api import StringCommand, deploy, operation

from deploys import common


@operation()
def ruleset() -> Generator[StringCommand]:
    """The table in the kernel equals the declared one, whatever was done to it by hand."""
    if common.found().ruleset.split() != common.view().ruleset.split():
        yield from common.touching([StringCommand("systemctl reload-or-restart zmqfleet-firewall.service")])


@deploy("firewall")
def deploy_firewall() -> None:
    """Files, unit, table; the unit's own reload replaces the table in one transaction."""
    common.packages("firewall", name="Install nftables")
    common.directories("firewall", name="Make directories")
    common.files("firewall", name="Place the ruleset and its unit")
    common.units("firewall", name="Enable and start the firewall")
    ruleset(name="Load the ruleset")
