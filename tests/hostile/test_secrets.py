"""A secret in a service's environment is seen by that service's user and by root on its hosts, and by nobody else."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from labs import ENGINES, ROOT, Lab, Run, project, variables

CANARY = "canary-3f9c1b7e"
NAME = "QUOTES_TEST_TOKEN"


@pytest.fixture
def secretive(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """The lab, with quotes that have a secret, which they tell where their source says so."""
    declared = variables()
    declared["zmq_services"][0]["env"][NAME] = CANARY
    root = project(tmp_path / "project", declared)
    yield lab.of(root)
    lab.converge("pyinfra")
    assert lab.drift() == set()


@contextmanager
def no_argument_tells() -> Iterator[None]:
    """While it is entered, no process has it as an argument, here or on a host: those of labs are seen from here."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if CANARY.encode() in (line := path.read_bytes()):
                        seen.add(line.decode(errors="replace")[:400])
                except OSError:
                    pass  # it has ended

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert seen == set()


def files_that_tell(since: float, project: Path) -> list[str]:
    """Files of this machine's outside of the project that were written since then and hold it."""
    places = ["/tmp", "/var/tmp", "/root", str(ROOT)]
    young = ["-xdev", "-type", "f", "-size", "-4M", "-newermt", f"@{since}", "!", "-path", f"{project}/*"]
    found = subprocess.run(["find", *places, *young, "-exec", "grep", "-l", CANARY, "{}", "+"],
                           capture_output=True, text=True, check=False)  # fmt: skip
    return [line for line in found.stdout.splitlines() if not line.endswith((".py", ".pyc"))]


def test_nothing_tells_a_secret(secretive: Lab, tmp_path: Path) -> None:
    since, log = time.time(), tmp_path / "ansible.log"
    loud = {"ANSIBLE_LOG_PATH": str(log), "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "true"}
    with no_argument_tells():
        runs = [
            secretive.run("zmqfleet", "validate"),
            secretive.run("zmqfleet", "view", "broker1"),
            secretive.run("zmqfleet", "view", "broker1", "--json"),
            secretive.run("zmqfleet", "drift"),
            secretive.run("zmqfleet", "status", "--json"),
            secretive.engine("pyinfra", "--dry", "-vvv", "--debug", "--diff"),
            secretive.run("ansible-playbook", "-i", str(secretive.inventory), "--check", "--diff", "-vvvv", "site.yml",
                          **loud),
            secretive.engine("pyinfra", "-vvv", "--debug", "--limit", "broker1"),
            secretive.run("ansible-playbook", "-i", str(secretive.inventory), "--diff", "-vvvv", "site.yml", **loud),
            secretive.run("zmqfleet", "probe", "--json", "-"),
        ]  # fmt: skip
    assert secretive.drift() == set()
    for run in runs:
        assert CANARY not in run.output, run.command
    # what grep is called with, sudo puts into the journal
    assert secretive.sh("broker1", "grep -cFf - /etc/zmqfleet/quotes/environment", CANARY) == "1\n"
    assert CANARY not in log.read_text()
    assert files_that_tell(since, secretive.project) == []
    search = "grep -rlFf - /etc /home /opt /root /run /tmp /var"
    for host in secretive.fleet.hosts:
        # where nothing is to be found grep fails; that it works is seen on the brokers
        told = secretive.sh(host, search, CANARY, check=False)
        holds = host in secretive.fleet.members("brokers")
        assert told == "/etc/zmqfleet/quotes/environment\n" * holds
        assert CANARY not in secretive.sh(host, "journalctl --no-pager --since -1h")


def followed(lab: Lab) -> Run:
    """What `logs -f` says in its first seconds."""
    return lab.run("timeout", "--signal=INT", "10", "zmqfleet", "logs", "-f", "quotes")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_service_says_at_its_end_is_told_without_its_secrets(secretive: Lab, engine: str) -> None:
    main = secretive.project / "examples" / "quotes" / "cmd" / "quotes" / "main.go"
    text = main.read_text().replace(
        "func main() {", f'func main() {{\n\tpanic("with " + os.Getenv("{NAME}"))', 1
    )
    main.write_text(text if '"os"' in text else text.replace("import ", 'import "os"\nimport ', 1))
    failed = secretive.engine(engine)
    assert failed.status != 0
    for said in (failed, secretive.run("zmqfleet", "logs", "quotes"), followed(secretive)):
        assert "panic: with ***" in said.output
        assert CANARY not in said.output
