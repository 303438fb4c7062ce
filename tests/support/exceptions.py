"""What may differ between a host that pyinfra provisioned and its twin that Ansible did, and why. Nothing else may."""

import re

EXCEPTIONS = [
    (
        r"package (python3-apt|python-apt-common|distro-info-data|lsb-release)",
        "Ansible's apt module needs python3-apt on the host, and installs it with what that depends on",
    ),
    (r"unit (session-|user@|run-|user-runtime-dir@).*", "logins of the moment"),
]


def is_exception(what: str) -> bool:
    """Whether a difference, `kind name`, is one of the above."""
    return any(re.fullmatch(pattern, what) for pattern, _ in EXCEPTIONS)
