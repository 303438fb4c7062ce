"""What a lab would be, without making one."""

import sys
from pathlib import Path

import pytest
import yaml

from zmqfleet.lab import LabError, down, image, podman, up, vm
from zmqfleet.lab.inventory import LabHost, Paths, host_names, inventory_text, plan, ssh_config_text


def test_hosts_come_in_a_fixed_order() -> None:
    everything = host_names(7)
    assert everything == ["builder1", "broker1", "gateway1", "stranger1", "broker2", "gateway2", "gateway3"]
    assert [host_names(count) for count in range(1, 8)] == [everything[:count] for count in range(1, 8)]


@pytest.mark.parametrize("count", [0, -1, 201])
def test_refuses_a_number_of_hosts_that_does_not_fit(count: int) -> None:
    with pytest.raises(LabError, match=f"--hosts {count}"):
        host_names(count)


def test_releases_alternate_and_the_build_host_has_the_oldest() -> None:
    hosts = plan(5, ["debian13", "debian12"], "10.89.7.0/24")
    assert [host.release for host in hosts] == ["debian12", "debian13", "debian12", "debian13", "debian12"]
    assert {host.release for host in plan(5, ["debian13"], "10.89.7.0/24")} == {"debian13"}


@pytest.mark.parametrize("releases", [["debian11"], [], ["debian12", "sid"]])
def test_refuses_an_unknown_release(releases: list[str]) -> None:
    with pytest.raises(LabError, match="known are debian12, debian13"):
        plan(1, releases, "10.89.7.0/24")


def test_an_address_does_not_depend_on_the_number_of_hosts() -> None:
    few, many = plan(2, ["debian12"], "10.89.7.0/24"), plan(200, ["debian12"], "10.89.7.0/24")
    assert many[:2] == few
    assert len({host.address for host in many}) == 200
    assert many[-1].address == "10.89.7.209"


def test_inventory_names_every_group_and_how_to_log_in() -> None:
    files = Path("/a project/.zmqfleet/lab/lab")
    text = inventory_text(plan(2, ["debian12", "debian13"], "10.89.7.0/24"), files)
    groups = yaml.safe_load(text)["all"]["children"]
    assert {name: list(group["hosts"]) for name, group in groups.items()} == {
        "builders": ["builder1"],
        "brokers": ["broker1"],
        "gateways": [],
        "strangers": [],
    }
    assert groups["brokers"]["hosts"]["broker1"] == {
        "ansible_host": "10.89.7.11",
        "ansible_user": "admin",
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": "/a project/.zmqfleet/lab/lab/key",
        "ansible_ssh_common_args": "-F '/a project/.zmqfleet/lab/lab/ssh_config'",
    }


def test_those_that_run_services_have_a_kernel_of_their_own() -> None:
    hosts = plan(6, ["debian12", "debian13"], "10.89.7.0/24", ["selinux"])
    assert {host.name: host.system for host in hosts} == {
        "builder1": "debian12",
        "broker1": "debian13-selinux",
        "gateway1": "debian12-selinux",
        "stranger1": "debian13",
        "broker2": "debian12-selinux",
        "gateway2": "debian13-selinux",
    }


def test_kernels_come_by_turns() -> None:
    hosts = plan(6, ["debian12", "debian13"], "10.89.7.0/24", ["selinux", "apparmor"])
    assert {host.name: host.system for host in hosts} == {
        "builder1": "debian12",
        "broker1": "debian13-apparmor",
        "gateway1": "debian12-selinux",
        "stranger1": "debian13",
        "broker2": "debian12-apparmor",
        "gateway2": "debian13-selinux",
    }


@pytest.mark.parametrize("asked", ["", "selinux,", "smack"])
def test_a_kernel_that_is_none_is_refused_by_name(asked: str) -> None:
    with pytest.raises(LabError, match=r"^--vm .*: known are apparmor, selinux$"):
        plan(3, ["debian12"], "10.89.7.0/24", asked.split(","))


def test_host_keys_are_checked() -> None:
    text = ssh_config_text([LabHost("broker1", "debian12", "10.89.7.11")], Path("/p"))
    assert "StrictHostKeyChecking yes" in text
    assert 'UserKnownHostsFile "/p/known_hosts"' in text


def test_labs_side_by_side_share_no_name(tmp_path: Path) -> None:
    labs = [Paths(tmp_path / project, name) for project in ("a", "b") for name in ("lab", "other")]
    assert len({lab.prefix for lab in labs}) == 4
    assert Paths(tmp_path / "a", "lab").prefix == Paths(tmp_path / "b" / ".." / "a", "lab").prefix


@pytest.mark.parametrize("name", ["", "../production", "Lab", "-x", "a/b"])
def test_refuses_a_name_that_is_not_safe_as_a_directory(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="lab name"):
        Paths(tmp_path, name)


def test_leaves_an_inventory_alone_that_is_no_lab(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "production")
    paths.check_own()
    paths.inventory.parent.mkdir(parents=True)
    paths.inventory.write_text("all:\n  hosts: {web1: {}}\n")
    with pytest.raises(LabError, match="not made by"):
        paths.check_own()
    paths.inventory.write_text(inventory_text([], paths.files))
    paths.check_own()


@pytest.mark.parametrize(
    "somebodys",
    [
        "inventories/production",
        "inventories/production/hosts",
        "inventories/production/hosts.yml",
        ".zmqfleet/production/curve/web1/probe.pub",
    ],
)
def test_neither_makes_nor_removes_a_lab_beside_an_inventory_or_state_that_is_no_lab(
    tmp_path: Path, somebodys: str
) -> None:
    path = tmp_path / somebodys
    path.parent.mkdir(parents=True)
    path.write_text("web1\n")
    for change in (
        lambda: up(tmp_path, "production", 1, ["debian12"], print),
        lambda: down(tmp_path, "production", print),
    ):
        with pytest.raises(LabError, match=r"not made by .* another name"):
            change()
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


def test_a_teams_own_variables_for_a_lab_do_not_hinder_it(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "lab")
    variables = paths.inventory.parent / "group_vars" / "all.yml"
    variables.parent.mkdir(parents=True)
    variables.write_text("region: eu\n")
    paths.files.mkdir(parents=True)
    paths.check_own()


def test_a_changed_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.tag("debian12")
    assert before != image.tag("debian13")
    monkeypatch.setattr(image, "_CACHED", "libzmq5")
    assert image.tag("debian12") != before


@pytest.mark.parametrize("part", ["BOOTED_UNIT", "DISK", "GUEST", "INIT", "RUNNER", "SEED_UNIT", "KERNELS"])
def test_a_guest_of_other_parts_is_another_image(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    before = {kernel: image.tag("debian12", kernel) for kernel in vm.KERNELS}
    assert len({image.tag("debian12"), *before.values()}) == 3
    other = dict.fromkeys(vm.KERNELS, vm.Kernel("apparmor", "lsm=other")) if part == "KERNELS" else "other"
    monkeypatch.setattr(vm, part, other)
    assert all(image.tag("debian12", kernel) != before[kernel] for kernel in before)


def test_a_lab_without_a_host_for_it_has_no_kernel() -> None:
    with pytest.raises(LabError, match="--hosts 2 or more"):
        plan(1, ["debian12"], "10.89.7.0/24", ["selinux"])


def test_another_machine_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("zmqfleet.lab.containers.require_tools", lambda: None)
    with pytest.raises(LabError, match="the guests' kernel is for x86_64, and this machine is aarch64"):
        up(tmp_path, "lab", 3, ["debian12"], print, ["selinux"])
    assert list(tmp_path.iterdir()) == []


def test_a_console_may_print_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.write_text("printf '\\246'\n")
    monkeypatch.setattr(sys.modules["zmqfleet.lab.podman"], "CGROUP2_ONLY", console)
    assert podman("logs", "x").stdout == "\ufffd"
