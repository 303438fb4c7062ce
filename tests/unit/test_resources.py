"""Each kind of resource: how a host is read, what is made of it, and what differs."""

import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from zmqfleet import desired, fleet, resources
from zmqfleet.resources import (
    Actual,
    Artefact,
    Content,
    Directory,
    File,
    Generations,
    Inline,
    Key,
    Link,
    Made,
    Package,
    Peers,
    Pending,
    Profile,
    ReadError,
    Resource,
    Rule,
    Step,
    Table,
    Unit,
    User,
)
from zmqfleet.resources.profile import _DENIED, Denial, told
from zmqfleet.resources.rule import families

ROOT = Path(__file__).parents[2]
NEEDED = Package("libzmq5")
GO = Package("go", by_release=(("12", "golang-1.19-go"), ("13", "golang-1.24-go")))
USER = User("quotes", "/opt/q")
PLAIN = Directory("/etc/q")
EXACT = Directory("/etc/q/clients", only=("one.key",))
FILE = File("/etc/q/a", Inline.text("x"))
LISTED = File("/etc/q/clients/one.key", Inline.text("y"))
BINARY = File("/opt/q/releases/1/q", Artefact(Path("/nowhere/q"), None), "755")
LINK = Link("/opt/q/current", "releases/1")
KEY = Key("quotes", "/etc/q", "/usr/local/lib/q/curve-keypair")
KEPT = Generations("/opt/q/releases", 2, ("1",))
STEP = Step("what is kept", "true", ("tool", "--keep"))
TABLE = Table("inet q", "table inet q {\n}\n", "/etc/q/nft")
PEERS = Peers("quotes.service", ("192.0.2.4/32", "192.0.2.0/29"), ("unit-guard", "quotes.service"))
PROFILE = Profile("zmqfleet.quotes", "/etc/q/apparmor", "enforce")
UNIT = Unit(
    "quotes.service",
    start=("unit-start", "quotes.service"),
    restarted_by=("/etc/q/a", "/etc/q/curve.key_secret"),
    program="/opt/q/releases/1/q",
    user="quotes",
    confined="zmqfleet.quotes (enforce)",
    unproven="/etc/q/.proven",
)
EVERY = (
    NEEDED,
    GO,
    USER,
    PLAIN,
    EXACT,
    FILE,
    LISTED,
    BINARY,
    LINK,
    KEY,
    KEPT,
    STEP,
    TABLE,
    PEERS,
    PROFILE,
    UNIT,
)

# printf x | sha256sum
X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
Y = "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"
# printf tableinetq{} | sha256sum
TABLE_Q = "e5fb021859d66f7ef67ad197cf7de53e92730997f26a2b52650249719b467484"
# 1795269190.5 is Sat 2026-11-21 13:53:10.500000 UTC
AS_DECLARED = f"""\
== zmqfleet release
12
== zmqfleet manifest
{{"capability": "firewall", "kind": "rule", "name": "a.b 5555", "endpoint": "a.b", "port": 5555, "peers": []}}
== zmqfleet package
installed|libzmq5
installed|golang-1.19-go
config-files|libczmq4
== zmqfleet user
quotes:/opt/q:/usr/sbin/nologin:quotes
== zmqfleet directory
directory|755|root|root|1795269100.000000001|/etc/q
directory|755|root|root|1795269100.000000000|/etc/q/clients
== zmqfleet file
regular file|644|root|root|1795269190.400000000|/etc/q/a
regular file|644|root|root|1795269100.000000000|/etc/q/clients/one.key
regular file|755|root|root|1795269100.000000000|/opt/q/releases/1/q
{X}  /etc/q/a
{Y}  /etc/q/clients/one.key
== zmqfleet link
symbolic link|777|root|root|1795269100.000000000|/opt/q/current
releases/1||/opt/q/current
== zmqfleet key
regular file|400|root|root|1795269100.000000000|/etc/q/curve.key_secret
regular file|644|root|root|1795269100.000000000|/etc/q/curve.key
quotes|some key
== zmqfleet generations
/opt/q/releases|yes||
/opt/q/releases|yes|1795269100.500000000|0
/opt/q/releases|yes|1795269200.000000000|1
== zmqfleet rule
5555|quotes.service|quotes
22||sshd
22|ssh.socket|systemd
== zmqfleet table
{TABLE_Q}|inet q
== zmqfleet step
what is kept
== zmqfleet peers
198.51.100.53
fe80::53%eth0
dns.example.com
10.0.0.53:5353
quotes.service|198.51.100.53/32
quotes.service|fe80::53/128
quotes.service|::1/128
quotes.service|192.0.2.0/29
quotes.service|127.0.0.0/8
== zmqfleet profile
enabled|
loaded|zmqfleet.quotes (enforce)
loaded|zmqfleet.old (complain)
== zmqfleet unit
now=1795269300.000000000
MainPID=4711
exe=/opt/q/releases/1/q
user=quotes
label=zmqfleet.quotes (enforce)
NRestarts=0
ExecMainStartTimestamp=Sat 2026-11-21 13:53:10.500000 UTC
ExecMainStatus=0
Result=success
LoadState=loaded
ActiveState=active
SubState=running
FragmentPath=/etc/systemd/system/quotes.service
UnitFileState=enabled
NeedDaemonReload=no
Id=quotes.service


== zmqfleet end
"""


def actual(old: str = "", new: str = "") -> Actual:
    """A host as declared, but for one thing."""
    assert AS_DECLARED.count(old) == 1 or not old
    return resources.parse(AS_DECLARED.replace(old, new).splitlines())


def differences(found: Actual) -> dict[str, str]:
    return {one.name: why for one in EVERY if (why := one.differs(found))}


def test_all_that_was_printed_is_read() -> None:
    found = actual()
    assert (found.release, found.packages, found.keys) == (
        "12",
        {"libzmq5", "golang-1.19-go"},
        {"quotes": "some key"},
    )
    (entry,) = found.manifest
    assert (entry["capability"], entry["kind"], entry["name"]) == ("firewall", "rule", "a.b 5555")
    assert found.users == {"quotes": "/opt/q:/usr/sbin/nologin:quotes"}
    assert found.links == {"/opt/q/current": "releases/1"}
    assert found.sha256 == {"/etc/q/a": X, "/etc/q/clients/one.key": Y}
    assert found.paths["/etc/q"] == resources.Entry("directory", "755", "root", "root", 1795269100.000000001)
    # those that have run first, and of them the latest
    assert found.generations == {"/opt/q/releases": {"1": 1795269200.0, "0": 1795269100.5}}
    assert list(found.generations["/opt/q/releases"]) == ["1", "0"]
    assert found.listeners == {5555: {"quotes.service"}, 22: {"sshd", "ssh.socket"}}
    assert found.steps == {"what is kept"}
    assert found.tables == {"inet q": TABLE_Q}
    assert found.name_servers == ["198.51.100.53", "fe80::53"]
    assert found.profiles == {"zmqfleet.quotes": "enforce", "zmqfleet.old": "complain"}
    assert found.units["quotes.service"]["exe"] == "/opt/q/releases/1/q"


def test_nothing_differs_where_all_is_as_declared() -> None:
    assert differences(actual()) == {}


@pytest.mark.parametrize(
    ("old", "new", "name", "why"),
    [
        ("installed|libzmq5\n", "", "libzmq5", "missing"),
        ("installed|libzmq5", "half-configured|libzmq5", "libzmq5", "missing"),
        ("installed|golang-1.19-go", "installed|golang-1.24-go", "go", "missing"),
        ("release\n12", "release\n11", "go", "missing"),
        ("quotes:/opt/q:/usr/sbin/nologin:quotes\n", "", "quotes", "missing"),
        ("q:/usr/sbin/nologin", "q:/bin/bash", "quotes", "home, shell and groups /opt/q:/bin/bash:quotes"),
        (":/opt/q:", ":/home/q:", "quotes", "home, shell and groups /home/q:/usr/sbin/nologin:quotes"),
        ("nologin:quotes", "nologin:users", "quotes", "home, shell and groups /opt/q:/usr/sbin/nologin:users"),
        ("quotes:/opt/q:/usr/sbin/nologin:quotes", "quotes:a group without a user", "quotes",
         "is a group without a user"),
        ("directory|755|root|root|1795269100.000000001", "directory|777|root|root|1", "/etc/q", "mode 777"),
        ("directory|755|root|root|1795269100.000000001", "directory|755|q|root|1", "/etc/q", "owner q:root"),
        ("directory|755|root|root|1795269100.000000001", "directory|755|root|q|1", "/etc/q", "owner root:q"),
        ("directory|755|root|root|1795269100.000000001", "symbolic link|755|root|root|1", "/etc/q",
         "is a symbolic link"),
        ("directory|755|root|root|1795269100.000000001|/etc/q\n", "", "/etc/q", "missing"),
        ("== zmqfleet file\n", "regular file|644|root|root|1|/etc/q/clients/a|b\n== zmqfleet file\n",
         "/etc/q/clients", "holds a|b"),
        ("regular file|644|root|root|1795269190.400000000|/etc/q/a\n", "", "/etc/q/a", "missing"),
        ("regular file|644|root|root|1795269190.4", "regular file|600|root|root|1795269190.4", "/etc/q/a", "mode 600"),
        ("regular file|644|root|root|1795269190.4", "regular file|644|q|root|1795269190.4", "/etc/q/a",
         "owner q:root"),
        ("regular file|644|root|root|1795269190.4", "directory|644|root|root|1795269190.4", "/etc/q/a",
         "is a directory"),
        (f"{X}  /etc/q/a", f"{Y}  /etc/q/a", "/etc/q/a", "content"),
        (f"{X}  /etc/q/a\n", "", "/etc/q/a", "content"),
        ("regular file|755|root|root|1795269100.000000000|/opt/q/releases/1/q\n", "", "/opt/q/releases/1/q",
         "missing"),
        ("releases/1||", "releases/0||", "/opt/q/current", "leads to releases/0"),
        ("symbolic link|777|root|root|1795269100.000000000|/opt/q/current\nreleases/1||/opt/q/current\n",
         "||/opt/q/current\n", "/opt/q/current", "missing"),
        ("symbolic link|777|root|root|1795269100.000000000|/opt/q/current\nreleases/1",
         "directory|755|root|root|1|/opt/q/current\n", "/opt/q/current", "is a directory"),
        ("quotes|some key\n", "", "quotes", "missing, or not root's alone"),
        ("/opt/q/releases|yes||\n", "/opt/q/releases|yes||\n/opt/q/releases|yes||x\n", "/opt/q/releases", "1 to go"),
        ("what is kept\n", "", "what is kept", "to be done"),
        (f"{TABLE_Q}|inet q\n", "", "inet q", "missing"),
        (TABLE_Q, Y[::-1], "inet q", "content"),
        # whom systemd lets through, one that is no longer a peer, one that is not let through yet
        ("192.0.2.0/29\n", "192.0.2.0/29\nquotes.service|192.0.2.8/32\n", "quotes.service", "differ"),
        ("192.0.2.0/29", "192.0.2.0/30", "quotes.service", "differ"),
        ("peers\n198.51.100.53\n", "peers\n198.51.100.53\n198.51.100.54\n", "quotes.service", "differ"),
        # said in other words: nothing differs
        ("192.0.2.0/29\n", "192.0.2.0/30\nquotes.service|192.0.2.4/30\n", "quotes.service", ""),
        ("LoadState=loaded", "LoadState=not-found", "quotes.service", "missing"),
        ("=/etc/systemd/system/quotes", "=/lib/systemd/system/quotes", "quotes.service",
         "is that of /lib/systemd/system/quotes.service"),
        ("UnitFileState=enabled", "UnitFileState=disabled", "quotes.service", "is disabled"),
        ("UnitFileState=enabled", "UnitFileState=", "quotes.service", "is not enabled"),
        ("ActiveState=active", "ActiveState=failed", "quotes.service", "is failed"),
        ("NeedDaemonReload=no", "NeedDaemonReload=yes", "quotes.service", "must be loaded again"),
        ("1795269190.400000000", "1795269190.600000000", "quotes.service", "runs with an earlier /etc/q/a"),
        ("400|root|root|1795269100.000000000", "400|root|root|1795269200.000000000", "quotes.service",
         "runs with an earlier /etc/q/curve.key_secret"),
        ("exe=/opt/q/releases/1/q", "exe=/opt/q/releases/0/q", "quotes.service", "runs /opt/q/releases/0/q"),
        ("exe=/opt/q/releases/1/q", "exe=/opt/q/releases/1/q (deleted)", "quotes.service",
         "runs /opt/q/releases/1/q (deleted)"),
        ("exe=/opt/q/releases/1/q\n", "", "quotes.service", "runs nothing"),
        # whose user was removed, and is another now, or nobody
        ("user=quotes", "user=spy", "quotes.service", "runs as spy"),
        ("user=quotes", "user=", "quotes.service", "runs as nobody known"),
        ("label=zmqfleet.quotes (enforce)", "label=unconfined", "quotes.service",
         "is unconfined to AppArmor, not zmqfleet.quotes (enforce)"),
        ("label=zmqfleet.quotes (enforce)", "label=zmqfleet.quotes (complain)", "quotes.service",
         "is zmqfleet.quotes (complain) to AppArmor, not zmqfleet.quotes (enforce)"),
        # a kernel without AppArmor, which is nobody's fault
        ("label=zmqfleet.quotes (enforce)\n", "", "quotes.service", ""),
        ("loaded|zmqfleet.quotes (enforce)\n", "", "zmqfleet.quotes", "missing"),
        ("loaded|zmqfleet.quotes (enforce)", "loaded|zmqfleet.quotes (complain)", "zmqfleet.quotes", "is to complain"),
        ("enabled|\nloaded|zmqfleet.quotes (enforce)\nloaded|zmqfleet.old (complain)\n", "", "zmqfleet.quotes", ""),
        ("== zmqfleet unit\n", "== zmqfleet unit\ndirectory|700|root|root|1|/etc/q/.proven\n", "quotes.service",
         "was not proven to run"),
        ("now=1795269300.0", "now=1795269200.0\nNRestarts=3\nX=", "quotes.service", ""),
        # the latest of several counts, unless it is from the future
        ("Result=success", "dropin=1.0\ndropin=1795269190.600000000\ndropin=2.0", "quotes.service",
         "runs with an earlier drop-in"),
        ("Result=success", "dropin=1795269190.400000000", "quotes.service", ""),
        ("Result=success", "dropin=1795269400.000000000", "quotes.service", ""),
    ],
)  # fmt: skip
def test_what_differs_is_said_and_nothing_else(old: str, new: str, name: str, why: str) -> None:
    assert differences(actual(old, new)) == ({name: why} if why else {})


@pytest.mark.parametrize(
    ("seconds", "why"), [(10, "keeps restarting (3 times, status 1)"), (29, None), (31, "")]
)
def test_a_unit_that_systemd_started_again_lately_may_be_in_a_loop(seconds: int, why: str | None) -> None:
    text = AS_DECLARED.replace("now=1795269300.0", f"now={1795269190 + seconds}.5")
    text = text.replace("NRestarts=0", "NRestarts=3").replace("ExecMainStatus=0", "ExecMainStatus=1")
    assert UNIT.differs(resources.parse(text.splitlines())) == (
        "keeps restarting (3 times, status 1)" if why is None else why
    )


def test_a_process_is_older_than_what_was_placed_in_the_same_second() -> None:
    found = actual("1795269190.400000000", "1795269190.500001000")
    assert UNIT.restart(found) == "runs with an earlier /etc/q/a"
    assert not UNIT.restart(actual("1795269190.400000000", "1795269190.500000000"))


def test_a_blank_host_lacks_all_of_it() -> None:
    assert differences(Actual(release="12")) == {
        **{one.name: "missing" for one in (NEEDED, GO, PLAIN, EXACT, FILE, LISTED, BINARY, LINK, UNIT)},
        "quotes": "missing, or not root's alone",
        "what is kept": "to be done",
        "inet q": "missing",
    }
    assert USER.differs(Actual()) == "missing"
    assert not any(one.is_there(Actual()) for one in EVERY)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (Pending("nobody knows the key of q yet"), "nobody knows the key of q yet"),
        (Made(), ""),
        (Artefact(Path("/nowhere"), None), "missing"),
    ],
)
def test_content_that_the_controller_does_not_know_stays_as_it_is(content: Content, missing: str) -> None:
    file = replace(FILE, content=content)
    assert file.differs(actual()) == ""
    assert file.differs(Actual()) == missing


def test_an_artefact_is_compared_once_its_digest_is_known() -> None:
    assert replace(FILE, content=Artefact(Path("/nowhere"), X)).differs(actual()) == ""
    assert replace(FILE, content=Artefact(Path("/nowhere"), Y)).differs(actual()) == "content"


def test_what_a_step_makes_has_its_mode_and_owner_compared() -> None:
    made = replace(FILE, content=Made())
    assert made.differs(actual("regular file|644|root|root|1795269190.4", "regular file|600|root|root|1.4"))


def test_generations_in_use_stay_whatever_their_age() -> None:
    found = Actual(generations={"/opt/q/releases": dict.fromkeys("54321", 0.0)})
    assert KEPT.surplus(found) == ["/opt/q/releases/4", "/opt/q/releases/3", "/opt/q/releases/2"]
    # what is in use and not there yet has its place already
    assert Generations("/opt/q/releases", 1, ("6",)).surplus(found) == [
        f"/opt/q/releases/{number}" for number in (5, 4, 3, 2, 1)
    ]
    assert KEPT.commands(found, False) == [
        ("rm", "-rf", "--", "/opt/q/releases/4", "/opt/q/releases/3", "/opt/q/releases/2")
    ]


def test_what_ran_stays_before_what_never_did(tmp_path: Path) -> None:
    for name, ran in (("old", 100), ("older", 50), ("oldest", 10), ("failed", 0), ("placed", 0)):
        (tmp_path / name).mkdir()
        if ran:
            (tmp_path / name / ".ran").touch()
            os.utime(tmp_path / name / ".ran", (ran, ran))
    one = Generations(str(tmp_path), 3, ("placed",))
    done = subprocess.run(
        ["sh", "-c", resources.read([one], "/nowhere")], capture_output=True, text=True, check=True
    )
    found = resources.parse(done.stdout.splitlines())
    assert list(found.generations[str(tmp_path)].items())[:3] == [("old", 100), ("older", 50), ("oldest", 10)]
    assert sorted(one.surplus(found)) == [f"{tmp_path}/failed", f"{tmp_path}/oldest"]


def test_what_is_left_of_a_generation_is_none_and_goes(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "new"):
        (tmp_path / name).mkdir()
    for name in ("1", "3"):
        (tmp_path / name / "q").write_text("x")
    one = Generations(str(tmp_path), 2, ("new",), "q")
    done = subprocess.run(
        ["sh", "-c", resources.read([one], "/nowhere")], capture_output=True, text=True, check=True
    )
    found = resources.parse(done.stdout.splitlines())
    assert sorted(found.generations[str(tmp_path)]) == ["1", "3"]
    surplus = one.surplus(found)
    assert len(surplus) == 2
    assert f"{tmp_path}/2" in surplus, "what failed to be placed"
    assert f"{tmp_path}/new" not in surplus, "what is being placed"


def test_what_is_from_the_future_starts_no_unit_anew() -> None:
    assert UNIT.restart(actual("1795269190.400000000|/etc/q/a", "1795269200.400000000|/etc/q/a")) == (
        "runs with an earlier /etc/q/a"
    )
    assert UNIT.restart(actual("1795269190.400000000|/etc/q/a", "1795269400.400000000|/etc/q/a")) == ""


@pytest.mark.parametrize(
    "entry",
    [
        '"endpoint": "a.b", "port": 5555, "peers": ["nonsense"]',
        '"endpoint": "a.b", "port": 5555, "peers": [{{}}]',
        '"endpoint": "a.b", "port": true, "peers": []',
        '"endpoint": "a.b", "port": 0, "peers": []',
        '"endpoint": "a {{ }}", "port": 5555, "peers": []',
    ],
)
def test_a_rule_of_a_manifest_that_can_be_none_is_refused(entry: str) -> None:
    with pytest.raises(resources.ReadError, match="of manifest: "):
        actual('"endpoint": "a.b", "port": 5555, "peers": []', entry)


@pytest.mark.parametrize("name", [r"/tmp/\ud800", r"/tmp/\u001b]0;x", r"/tmp/x\nbroker1: y"])
def test_a_name_of_a_manifest_that_a_terminal_would_obey_is_refused(name: str) -> None:
    line = f'{{"capability": "a", "kind": "file", "name": "{name}"}}'
    with pytest.raises(resources.ReadError, match=r"of manifest: .*not printable"):
        resources.parse(f"== zmqfleet manifest\n{line}\n== zmqfleet end".splitlines())


@pytest.mark.parametrize(
    "entry", ['{"capability": 1, "kind": "file", "name": "/x"}', '{"kind": "file"}', "[]"]
)
def test_an_entry_of_a_manifest_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(resources.ReadError, match="of manifest: "):
        resources.parse(f"== zmqfleet manifest\n{entry}\n== zmqfleet end".splitlines())


def test_a_manifest_without_an_end_is_refused() -> None:
    with pytest.raises(resources.ReadError, match="of manifest: "):
        resources.parse(f"== zmqfleet manifest\n{'[' * 200_000}\n== zmqfleet end".splitlines())


def test_a_unit_of_no_time_is_refused() -> None:
    with pytest.raises(resources.ReadError, match="of unit: "):
        resources.parse("== zmqfleet unit\nId=q.service\n\n== zmqfleet end".splitlines())


def test_what_listens_is_read_where_nothing_is_to_listen_any_more() -> None:
    assert "ss -Hltnp" in resources.read([], "/m")


def test_ends_of_lines_may_be_a_terminals() -> None:
    assert resources.parse(AS_DECLARED.replace("\n", "\r\n").split("\n")) == actual()


def test_what_a_terminal_would_obey_is_not_read() -> None:
    found = actual(
        "regular file|644|root|root|1795269190.400000000|/etc/q/a",
        "regular file|644|\x1b[2J|root|1.4|/etc/q/a",
    )
    assert FILE.differs(found) == "owner \N{REPLACEMENT CHARACTER}[2J:root"


def test_a_user_in_other_groups_or_with_roots_number_is_told() -> None:
    user = User("q", "/opt/q")
    for found, why in {
        "/opt/q:/usr/sbin/nologin:q": "",
        "/opt/q:/usr/sbin/nologin:q sudo": "home, shell and groups /opt/q:/usr/sbin/nologin:q sudo",
        "/opt/q:/usr/sbin/nologin:q:uid-0": "home, shell and groups /opt/q:/usr/sbin/nologin:q:uid-0",
    }.items():
        known = Actual(users={"q": found})
        assert (user.differs(known), user.is_root(known)) == (why, found.endswith("0"))


def test_what_a_service_wrote_is_roots_before_its_user_and_so_its_number_is_free() -> None:
    ((*_, script, name),) = User.remove({"name": "q"})
    assert name == "q"
    state, user, _ = script.partition("userdel")
    assert state.startswith(
        'state=/var/lib/zmqfleet-state/$0; [ ! -d "$state" ] || chown root:root "$state"; '
    )
    assert user


def test_a_secret_key_that_others_could_read_is_closed_again() -> None:
    assert Key("q", "/etc/q", "keypair").commands(Actual(), False) == [
        ("keypair", "/etc/q"),
        ("chown", "root:root", "/etc/q/curve.key_secret", "/etc/q/curve.key"),
        ("chmod", "400", "/etc/q/curve.key_secret"),
        ("chmod", "644", "/etc/q/curve.key"),
    ]


def test_a_user_is_read_with_all_groups_and_roots_number() -> None:
    done = subprocess.run(
        ["sh", "-c", resources.read([User("root", "/root")], "/nowhere")],
        capture_output=True,
        text=True,
        check=True,
    )
    read = resources.parse(done.stdout.splitlines()).users["root"]
    assert read.startswith("/root:")
    assert read.endswith("root:uid-0")


def test_a_unit_is_started_anew_only_for_a_reason() -> None:
    assert UNIT.commands(actual(), triggered=True) == [UNIT.start]
    assert UNIT.commands(actual("ActiveState=active", "ActiveState=failed"), triggered=False) == [UNIT.start]
    assert UNIT.commands(actual("UnitFileState=enabled", "UnitFileState=disabled"), triggered=False) == [
        ("systemctl", "daemon-reload"),
        ("systemctl", "--quiet", "enable", "quotes.service"),
    ]


def test_a_step_is_run_and_a_condition_is_looked_at_again() -> None:
    assert STEP.commands(Actual(), False) == [("tool", "--keep")]
    (command,) = Step("s", check="false", cause="it's $(broken)").commands(Actual(), False)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "it's $(broken)\n")
    (command,) = Step("s", check="true", cause="broken").commands(Actual(), False)
    assert subprocess.run(command, check=False).returncode == 0


def test_peers_are_set_by_the_guard_and_go_with_what_systemd_kept() -> None:
    assert PEERS.commands(Actual(), False) == [("unit-guard", "quotes.service")]
    assert PEERS.is_there(Actual(peers={"quotes.service": ["192.0.2.4/32"]}))
    assert Peers.remove({"name": "q.service"}) == [
        ("sh", "-c", 'rm -rf "/run/systemd/system.control/$0.d"; systemctl daemon-reload', "q.service")
    ]


def test_name_servers_are_found_as_resolvers_find_them() -> None:
    text = "#nameserver 9.9.9.9\nnameserver fe80::1%eth0\n nameserver\t192.0.2.53 # x\nnameserver here\nsearch a\n"
    read = Peers.read([PEERS])
    assert " /etc/resolv.conf;" in read
    done = subprocess.run(
        ["sh", "-c", read.replace("/etc/resolv.conf", "/dev/stdin")],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    found = Actual()
    for line in done.stdout.splitlines():
        Peers.parse(line, found)
    assert found.name_servers == ["fe80::1", "192.0.2.53"]


@pytest.mark.parametrize("network", ["garbage", "10.1.2.3/8", "10.0.0.0/33"])
def test_a_host_that_tells_no_networks_is_not_read(network: str) -> None:
    text = AS_DECLARED.replace("quotes.service|192.0.2.0/29", f"quotes.service|{network}")
    with pytest.raises(ReadError, match="cannot read what it printed of peers"):
        resources.parse(text.splitlines())


@pytest.mark.parametrize(("old", "new"), [
    ("NRestarts=0", "NRestarts=x"), ("now=1795269300.0", "now=x"), ("Result=success", "dropin=x"),
])  # fmt: skip
def test_a_host_that_tells_no_numbers_is_not_read(old: str, new: str) -> None:
    with pytest.raises(ReadError, match="cannot read what it printed of unit"):
        resources.parse(AS_DECLARED.replace(old, new).splitlines())


def test_a_host_that_tells_networks_without_end_is_not_read() -> None:
    many = "".join(f"quotes.service|10.{n >> 8}.{n & 255}.0/24\n" for n in range(20_001))
    with pytest.raises(ReadError, match="more than 20000 networks"):
        resources.parse(AS_DECLARED.replace("quotes.service|192.0.2.0/29\n", many).splitlines())


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of how `nft` and `systemctl` are called, which succeed unless a file `fails` is there."""
    for name in ("nft", "systemctl"):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/log\n[ ! -e {tmp_path}/fails ]\n')
        stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "log"


def test_a_table_that_is_gone_already_may_be_removed(called: Path) -> None:
    (command,) = Table.remove({"name": "inet q"})
    assert subprocess.run(command, check=False).returncode == 0
    assert called.read_text() == "nft list table inet q\nnft delete table inet q\n"
    (called.parent / "fails").touch()
    assert subprocess.run(command, check=False).returncode == 0
    assert called.read_text().splitlines()[2:] == ["nft list table inet q"]


def base(*rules: str, hook: str = "input", policy: str = "accept", more: str = "") -> str:
    """A table's chains: one for what comes in, with rules, and others."""
    lines = "".join(f"\t\t{rule}\n" for rule in rules)
    return (
        f"\tchain in {{\n\t\ttype filter hook {hook} priority filter; policy {policy};\n{lines}\t}}\n{more}"
    )


def chain(name: str, *rules: str) -> str:
    lines = "".join(f"\t\t{rule}\n" for rule in rules)
    return f"\tchain {name} {{\n{lines}\t}}\n"


# as `nft --stateless --terse list table` prints what ufw, firewalld, docker, fail2ban and people have made: what is in
# the table, and whether it drops what nobody has allowed
TABLES = {
    "ufw": (
        "ip filter",
        base("counter jump ufw-before-input", policy="drop", more=chain("ufw-before-input")),
        "input|ip|ufw",
    ),
    "ufw6": ("ip6 filter", base("counter jump ufw6-x", policy="drop", more=chain("ufw6-x")), "input|ip6|ufw"),
    "firewalld": (
        "inet firewalld",
        base(
            "ct state invalid drop", "jump zones", "reject with icmpx admin-prohibited", more=chain("zones")
        ),
        "input|inet|firewalld",
    ),
    "policy": ("inet mine", base("tcp dport 22 accept", policy="drop"), "input|inet|table mine"),
    "odd name": ("inet team:hosts", base(policy="drop"), "input|inet|table team:hosts"),
    "one like ours": ("inet q-mine", base(policy="drop"), "input|inet|table q-mine"),
    "prerouting": ("inet mine", base("counter drop", hook="prerouting"), "input|inet|table mine"),
    "tcp reset": ("ip filter", base("meta l4proto tcp reject with tcp reset"), "input|ip|table filter"),
    "logged": ("ip filter", base('log prefix "saddr 1 " drop'), "input|ip|table filter"),
    "commented": ("ip filter", base('counter drop comment "udp"'), "input|ip|table filter"),
    "all but loopback": ("ip filter", base('iifname != "lo" drop'), "input|ip|table filter"),
    "new ones": ("ip filter", base("ct state new counter drop"), "input|ip|table filter"),
    "by a jump": (
        "inet mine",
        base(
            "ct state established accept",
            "jump a",
            more=chain("a", "goto b") + chain("b", 'log prefix "x" drop'),
        ),
        "input|inet|table mine",
    ),
    "in a circle": ("inet mine", base("jump a", more=chain("a", "jump b") + chain("b", "jump a")), ""),
    "nothing": ("inet mine", base("tcp dport 22 accept"), ""),
    "dormant": ("inet mine", "\tflags dormant\n" + base(policy="drop"), ""),
    "one peer": ("ip filter", base("ip saddr 192.0.2.1 drop", "tcp dport 25 reject"), ""),
    "a comment": ("ip filter", base('accept comment "policy drop; drop"'), ""),
    "fail2ban": (
        "inet f2b-table",
        "\tset addr-set-sshd {\n\t\ttype ipv4_addr\n\t}\n"
        + base("tcp dport 22 ip saddr @addr-set-sshd reject with icmp port-unreachable"),
        "",
    ),
    "iptables' fail2ban": (
        "ip filter",
        base("meta l4proto tcp tcp dport 22 counter jump f2b", more=chain("f2b", "counter drop")),
        "",
    ),
    "docker": (
        "ip filter",
        base(more="\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n")
        + chain("DOCKER-ISOLATION-STAGE-2", "counter drop"),
        "",
    ),
    "what is forwarded": (
        "inet mine",
        base('drop comment "hook input"', hook="forward", policy="drop"),
        "",
    ),
    "frames": ("bridge filter", base(policy="drop"), ""),
    "all but ssh": ("inet mine", base("tcp dport != 22 drop"), "input|inet|table mine"),
    "all but some ports": (
        "ip filter",
        base("tcp dport != { 22, 80 } counter drop"),
        "input|ip|table filter",
    ),
    "all but a network": ("ip filter", base("ip saddr != 10.0.0.0/8 reject"), "input|ip|table filter"),
    "one port for all but a network": ("ip filter", base("ip saddr != 10.0.0.0/8 tcp dport 22 drop"), ""),
    "odd packets": ("ip filter", base("tcp flags & (fin | syn) != syn ct state new drop"), ""),
    "what goes out": (
        "inet mine",
        base('oifname "lo" accept', "udp dport 53 accept", hook="output", policy="drop"),
        "output|inet|table mine",
    ),
    "what goes out at last": ("ip mine", base("drop", hook="postrouting"), "output|ip|table mine"),
    "a user's": ("ip mine", base("meta skuid 33 drop", hook="output"), ""),
    "all but what stays": ("ip mine", base('oifname != "lo" drop', hook="output"), "output|ip|table mine"),
    "both ways": (
        "inet mine",
        base("drop") + chain("out", "type filter hook output priority filter; policy accept;", "jump in"),
        "input|inet|table mine\ndrops|output|inet|table mine",
    ),
    "ours": ("inet q", base(policy="drop"), ""),
}


@pytest.mark.parametrize("case", TABLES)
def test_who_else_drops_what_comes_in_is_read(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content, found = TABLES[case]
    table = f"table {name} {{\n{content}}}\n"
    (tmp_path / "table").write_text(table)
    # of each chain what `nft list chains` prints
    heads = [
        line for line in table.splitlines(keepends=True) if not line.startswith("\t\t") or " hook " in line
    ]
    (tmp_path / "chains").write_text("".join(heads))
    stub = tmp_path / "nft"
    stub.write_text(
        f'#!/bin/sh\ncase "$*" in "list chains") cat {tmp_path}/chains;; '
        f'"--stateless --terse list table {name}") cat {tmp_path}/table;; *) exit 1;; esac\n'
    )
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    done = subprocess.run(["sh", "-c", Table.read([TABLE])], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"drops|{found}\n" if found else "", "")
    actual = Actual()
    for line in done.stdout.splitlines():
        Table.parse(line, actual)
    assert actual.filters == {tuple(one.split("|")) for one in found.split("\ndrops|") if one}


def test_the_name_of_anothers_table_is_kept_short_and_fails_no_host() -> None:
    actual = Actual()
    Table.parse(f"drops|input|inet|table {300 * 'x'}", actual)
    assert actual.filters == {("input", "inet", f"table {74 * 'x'}")}


def test_a_directory_that_others_use_stays_with_what_is_theirs(tmp_path: Path) -> None:
    shared = Directory("/etc/q.d", shared=True)
    hardened = Actual(paths={"/etc/q.d": resources.Entry("directory", "700", "root", "root", 0.0)})
    assert (shared.differs(hardened), shared.differs(Actual())) == ("", "missing")
    assert Directory("/etc/q.d").differs(hardened) == "mode 700"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "theirs").touch()
    (command,) = Directory.remove({"name": str(tmp_path / "d"), **shared.data})
    for left in (True, False, False):  # with theirs, empty, gone
        assert subprocess.run(command, check=False).returncode == 0
        assert (tmp_path / "d").exists() == left
        (tmp_path / "d" / "theirs").unlink(missing_ok=True)


def test_the_guard_loads_the_rules_and_then_lets_the_peers_through(called: Path, tmp_path: Path) -> None:
    guard = ROOT / "roles" / "zmq_service" / "files" / "unit-guard"
    peers = tmp_path / "peers"
    peers.write_text("".join(f"10.0.{n >> 8}.{n & 255}/32\n" for n in range(2000)))
    assert subprocess.run([guard, "q.service", peers], check=False).returncode == 0
    load, allow = called.read_text().splitlines()
    assert load == "nft -f /etc/zmqfleet/firewall.nft"
    start = "systemctl set-property --runtime q.service IPAddressAllow= IPAddressAllow=127.0.0.0/8 ::1/128 "
    assert allow.startswith(start)
    assert allow.count("IPAddressAllow=") == 4  # one that empties it, and 1000 at a time
    given = set(allow.replace("IPAddressAllow=", "").split())
    assert set(peers.read_text().split()) <= given
    (called.parent / "fails").touch()
    failed = subprocess.run([guard, "q.service", peers], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stderr) == (
        1,
        "q.service: does not start without the firewall's rules\n",
    )
    assert len(called.read_text().splitlines()) == 3, "systemd was told, though there are no rules"


@pytest.mark.parametrize(
    ("enabled", "profile", "loads", "starts"),
    [
        ("Y", "zmqfleet.q", True, True),
        ("Y", "zmqfleet.q", False, False),
        ("Y", "", False, True),  # what runs without one, though there is a file already
        ("N", "zmqfleet.q", False, True),
        (None, "zmqfleet.q", False, True),
    ],
)
def test_a_unit_with_a_profile_starts_only_with_that(
    called: Path, tmp_path: Path, enabled: str | None, profile: str, loads: bool, starts: bool
) -> None:
    text = (ROOT / "roles" / "zmq_service" / "files" / "unit-guard").read_text()
    guard, kernel = tmp_path / "guard", tmp_path / "enabled"
    assert text.count("/sys/module/apparmor/parameters/enabled") == 1
    guard.write_text(text.replace("/sys/module/apparmor/parameters/enabled", str(kernel)))
    guard.chmod(0o755)
    if enabled:
        kernel.write_text(f"{enabled}\n")
    for name, more in (("systemctl", f"echo {profile}"), ("apparmor_parser", "true" if loads else "false")):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{called}\n{more}\n')
        (tmp_path / name).chmod(0o755)
    for name in ("peers", "apparmor"):
        (tmp_path / name).touch()
    done = subprocess.run([guard, "q.service", tmp_path / "peers"], check=False)
    assert (done.returncode == 0) == starts
    said = called.read_text().splitlines()
    loaded = [line for line in said if line.startswith("apparmor_parser")]
    wanted = [f"apparmor_parser --replace --skip-cache {tmp_path}/apparmor"]
    assert loaded == (wanted if enabled == "Y" and profile else [])
    assert ("set-property" in said[-1]) == starts


# --- what was printed is no host


def test_what_login_scripts_print_does_not_count() -> None:
    text = f"Welcome!\n\n== motd\n{AS_DECLARED}bye\n== zmqfleet step\nlibzmq has CURVE\n"
    assert resources.parse(text.splitlines()) == actual()


@pytest.mark.parametrize("lines", range(len(AS_DECLARED.splitlines())))
def test_what_breaks_off_is_refused_wherever_it_does(lines: int) -> None:
    with pytest.raises(ReadError, match=r"what it printed breaks off; is /bin/sh there, and sudo allowed\?"):
        resources.parse(AS_DECLARED.splitlines()[:lines])


@pytest.mark.parametrize(
    "kind",
    ["manifest", "package", "user", "directory", "file", "link", "key", "generations", "rule", "unit", "gibberish"],
)  # fmt: skip
@pytest.mark.parametrize(
    "garbage", ["sudo: a password is required", "é\x00", "{}", "[]", "7", "\N{SNOWMAN}" * 99]
)
def test_garbage_is_refused_by_section_and_line(kind: str, garbage: str) -> None:
    text = f"== zmqfleet {kind}\n{garbage}\n== zmqfleet end\n"
    if (kind, garbage) == ("user", "sudo: a password is required"):
        return  # has the form of a user's line
    with pytest.raises(ReadError, match=f"^cannot read what it printed of {kind}: "):
        resources.parse(text.splitlines())


# --- reading


@pytest.mark.parametrize("host", ["builder1", "broker1", "gateway1", "monitor1"])
def test_the_read_command_succeeds_on_a_machine_that_is_no_host_of_the_fleet(host: str) -> None:
    found = fleet.load(ROOT, ROOT / "inventories" / "example")
    done = subprocess.run(
        ["sh", "-c", desired.reading(found, host)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr) == (0, "")
    read = resources.parse(done.stdout.splitlines())
    assert read.release.isdigit()
    assert (read.keys, read.manifest) == ({}, [])
    every = [resource for part in desired.parts(found, host) for resource in part.resources]
    for one in every:
        if isinstance(one, File | Key | Unit) and not isinstance(getattr(one, "content", None), Made):
            assert one.differs(read), one.name


NASTY = """a b'c"d`e$(touch pwned);touch pwned;$HOME*&|\\"""


def test_nothing_that_has_a_name_becomes_shell_text(tmp_path: Path) -> None:
    base = tmp_path / NASTY.replace("|", "")
    (base / "exact").mkdir(parents=True)
    (base / "exact" / NASTY).write_text("x")
    (base / "file").write_text("x")
    (base / "link").symlink_to(NASTY)
    (base / "releases" / "1").mkdir(parents=True)
    wanted: list[Resource] = [
        Package(NASTY),
        Package("named", by_release=(("12", NASTY),)),
        User(NASTY, "/"),
        Directory(f"{base}/exact", only=()),
        File(f"{base}/file", Inline.text("x")),
        Link(f"{base}/link", NASTY),
        Key("quotes", f"{base}", "tool"),
        Generations(f"{base}/releases", 1, ()),
        Rule(NASTY, 5555, ()),
        Step(NASTY, "true"),
        Peers(f"{NASTY}.service", (), ("true",)),
        Unit(f"{NASTY}.service", start=("true",), unproven=f"{base}/file"),
    ]
    done = subprocess.run(
        ["sh", "-c", resources.read(wanted, f"{base}/manifest")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    read = resources.parse(done.stdout.splitlines())
    assert not list(tmp_path.rglob("pwned"))
    assert set(read.paths) == {f"{base}/exact", f"{base}/exact/{NASTY}", f"{base}/file", f"{base}/link"}
    assert read.links == {f"{base}/link": NASTY}
    assert read.generations == {f"{base}/releases": {"1": 0.0}}
    assert read.steps == {NASTY}
    assert (read.packages, read.users) == (set(), {})


def test_what_a_generation_is_called_becomes_no_other(tmp_path: Path) -> None:
    for name in ("1", "a b", "*", "-n"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    command = resources.read([Generations(f"{tmp_path}/releases", 1, ("1",))], "/nowhere")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path)
    found = resources.parse(done.stdout.splitlines()).generations[f"{tmp_path}/releases"]
    assert sorted(found) == ["*", "-n", "1", "a b"]


def test_real_things_are_read_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").write_text("")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "clients").mkdir(mode=0o750)
    (tmp_path / "clients" / "a.key").write_text("")
    me, group = (tmp_path.owner(), tmp_path.group())
    wanted = [
        File(f"{tmp_path}/file", Inline.text("x"), "644", me, group),
        File(f"{tmp_path}/empty", Inline.text(""), "644", me, group),
        File(f"{tmp_path}/link", Inline.text("x"), "644", me, group),
        Link(f"{tmp_path}/link", "file"),
        Link(f"{tmp_path}/file", "elsewhere"),
        Directory(f"{tmp_path}/clients", "750", me, group, only=()),
        Step("holds", "test -e /dev/null"),
        Step("does not hold", "exit 3"),
        Step("reads", "cat"),  # standard input is empty, not a terminal's
    ]
    (tmp_path / "file").chmod(0o644)
    (tmp_path / "empty").chmod(0o644)
    done = subprocess.run(
        ["sh", "-c", resources.read(wanted, f"{tmp_path}/manifest")],
        capture_output=True,
        text=True,
        check=True,
    )
    found = resources.parse(done.stdout.splitlines())
    assert [one.differs(found) for one in wanted] == [
        "", "", "is a symbolic link", "", "is a regular file", "holds a.key", "", "to be done", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "found", "commands"),
    [
        (USER, "",
         ["useradd --system --user-group --home-dir /opt/q --no-create-home --shell /usr/sbin/nologin quotes"]),
        (USER, "user\nquotes:a group without a user",
         ["useradd --system --gid quotes --home-dir /opt/q --no-create-home --shell /usr/sbin/nologin quotes"]),
        (USER, "user\nquotes:/opt/q:/bin/sh:users sudo",
         ["usermod --gid quotes --groups '' --home /opt/q --shell /usr/sbin/nologin quotes"]),
        (Directory("/d", "750", "q", "g"), "", ["install -d -m 750 -o q -g g /d"]),
        (EXACT, "file\nregular file|644|q|q|1|/etc/q/clients/two.key\ndirectory|755|q|q|1|/etc/q/clients/.three",
         ["install -d -m 755 -o root -g root /etc/q/clients",
          "rm -rf -- /etc/q/clients/.three /etc/q/clients/two.key"]),
        (LINK, "", ["ln -sfnT releases/1 /opt/q/current.new", "mv -fT /opt/q/current.new /opt/q/current"]),
        (File("/m", Made(), "400", "q", "g"), "file\nregular file|644|root|root|1|/m",
         ["chown q:g /m", "chmod 400 /m"]),
        (FILE, "file\nregular file|600|root|root|1|/etc/q/a", []),
        (FILE, "file\nsymbolic link|777|root|root|1|/etc/q/a", ["rm -f -- /etc/q/a"]),
        (NEEDED, "", []),
    ],
)  # fmt: skip
def test_what_brings_a_resource_about(resource: resources.Resource, found: str, commands: list[str]) -> None:
    read = f"== zmqfleet {found}\n" if found else ""
    actual = resources.parse(f"{read}== zmqfleet end".splitlines())
    assert [shlex.join(one) for one in resource.commands(actual, triggered=False)] == commands


def test_only_root_reads_a_host() -> None:
    """To others most of what is there looks as if it were missing."""
    asked = f"id() {{ [ $1 = -u ] && echo 1000 || echo admin; }}; {resources.read([], '/nowhere')}"
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "admin is not root there: set ansible_become\n"


def test_a_package_is_needed_only_where_its_condition_holds() -> None:
    for condition, printed in {"true": "", "false": "needless|no-such-package\n", "[ -e / ]": ""}.items():
        one = Package("no-such-package", where=condition)
        read = subprocess.run(["sh", "-c", Package.read([one])], capture_output=True, text=True, check=False)
        assert read.stdout == printed
        found = Actual()
        for line in printed.splitlines():
            Package.parse(line, found)
        assert one.differs(found) == ("" if printed else "missing")


def test_packets_pass_the_tables_of_their_addresses_family() -> None:
    assert families(["192.0.2.1", "2001:db8::1", "2001:db8::2"]) == {"inet", "ip", "ip6"}
    assert families(["192.0.2.1"]) == {"inet", "ip"}
    assert families(["2001:db8::1"]) == {"inet", "ip6"}
    assert families([]) == set()


def test_a_profile_goes_by_its_name() -> None:
    ((*_, remove, name),) = Profile.remove({"name": "zmqfleet.quotes"})
    assert name == "zmqfleet.quotes"
    # also where there is no AppArmor to remove it from
    assert subprocess.run(["sh", "-c", remove, "no.such"], capture_output=True, check=False).returncode == 0


# as kernels 6.1 and 6.12 write them, the third one into auditd's log
AUDIT = {
    'audit: type=1400 audit(1795269191.100:7): apparmor="DENIED" operation="open" profile="zmqfleet.quotes" '
    'name="/etc/sh[a]dow" pid=812 comm="sh" requested_mask="r" denied_mask="r" fsuid=997 ouid=0': (
        'apparmor=DENIED operation=open name=/etc/sh[a]dow comm=sh denied_mask=r; what would allow it: '
        '"/etc/sh\\[a\\]dow" r,'
    ),
    'audit: type=1400 audit(1795269191.200:8): apparmor="ALLOWED" operation="mknod" class="file" '
    'profile="zmqfleet.quotes" name=2F746D702F6120622F63 pid=8 comm="q" requested_mask="wc" denied_mask="wc" fsuid=9': (
        'apparmor=ALLOWED operation=mknod name=/tmp/a b/c comm=q denied_mask=wc; what would allow it: "/tmp/a b/c" w,'
    ),
    'type=AVC msg=audit(1795269191.300:9): apparmor="DENIED" operation="exec" class="file" profile="zmqfleet.quotes" '
    'name="/usr/bin/id" pid=8 comm="q" requested_mask="x" denied_mask="x" fsuid=997 ouid=0': (
        'apparmor=DENIED operation=exec name=/usr/bin/id comm=q denied_mask=x; what would allow it: "/usr/bin/id" ix,'
    ),
    'audit: type=1400 audit(1795269191.400:10): apparmor="DENIED" operation="capable" class="cap" '
    'profile="zmqfleet.quotes" pid=8 comm="q" capability=12  capname="net_admin"': (
        "apparmor=DENIED operation=capable comm=q capability=12 capname=net_admin; what would allow it: "
        "capability net_admin,"
    ),
    'audit: type=1400 audit(1795269191.500:11): apparmor="DENIED" operation="create" class="net" '
    'profile="zmqfleet.quotes" pid=8 comm="q" family="packet" sock_type="raw" protocol=768 requested_mask="create" '
    'denied_mask="create"': (
        "apparmor=DENIED operation=create comm=q family=packet sock_type=raw denied_mask=create; what would allow it: "
        "network packet raw,"
    ),
    'audit: type=1400 audit(1795269191.600:12): apparmor="DENIED" operation="signal" class="signal" '
    'profile="zmqfleet.quotes" pid=8 comm="q" requested_mask="send" denied_mask="send" signal=kill peer="unconfined"': (
        "apparmor=DENIED operation=signal comm=q denied_mask=send signal=kill peer=unconfined; what would allow it: "
        "signal (send) set=(kill) peer=unconfined,"
    ),
    'audit: type=1400 audit(1795269191.700:13): apparmor="DENIED" operation="mount" class="mount" '
    'profile="zmqfleet.quotes" pid=8 comm="q"': "apparmor=DENIED operation=mount comm=q",
}  # fmt: skip


@pytest.mark.parametrize("line", AUDIT)
def test_what_was_denied_is_told_with_the_rule_that_would_allow_it(line: str) -> None:
    # auditd's log and the kernel's may both have it
    found = resources.parse(["== zmqfleet profile", "enabled|", *[f"denied|{line}"] * 2, "== zmqfleet end"])
    assert {one.profile for one in found.denials} == {"zmqfleet.quotes"}
    assert told(found.denials) == [AUDIT[line]]


def test_what_was_denied_again_is_told_once() -> None:
    line, words = next(iter(AUDIT.items()))
    denials = [Denial.of(line), Denial.of(line.replace(":7)", ":8)").replace("pid=812", "pid=813"))]
    assert told([one for one in denials if one]) == [words.replace("; what", " (2 times); what")]
    assert Denial.of('audit: type=1400 audit(1.2:3): apparmor="STATUS" operation="profile_load"') is None


ODD = "/tmp/\x1b[2J\nbroker9: fine\t\N{NO-BREAK SPACE}".encode().hex().upper()
AT = "audit: type=1400 audit(1795269191.100:7): "


@pytest.mark.parametrize(
    ("denied", "rule"),
    [
        (f'operation="exec" name={ODD} denied_mask="x"', ""),
        ('operation="open" name="/library/x" denied_mask="r"', '"/library/x" r,'),
        ('operation="open" name="/lib64/x" denied_mask="r"', '"/usr/lib64/x" r,'),
        ('operation="open" name="/bin" denied_mask="r"', '"/usr/bin" r,'),
        ('operation="open" name="/var/run/x" denied_mask="r"', '"/run/x" r,'),
        ('operation="open" name="/var/running" denied_mask="r"', '"/var/running" r,'),
        ('operation="open" name="cut/off" denied_mask="r"', ""),
        (f'operation="open" name={b"/a b".hex().upper()} denied_mask="r"', '"/a b" r,'),
    ],
)
def test_what_was_denied_is_one_line_for_a_terminal_and_has_a_rule_that_names_it(
    denied: str, rule: str
) -> None:
    found = Denial.of(f'{AT}apparmor="DENIED" profile="zmqfleet.q" {denied}')
    assert found
    assert found.rule == rule
    assert all(line.isprintable() for line in told([found]))


@pytest.mark.parametrize(
    "line",
    [
        f'overlayfs: option "x={AT}apparmor="DENIED" profile="zmqfleet.q" name="/**" denied_mask="rwx"',
        f'{AT}apparmor="AUDIT" profile="zmqfleet.q" name="/x"',
        "",
    ],
)
def test_what_is_no_denial_is_none(line: str) -> None:
    assert Denial.of(line) is None


def test_a_line_without_end_costs_nothing() -> None:
    with pytest.raises(ReadError, match="a denial of more than 2000 characters"):
        resources.parse(
            ["== zmqfleet profile", f'denied|{AT}apparmor="DENIED" {"a" * 10**7}', "== zmqfleet end"]
        )


def test_a_host_tells_the_latest_denials_of_each_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'{AT}apparmor="DENIED" profile="zmqfleet.noisy" name="/{n}"' for n in range(300)]
    lines.insert(0, f'{AT}apparmor="DENIED" profile="zmqfleet.rare" name="/{5000 * "x"}"')
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in [*lines, "other's"]))
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\ncase $1 in --dmesg) exec cat {tmp_path}/lines; esac\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    said = subprocess.run(
        ["sh", "-c", _DENIED], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == [f"denied|{line[:2000]}" for line in (lines[0], *lines[-40:])]


def test_a_host_that_tells_denials_without_end_is_not_read() -> None:
    lines = [f"denied|{next(iter(AUDIT))}"] * 201
    with pytest.raises(ReadError, match="more than 200 denials"):
        resources.parse(["== zmqfleet profile", *lines, "== zmqfleet end"])
