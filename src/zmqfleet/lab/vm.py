"""The images of lab hosts that are virtual machines: a kernel of their own, which enforces AppArmor or SELinux.

Such a host is a container, too, so that its network, its life and its removal are those of the others; what runs in it
is qemu, with a disk that holds the same blank Debian.
"""

import platform
from dataclasses import dataclass

from zmqfleet.lab.podman import LabError


@dataclass(frozen=True)
class Kernel:
    """What a security module takes: packages, arguments of the kernel, hooks of mmdebstrap."""

    packages: str
    arguments: str
    hooks: tuple[str, ...] = ()


KERNELS = {
    "apparmor": Kernel("apparmor", "apparmor=1 security=apparmor"),
    "selinux": Kernel(
        "auditd checkpolicy policycoreutils selinux-basics selinux-policy-default",
        "selinux=1 security=selinux enforcing=1",
        ('printf "SELINUX=enforcing\\nSELINUXTYPE=default\\n" >"$1/etc/selinux/config"',),
    ),
}
"""By the name of the security module."""

GUEST = "linux-image-cloud-amd64"
RUNNER = "e2fsprogs iproute2 openssh-client qemu-system-x86 qemu-utils"

# What a lab host's first process takes back of what a privileged container may do.
WITHOUT = "-sys_module,-sys_rawio,-sys_time,-mac_admin,-mac_override,-syslog"

_TOLD = "/run/lab-booted"  # how the guest has booted, in systemd's word

# Runs as PID 1 of the container: the guest takes over its address; what the container mounts, it is handed on a disk.
INIT = f"""\
#!/bin/sh
set -eu
rm -rf {_TOLD} /vm/seed
find /dev -xdev -type b -delete
# podman starts what has ended again, in the network that it had
address=$(ip -4 -o address show dev eth0 | awk '{{print $4}}')
if [ -n "$address" ]; then
  echo "$address" >/vm/address
  ip -4 route show default | awk '{{print $3}}' >/vm/gateway
  cat /sys/class/net/eth0/address >/vm/mac
  ip address flush dev eth0
fi
ip link show lan >/dev/null 2>&1 || ip link add lan type bridge
ip link show tap0 >/dev/null 2>&1 || ip tuntap add tap0 mode tap
ip link set eth0 down
ip link set eth0 address "02$(cut -c 3- /vm/mac)"
for link in eth0 tap0; do ip link set "$link" master lan; done
for link in eth0 tap0 lan; do ip link set "$link" up; done

key=/etc/ssh/ssh_host_ed25519_key
[ -s "$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$key"
certificates=usr/local/share/ca-certificates/controller.crt
cd /vm
mkdir -p seed/etc/ssh seed/etc/ssl/certs seed/etc/systemd/network seed/home/admin/.ssh "seed/${{certificates%/*}}"
hostname >seed/etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$(hostname)" >seed/etc/hosts
cp /etc/resolv.conf seed/etc
cp "$key" "$key.pub" seed/etc/ssh
cp /home/admin/.ssh/authorized_keys seed/home/admin/.ssh
# at once, and for when the guest makes its bundle anew
cp "/$certificates" "seed/$certificates"
cp "/$certificates" seed/etc/ssl/certs/ca-certificates.crt
printf '[Match]\\nType=ether\\n[Network]\\nAddress=%s\\nGateway=%s\\n' "$(cat address)" "$(cat gateway)" \
  >seed/etc/systemd/network/lan.network
(cd seed && find . -type f | tar --create --owner=0 --group=0 --files-from=- --file=/vm/seed.tar)

[ -s host.qcow2 ] || qemu-img create -q -f qcow2 -F qcow2 -b /vm/disk.qcow2 host.qcow2
# a machine may have the device, and no processor for it
accel="-accel tcg"
if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -e /dev/kvm ]; then accel="-accel kvm -accel tcg"; fi
# shellcheck disable=SC2086
setpriv --bounding-set={WITHOUT} qemu-system-x86_64 -no-user-config -nodefaults -no-reboot \
  -machine q35 $accel -cpu max -smp 2 -m 1024 -kernel vmlinuz -initrd initrd.img \
  -append "root=/dev/vda rw quiet console=ttyS0 systemd.hostname=$(hostname) $(cat arguments)" \
  -drive file=host.qcow2,if=virtio,cache=unsafe -drive file=seed.tar,if=virtio,format=raw,readonly=on \
  -netdev tap,id=lan,ifname=tap0,script=no,downscript=no -device "virtio-net-pci,netdev=lan,mac=$(cat mac)" \
  -device virtio-rng-pci -display none -serial stdio -serial file:{_TOLD} &
trap 'kill $!' TERM
wait $! || true
exit 1  # rebooted, or switched off: podman starts it again, unless it was podman
"""

# In a guest: takes what it is handed before anything reads it, and tells when it has booted, and how.
SEED_UNIT = """\
[Unit]
Description=Network, keys and certificates of a lab host
DefaultDependencies=no
After=local-fs.target systemd-remount-fs.service
Before=systemd-networkd.service network-pre.target ssh.service
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/bin/tar --extract --no-overwrite-dir --directory=/ --file=/dev/vdb
ExecStart=-/usr/sbin/restorecon -RF /etc/hostname /etc/hosts /etc/resolv.conf /etc/ssh /etc/ssl /etc/systemd /home/admin

[Install]
WantedBy=sysinit.target
"""
BOOTED_UNIT = """\
[Unit]
Description=Tells the lab how this host has booted

[Service]
ExecStart=/bin/sh -c 'systemctl is-system-running --wait >/dev/ttyS1'

[Install]
WantedBy=multi-user.target
"""

# What the container says of how its guest has booted; the same words as those of the other hosts' systemd.
BOOTED = ("sh", "-c", f"until [ -s {_TOLD} ]; do sleep 0.3; done; cat {_TOLD}")

# Makes a disk of a directory; a guest with labels has them before its first boot.
DISK = """\
set -e
labels=/etc/selinux/default/contexts/files/file_contexts
if [ -e "/build/guest$labels" ]; then
  mount --bind /proc /build/guest/proc
  chroot /build/guest setfiles -F "$labels" / >/dev/null
  umount /build/guest/proc
fi
mkfs.ext4 -q -d /build/guest /build/disk.raw 4G
qemu-img convert -O qcow2 /build/disk.raw /build/vm/disk.qcow2
"""


def check_machine() -> None:
    """Raises LabError where guests cannot run."""
    if platform.machine() != "x86_64":
        raise LabError(f"--vm: the guests' kernel is for x86_64, and this machine is {platform.machine()}")
