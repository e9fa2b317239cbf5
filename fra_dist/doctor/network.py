"""Checks of what ranks need to meet each other. None of them imports torch."""

import ipaddress
import os
import socket

import psutil

from fra_dist.doctor.result import CheckResult, fail, ok, warn
from fra_dist.doctor.subject import Subject

_PORTS = 8
"""How many free ports are asked for at once."""


def check_host_name(subject: Subject) -> CheckResult:
    """Whether this machine's name leads to an address that others reach; on Debian it is 127.0.1.1."""
    name = socket.gethostname()
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        return warn(
            f"{name} has no address ({error.strerror})", f"add a line to /etc/hosts: the machine's address and {name}"
        )
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return ok(f"{name} is {address}")
    if not _addresses():
        return ok(f"{name} is {address}; this machine has no network, which one machine alone does not need")
    return warn(
        f"{name} is {address}, which no other machine reaches",
        "nothing on one machine; between several the interface is chosen by itself, rank 0 needs an address: "
        "fix /etc/hosts or set MASTER_ADDR",
    )


def check_interfaces(subject: Subject) -> CheckResult:
    """GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME against the interfaces that there are."""
    found = _addresses()
    listed = ", ".join(f"{name} {address}" for name, address in found.items()) or "none but the loopback"
    names = set(psutil.net_if_addrs())
    gloo = [one for one in os.environ.get("GLOO_SOCKET_IFNAME", "").split(",") if one]
    if wrong := [one for one in gloo if one not in names]:
        return fail(
            f"GLOO_SOCKET_IFNAME={','.join(wrong)} is no interface of this machine ({listed})",
            f"unset it, or name one of {', '.join(sorted(names))}",
        )
    nccl = os.environ.get("NCCL_SOCKET_IFNAME", "")
    if nccl and not any(_nccl_takes(nccl, name) for name in names):
        return fail(
            f"NCCL_SOCKET_IFNAME={nccl} takes no interface of this machine ({listed})",
            f"unset it, or name one of {', '.join(sorted(names))}",
        )
    chosen = [f"{key}={os.environ[key]}" for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if os.environ.get(key)]
    return ok("; ".join([listed, *chosen]))


def check_ports(subject: Subject) -> CheckResult:
    """Whether ports can be opened, and whether MASTER_PORT, where it is set, is free."""
    try:
        for _ in range(_PORTS):
            with socket.socket() as one:
                one.bind(("", 0))
    except OSError as error:
        return fail(f"no port can be opened: {error.strerror}", "ranks meet at one: ask who forbids it (a sandbox?)")
    port = os.environ.get("MASTER_PORT", "")
    if not port:
        return ok(f"{_PORTS} ports opened")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        return fail(f"MASTER_PORT={port} is no port", "unset it, or give a number from 1024 to 65535")
    try:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("", int(port)))
    except OSError as error:
        return fail(f"MASTER_PORT={port} cannot be used: {error.strerror}", "set another MASTER_PORT")
    return ok(f"{_PORTS} ports opened; MASTER_PORT={port} is free")


def _addresses() -> dict[str, str]:
    """The IPv4 address of each interface that is up, without the loopback."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return {
        name: one.address
        for name, all_of_it in psutil.net_if_addrs().items()
        for one in all_of_it
        if name in up and one.family == socket.AF_INET and not one.address.startswith("127.")
    }


def _nccl_takes(rule: str, name: str) -> bool:
    """Whether NCCL's rule takes an interface: a list of prefixes, `=` before exact names, `^` before those left out."""
    refuse, rule = rule.startswith("^"), rule.removeprefix("^")
    exact, rule = rule.startswith("="), rule.removeprefix("=")
    named = any(name == one if exact else name.startswith(one) for one in rule.split(",") if one)
    return named != refuse and (not refuse or name != "lo")
