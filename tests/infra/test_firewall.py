"""The ruleset in the kernel."""

from testinfra.host import Host


def test_kernel_has_the_declared_table(host: Host, table: str) -> None:
    loaded = host.check_output("nft --stateless list table inet zmqfleet")
    # word by word: nft breaks long sets into lines
    assert loaded.split() == table.split()
