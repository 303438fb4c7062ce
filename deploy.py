"""pyinfra's front door: `pyinfra inventory deploy.py`. What each host gets follows from the fleet."""

from zmqfleet.deploys import converge

converge()
