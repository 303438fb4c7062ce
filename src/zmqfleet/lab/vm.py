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

# Runs as PID 1 of the container: the guest takes over its address; what the container mounts, it is handed on a disk.
INIT = """\
#!/bin/sh
set -eu
# podman starts what has failed again, in the network that it had
if ! ip link show lan >/dev/null 2>&1; then
  ip -4 -o address show dev eth0 | awk '{print $4}' >/vm/address
  ip -4 route show default | awk '{print $3}' >/vm/gateway
  cat /sys/class/net/eth0/address >/vm/mac
  ip address flush dev eth0
  ip link set eth0 down
  ip link set eth0 address "02$(cut -c 3- /vm/mac)"
  ip link add lan type bridge
  ip tuntap add tap0 mode tap
  for link in eth0 tap0; do ip link set "$link" master lan; done
  for link in eth0 tap0 lan; do ip link set "$link" up; done
fi

key=/etc/ssh/ssh_host_ed25519_key
[ -s "$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$key"
rm -rf /vm/seed /run/lab-booted
mkdir -p /vm/seed/etc/ssh /vm/seed/etc/ssl/certs /vm/seed/etc/systemd/network /vm/seed/home/admin/.ssh
hostname >/vm/seed/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >/vm/seed/etc/hosts
cp /etc/resolv.conf /vm/seed/etc
cp "$key" "$key.pub" /vm/seed/etc/ssh
cp /home/admin/.ssh/authorized_keys /vm/seed/home/admin/.ssh
cp /usr/local/share/ca-certificates/controller.crt /vm/seed/etc/ssl/certs/ca-certificates.crt
printf '[Match]\\nType=ether\\n[Network]\\nAddress=%s\\nGateway=%s\\n' "$(cat /vm/address)" "$(cat /vm/gateway)" \
  >/vm/seed/etc/systemd/network/lan.network
(cd /vm/seed && find . -type f | tar --create --owner=0 --group=0 --files-from=- --file=/vm/seed.tar)

[ -s /vm/host.qcow2 ] || qemu-img create -q -f qcow2 -F qcow2 -b /vm/disk.qcow2 /vm/host.qcow2
# a machine may have the device, and no processor for it
accel=tcg
if grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]; then accel=kvm; fi
exec qemu-system-x86_64 -no-user-config -nodefaults -machine q35 -accel "$accel" -cpu max -smp 2 -m 1024 \
  -kernel /vm/vmlinuz -initrd /vm/initrd.img \
  -append "root=/dev/vda rw quiet console=ttyS0 systemd.hostname=$(hostname) $(cat /vm/arguments)" \
  -drive file=/vm/host.qcow2,if=virtio,cache=unsafe -drive file=/vm/seed.tar,if=virtio,format=raw,readonly=on \
  -netdev tap,id=lan,ifname=tap0,script=no,downscript=no -device "virtio-net-pci,netdev=lan,mac=$(cat /vm/mac)" \
  -device virtio-rng-pci -display none -serial stdio -serial file:/run/lab-booted
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
BOOTED = ("sh", "-c", "until [ -s /run/lab-booted ]; do sleep 0.3; done; cat /run/lab-booted")

# Makes a disk of a directory; a guest with labels has them before its first boot.
DISK = """\
set -e
labels=/etc/selinux/default/contexts/files/file_contexts
if [ -e "/work/guest$labels" ]; then
  mount --bind /proc /work/guest/proc
  chroot /work/guest setfiles -F "$labels" / >/dev/null
  umount /work/guest/proc
fi
mkfs.ext4 -q -d /work/guest /work/disk.raw 4G
qemu-img convert -O qcow2 /work/disk.raw /work/vm/disk.qcow2
"""


def check_machine() -> None:
    """Raises LabError where guests cannot run."""
    if platform.machine() != "x86_64":
        raise LabError(f"--vm: the guests' kernel is for x86_64, and this machine is {platform.machine()}")
