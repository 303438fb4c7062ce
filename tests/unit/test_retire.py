"""A host that leaves: what is done there, in which order, and what is said when it cannot be."""

import shlex

import pytest
from host_model import Engine, ModelHost, Modelled
from team_project import CLIENT, GROUPS, SERVICE, Project, fleet_of

from zmqfleet import locking, remote
from zmqfleet.converge import Ask, Execute
from zmqfleet.fleet import Fleet, FleetError
from zmqfleet.inventory import Host
from zmqfleet.retire import retire


class Ssh:
    """In place of ssh, which goes to model hosts; a command that holds `refused` ends with `status`, and says why."""

    def __init__(self, fleet: Fleet, hosts: dict[str, ModelHost]) -> None:
        self.fleet, self.hosts = fleet, hosts
        self.commands: list[str] = []
        self.refused, self.status, self.why = "", 1, "no such luck"
        self.interrupts = False  # Ctrl-C in place of a refusal

    def run(self, host: Host, *command: str, seconds: float) -> remote.Answer:
        """Runs `sh -c` there."""
        (text,) = shlex.split(command[-1])
        if self.refused and self.refused in text:
            if self.interrupts:
                raise KeyboardInterrupt
            return remote.Answer(self.status, "", self.why)
        self.commands.append(text)
        words = shlex.split(text) if text.startswith("env ") else []
        action = Execute(tuple(words[2:])) if words else Ask(text)
        answer = self.hosts[host.name].do(self.fleet, action)
        return remote.Answer(0, answer.stdout if answer else "", "")

    def first(self, part: str) -> int:
        """The place of the first command that holds this."""
        return next(place for place, text in enumerate(self.commands) if part in text)

    def change(self, part: str) -> int:
        """The same among those that change something."""
        return next(
            place for place, text in enumerate(self.commands) if text.startswith("env ") and part in text
        )


@pytest.fixture
def ssh(project: Project, modelled: Modelled, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    """A fleet after a run."""
    fleet = fleet_of(project.root, GROUPS, [SERVICE, CLIENT])
    assert isinstance(fleet, Fleet)
    hosts = dict(modelled(fleet, {}))
    Engine(hosts).run(fleet)
    found = Ssh(fleet, hosts)
    monkeypatch.setattr(remote, "run", found.run)
    return found


def test_all_goes_and_the_keys_are_forgotten(ssh: Ssh) -> None:
    said: list[str] = []
    assert (ssh.fleet.state / "curve" / "broker1").is_dir()
    retire(ssh.fleet, "broker1", said.append)
    host = ssh.hosts["broker1"]
    assert (host.processes, host.users, host.enabled) == ({}, {}, set())
    assert not any("zmqfleet" in path for path in host.paths)
    assert not (ssh.fleet.state / "curve" / "broker1").exists()
    assert (ssh.fleet.state / "curve" / "broker2").is_dir()
    assert said[:2] == [
        "broker1: unit quotes.service: no longer declared",
        "broker1: unit zmqfleet-firewall.service: no longer declared",
    ]
    assert ssh.first(locking.PATH) < ssh.first("env ")
    assert ssh.change("systemctl stop") < ssh.change("/etc/systemd/system/quotes.service")
    assert "rm -f" in ssh.commands[-1]
    assert locking.PATH in ssh.commands[-1], "the lock is given back"


@pytest.mark.parametrize("refused", ["systemctl stop", "-- /etc/zmqfleet/quotes/environment"])
@pytest.mark.parametrize(("status", "words"), [(1, ": no such luck"), (255, "broker1: no such luck")])
def test_what_fails_is_said_and_the_keys_stay(ssh: Ssh, refused: str, status: int, words: str) -> None:
    ssh.refused, ssh.status = refused, status
    with pytest.raises(FleetError, match=words):
        retire(ssh.fleet, "broker1", lambda _: None)
    assert (ssh.fleet.state / "curve" / "broker1").is_dir()
    assert ("unit", "quotes.service") in ssh.hosts["broker1"].manifest()
    assert locking.PATH in ssh.commands[-1]
    assert "rm -f" in ssh.commands[-1], "others may try"
    ssh.refused = ""
    retire(ssh.fleet, "broker1", lambda _: None)
    assert ssh.hosts["broker1"].processes == {}


def test_who_interrupts_is_told_what_was_done_and_keeps_nobody_out(ssh: Ssh) -> None:
    ssh.refused, ssh.interrupts = "-- /etc/zmqfleet/quotes/environment", True
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        retire(ssh.fleet, "broker1", said.append)
    assert said[0] == "broker1: unit quotes.service: no longer declared"
    assert said[-1] == "broker1: interrupted, and perhaps half-way; run it again"
    assert locking.PATH in ssh.commands[-1]
    assert "rm -f" in ssh.commands[-1], "others may try"


def test_no_secret_is_quoted(project: Project, ssh: Ssh) -> None:
    secret = {**SERVICE, "env": {"REGION": "correct-horse"}}
    fleet = fleet_of(project.root, GROUPS, [secret, CLIENT])
    assert isinstance(fleet, Fleet)
    ssh.refused, ssh.why = "systemctl stop", "no luck with correct-horse"
    with pytest.raises(FleetError, match=r"^broker1: [^b].*: no luck with \*\*\*$"):
        retire(fleet, "broker1", lambda _: None)


def test_a_host_whose_manifest_is_gone_stays(ssh: Ssh) -> None:
    ssh.hosts["broker1"]._remove("/etc/zmqfleet/manifest")
    with pytest.raises(FleetError, match=r"^broker1: /etc/zmqfleet/manifest is gone, so nobody knows"):
        retire(ssh.fleet, "broker1", lambda _: None)
    assert "quotes.service" in ssh.hosts["broker1"].processes


def test_a_host_leaves_whatever_key_it_shows(ssh: Ssh) -> None:
    key = ssh.fleet.state / "curve" / "broker1" / "quotes.pub"
    key.write_text("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\n")
    retire(ssh.fleet, "broker1", lambda _: None)
    assert not key.parent.exists()
    assert ssh.hosts["broker1"].processes == {}


def test_a_host_that_nobody_knows_is_refused(ssh: Ssh) -> None:
    with pytest.raises(FleetError, match="no host 'broker3'; did you mean 'broker2'"):
        retire(ssh.fleet, "broker3", lambda _: None)
    assert ssh.commands == []
