"""Units and the processes that they run: state, sandbox, sockets."""

import errno
import re
from typing import Any

import pytest
from testinfra.host import Host

from zmqfleet.fleet import Endpoint, Fleet, Service
from zmqfleet.releases import release
from zmqfleet.resources import File, Unit

_EXPOSURE_LIMIT = 1.5  # of systemd-analyze security: up to 2.0 is "OK", 10.0 is no sandbox at all
# Options that `systemctl show` prints under other names or in forms of their own.
_PRINTED_OTHERWISE = {
    "ExecStart", "ExecStartPre", "EnvironmentFile", "Environment", "LoadCredential", "RestartSec", "TimeoutStartSec",
    "TimeoutStopSec", "SystemCallFilter",
}  # fmt: skip
_PRINTED_AS = {
    "IPAddressDeny": lambda value: {"any": "0.0.0.0/0 ::/0"}[value],
    "MemoryMax": lambda value: str(int(value.removesuffix("M")) << 20),
    "SystemCallErrorNumber": lambda value: str(getattr(errno, value)),
}
_CAP_SYS_RESOURCE = 1 << 24
_EVERY_ADDRESS = {"0.0.0.0", "[::]", "*"}


def test_unit_is_enabled_and_active(host: Host, unit: Unit) -> None:
    found = host.service(unit.name).systemd_properties
    wanted = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "Result": "success"}
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["NeedDaemonReload"] == "no", "systemd has not read the unit's file since it changed"


def test_systemd_applies_every_option_of_the_unit(host: Host, declared: Any, service: Service) -> None:
    unit = f"{service.name}.service"
    found = host.service(unit).systemd_properties
    path = f"/etc/systemd/system/{unit}"
    text = next(file.content.data.decode() for file in declared.all(File) if file.path == path)
    section = text.partition("[Service]\n")[2].partition("\n[")[0]
    options = dict(line.split("=", 1) for line in section.splitlines() if re.match(r"\w+=", line))
    options = {key: value for key, value in options.items() if key not in _PRINTED_OTHERWISE}
    assert "NoNewPrivileges" in options, "no sandbox found in the unit's file"
    wanted = {key: sorted(_PRINTED_AS.get(key, str)(value).split()) for key, value in options.items()}
    assert {key: sorted(found.get(key, "").split()) for key in options} == wanted


def test_exposure_is_low(host: Host, service: Service) -> None:
    report = host.check_output("systemd-analyze security --no-pager %s", f"{service.name}.service")
    overall = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert overall, report
    assert float(overall[1]) <= _EXPOSURE_LIMIT, report


def test_process_has_its_user_and_no_privilege(host: Host, service: Service) -> None:
    status = _proc(host, _main_pid(host, service))
    uid, gid = (int(host.check_output(f"id {option} %s", service.name)) for option in ("-u", "-g"))
    assert status["Uid"].split() == [str(uid)] * 4
    assert status["Gid"].split() == [str(gid)] * 4
    assert status["Groups"].split() in ([], [str(gid)])
    capabilities = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {key: int(status[key], 16) for key in capabilities} == dict.fromkeys(capabilities, 0)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2", "no seccomp filter"


def test_process_may_open_as_many_files_as_declared(
    host: Host, hostname: str, fleet: Fleet, service: Service
) -> None:
    wanted = fleet.instance(hostname, service).limits["nofile"]
    found = _open_files(host, _main_pid(host, service))
    # In a container without CAP_SYS_RESOURCE systemd cannot go beyond its own limit, and says nothing of it.
    init = _proc(host, 1)
    most = max(_open_files(host, 1))
    if not int(init["CapEff"], 16) & _CAP_SYS_RESOURCE and most < wanted:
        assert found == (most, most)
        pytest.xfail(
            f"this host's systemd may not give a process more than {most} open files ({wanted} declared)"
        )
    assert found == (wanted, wanted)


def test_process_runs_the_declared_release(host: Host, fleet: Fleet, service: Service) -> None:
    running = host.check_output(f"readlink /proc/{_main_pid(host, service)}/exe")
    assert running == release(fleet, service).on_host


def test_process_started_after_what_restarts_it_changed(
    host: Host, restarted_unit: Unit, entries: dict
) -> None:
    shown = host.check_output(
        "systemctl show --timestamp=unix -p ExecMainStartTimestamp --value %s", restarted_unit.name
    )
    started = int(shown.removeprefix("@"))
    missing = [path for path in restarted_unit.restarted_by if path not in entries]
    assert missing == []
    assert [path for path in restarted_unit.restarted_by if entries[path].changed > started] == []


def test_endpoint_listens_where_it_is_declared(host: Host, listening: tuple[Service, Endpoint]) -> None:
    service, endpoint = listening
    found = _listening(host, service)
    assert any(_is_at(address, endpoint) for kind, address in found if kind == "tcp"), f"only: {found}"


def test_process_listens_nowhere_else(host: Host, service: Service) -> None:
    found = _listening(host, service)
    assert found, "listens nowhere"
    assert [
        (kind, address)
        for kind, address in found
        if kind != "tcp" or not any(_is_at(address, one) for one in service.endpoints)
    ] == []


def _main_pid(host: Host, service: Service) -> int:
    pid = int(host.check_output("systemctl show -p MainPID --value %s", f"{service.name}.service"))
    if not pid:
        pytest.fail(f"{service.name}.service has no process", pytrace=False)
    return pid


def _open_files(host: Host, pid: int) -> tuple[int, int]:
    """The soft and the hard limit of a process."""
    limits = host.file(f"/proc/{pid}/limits").content_string
    found = re.search(r"^Max open files +(\d+) +(\d+)", limits, re.MULTILINE)
    assert found, limits
    return int(found[1]), int(found[2])


def _proc(host: Host, pid: int) -> dict[str, str]:
    text = host.file(f"/proc/{pid}/status").content_string
    return {key: value.strip() for key, value in (line.split(":", 1) for line in text.splitlines())}


def _listening(host: Host, service: Service) -> list[tuple[str, str]]:
    """Kind and address of every socket at which a service's process listens: TCP, UDP and Unix."""
    pid = _main_pid(host, service)
    lines = host.check_output("ss -Hlntupx").splitlines()
    return [(line.split()[0], line.split()[4]) for line in lines if f",pid={pid}," in line]


def _is_at(address: str, endpoint: Endpoint) -> bool:
    where, port = address.rsplit(":", 1)
    bind = endpoint.bind
    wanted = _EVERY_ADDRESS if bind == "*" else {f"[{bind}]" if ":" in bind else bind}
    return where in wanted and int(port) == endpoint.port
