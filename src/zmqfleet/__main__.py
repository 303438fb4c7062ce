"""`python -m zmqfleet`."""

from zmqfleet.cli import main

main(prog_name="zmqfleet")
