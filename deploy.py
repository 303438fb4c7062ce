"""pyinfra's front door: `pyinfra inventory deploy.py`. What each host gets follows from its view."""

from deploys import firewall, golang, zeromq, zmq_build, zmq_probe, zmq_service
from deploys.common import view

capabilities = view().capabilities
if "zeromq" in capabilities:
    zeromq.deploy_zeromq()
if "golang" in capabilities:
    golang.deploy_golang()
zmq_probe.deploy_zmq_probe()
if "zmq_build" in capabilities:
    zmq_build.deploy_zmq_build()
firewall.deploy_firewall()
zmq_service.install()
# all hosts' public keys are on the controller before the first host needs one
zmq_probe.fetch_public_keys()
zmq_service.configure()
zmq_service.start()
