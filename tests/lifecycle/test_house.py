"""A capability is its module, its role directory and its place in the order: nothing else has to know of it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from labs import ENGINES, ROOT, Changes, Lab, command

NOTICE = "/etc/zmqfleet/notice"
MODULE = '''\
"""A notice on every host."""

from zmqfleet.capabilities.part import CONFIGURE, Part
from zmqfleet.render import render
from zmqfleet.resources import Directory, File, Inline, Step


def parts(fleet, host, leaving):
    text = render("notice", "notice.j2", {"_notice_text": fleet.hosts[host].variables["zmq_notice"]})
    file = File("/etc/zmqfleet/notice/text", Inline.text(text), "600")
    count = Step("notice counted", "test -e /etc/zmqfleet/notice/text", ("logger", "noticed"), after=(file.name,))
    yield Part("notice", CONFIGURE, (Directory("/etc/zmqfleet/notice"), file, count))
'''
ROLE = {
    "README.md": "# notice\n",
    "defaults/main.yml": "---\nzmq_notice: Keep out\n",
    "meta/argument_specs.yml": """\
---
argument_specs:
  main:
    short_description: Notice
    description: A notice.
    options:
      zmq_notice:
        type: str
        default: Keep out
        description: Its text.
""",
    "templates/notice.j2": "{{ _notice_text }}\n",
    "tasks/main.yml": """\
---
- name: Configure
  zmqfleet.core.converge:
    phase: configure
    capability: notice
""",
}
PLACED = {
    "directory /etc/zmqfleet/notice: missing",
    "file /etc/zmqfleet/notice/text: missing",
    "step notice counted: to be done",
}
GONE = {
    "directory /etc/zmqfleet/notice: no longer declared",
    "file /etc/zmqfleet/notice/text: no longer declared",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree."""
    copy = tmp_path_factory.mktemp("house") / "tree"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    return copy


class House:
    """The lab, with the code and the project of a copy of this tree."""

    def __init__(self, lab: Lab, tree: Path) -> None:
        self.lab, self.tree = lab.of(tree), tree

    def engine(self, engine: str, *options: str) -> Changes:
        """What an engine changes."""
        run = command(engine, self.lab.inventory, *options)
        return self.lab.run(*run, cwd=self.tree, PYTHONPATH=str(self.tree / "src")).must_succeed().changes

    def order(self, old: str, new: str) -> None:
        """Changes the one file that holds the order."""
        path = self.tree / "src" / "zmqfleet" / "capabilities" / "__init__.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_capability_is_placed_mended_forecast_and_retired(lab: Lab, tree: Path, engine: str) -> None:
    other = ENGINES[1 - ENGINES.index(engine)]
    house = House(lab, tree)
    hosts = sorted(lab.fleet.hosts)
    module = tree / "src" / "zmqfleet" / "capabilities" / "notice.py"
    module.write_text(MODULE)
    for name, text in ROLE.items():
        path = tree / "roles" / "notice" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    house.order("import firewall, golang", "import firewall, golang, notice")
    house.order('    "firewall": firewall,\n', '    "firewall": firewall,\n    "notice": notice,\n')

    assert house.engine(engine) == {(host, change) for host in hosts for change in PLACED}
    assert lab.sh("stranger1", f"stat -c '%a %U' {NOTICE}/text; cat {NOTICE}/text") == "600 root\nKeep out\n"
    assert house.engine(other) == house.engine(engine) == set()

    lab.sh("broker1", f"echo x >>{NOTICE}/text")
    drift = {
        "file /etc/zmqfleet/notice/text: content",
        "step notice counted: /etc/zmqfleet/notice/text changes",
    }
    forecast = {"pyinfra": "--dry", "ansible": "--check"}
    for one in ENGINES:
        assert house.engine(one, forecast[one]) == {("broker1", change) for change in drift}
    assert house.engine(engine)
    assert lab.sh("broker1", f"cat {NOTICE}/text") == "Keep out\n"

    house.order("import firewall, golang, notice", "import firewall, golang")
    house.order('    "notice": notice,\n', "")
    shutil.rmtree(tree / "roles" / "notice")
    module.unlink()
    for one in ENGINES:
        assert house.engine(one, forecast[one]) == {(host, change) for host in hosts for change in GONE}
    assert house.engine(engine) == {(host, change) for host in hosts for change in GONE}
    assert lab.sh("broker1", f"ls {NOTICE}", check=False) == ""
    assert house.engine(other) == set()
