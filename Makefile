# The two ways in: `make demo` and `make test`. Both set up what they need on a fresh machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo lint unit thorough twins lab-tests adoption hostile ways kernels packages molecule on-hosts test bench clean constraints lab-down

# Tools are started by name, also by each other; a Debian user's own PATH lacks the directories of iptables and nft.
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin

# The lab's containers need root, nothing else does. What root writes into the project is given back to its user,
# but for key.pub: the hosts mount it, and their sshd wants it to be root's.
ifeq ($(shell id -u),0)
as_root = $(1)
else
as_root = status=0; sudo -n -E -H env "PATH=$$PATH" PYTHONDONTWRITEBYTECODE=1 $(1) || status=$$?; \
	sudo -n find . -xdev -uid 0 ! -name key.pub -exec chown -h "$$(id -u):$$(id -g)" {} +; exit $$status
endif

SCENARIOS := $(patsubst molecule/%/molecule.yml,molecule-%,$(wildcard molecule/*/molecule.yml))
.PHONY: $(SCENARIOS)
LANES := --jobs=4 --keep-going --output-sync=target

help:  ## this list
	@grep -hE '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup:  ## system packages and .venv; quick when all is there
	@scripts/setup

demo: setup  ## lab hosts, provisioned by pyinfra, and who reaches whom on them
	@$(call as_root,zmqfleet lab up)
	pyinfra -y inventory deploy.py
	zmqfleet probe
	@printf '%s\n' '' 'The lab stays up. Next, with .venv/bin on PATH (. .venv/bin/activate):' \
		'  zmqfleet lab ssh broker1    log in to a host' \
		'  zmqfleet view broker1       what that host is declared to be' \
		'  make test                   all checks, on a lab of their own' \
		'  make lab-down               remove the lab'

lint: setup  ## static checks
	pre-commit run --all-files --color=never

unit: setup  ## tests that touch no host
	pytest --numprocesses=auto tests/unit tests/render

thorough: setup  ## 10,000 projects with odd variables, where the unit tests try 300
	pytest -q --hypothesis-profile=thorough tests/unit/test_hostile_variables.py -k any_project

twins: setup  ## twin labs, one by each engine, compared: as provisioned, and after all that may happen to a fleet
	@$(call as_root,pytest -p no:cacheprovider tests/parity tests/lifecycle)

lab-tests: setup  ## both engines, drift and the probe on a lab with faults
	@$(call as_root,pytest -p no:cacheprovider tests/lab)

adoption: setup  ## a team's repository of its own: services of every shape, its secrets, its inventory, its changes
	@$(call as_root,pytest -p no:cacheprovider tests/adoption)

hostile: setup  ## hosts, builders and networks that lie, stall and break in, on a lab of their own
	@$(call as_root,pytest -p no:cacheprovider tests/hostile)

ways: setup  ## the ways in which the engines may be used: a part of a run, a few hosts at a time, playbooks of one's own
	@$(call as_root,pytest -p no:cacheprovider tests/ways)

kernels: setup  ## virtual machines whose kernels enforce AppArmor and SELinux
	@$(call as_root,pytest -p no:cacheprovider tests/kernels)

packages: setup  ## wheel and collection as users get them, each alone, on a lab
	@$(call as_root,pytest -p no:cacheprovider tests/packages)

molecule: setup  ## molecule's scenarios, four at a time: the fleet, and each role; also molecule-firewall, …
	@$(MAKE) --no-print-directory $(LANES) $(or $(SCENARIOS),$(error molecule/ has no scenario))

$(SCENARIOS): molecule-%: setup
	@$(call as_root,NO_COLOR=1 molecule test --scenario-name $*)

# each has labs of its own, and waits for its hosts more than it computes
on-hosts: setup
	@$(MAKE) --no-print-directory $(LANES) twins lab-tests adoption hostile ways kernels packages thorough $(or $(SCENARIOS),$(error molecule/ has no scenario))

test: lint unit on-hosts  ## all checks; about an hour
	@echo 'make test: all passed'

bench: setup  ## how long both engines take, as multiples of floors; about 30 minutes
	@$(call as_root,bench/converge)

lab-down: setup  ## remove the demo's lab
	@$(call as_root,zmqfleet lab down)

clean:  ## remove .venv, caches and builds; labs stay (make lab-down)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .ansible dist build
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

constraints:  ## pin the newest packages that pyproject.toml allows, with hashes
	@set -eu; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	python3 -m venv "$$work/venv"; \
	"$$work/venv/bin/pip" install --quiet uv; \
	"$$work/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --extra test --generate-hashes \
		--no-header --no-emit-index-url --no-emit-find-links pyproject.toml --output-file "$$work/pins"; \
	sed '/^[^#]/,$$d' constraints.txt >"$$work/new"; \
	cat "$$work/pins" >>"$$work/new"; \
	cp "$$work/new" constraints.txt
