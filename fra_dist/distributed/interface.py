"""The choice of the network interface that leads to the other ranks.

Gloo listens at the address of this machine's own name. On Debian and its relatives that is 127.0.1.1 (/etc/hosts),
which no other machine can reach: the interface that leads to rank 0, or from there to another machine, is used instead.
"""

import errno
import fcntl
import ipaddress
import os
import platform
import socket
import struct
import threading
import uuid
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.errors import RendezvousError

if TYPE_CHECKING:
    from torch.distributed import Store

VARIABLE = "GLOO_SOCKET_IFNAME"
_PATIENCE = 20.0
_GET_ADDRESS = 0x8915  # SIOCGIFADDR
_FIRST, _ELSEWHERE, _TOLD, _ALL = (f"interface/{name}" for name in ("rank 0", "elsewhere", "told", "all told"))


def resolve(host: str, seconds: float = _PATIENCE) -> str:
    """Look up an address of `host`, for `seconds` at most.

    Raises RendezvousError, one line with the cure, when none is found.
    """
    found: list[str] = []
    reason = [f"no answer in {seconds:.0f} s"]

    def ask() -> None:
        try:
            found.append(str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]))
        except (OSError, UnicodeError) as error:
            reason[0] = getattr(error, "strerror", None) or str(error)

    thread = threading.Thread(target=ask, name="fra-resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise RendezvousError(
            f"{platform.node()} cannot find the address of {host}, where rank 0 is: {reason[0]}; "
            f"put it into /etc/hosts, or set MASTER_ADDR to an address that all nodes reach"
        )
    return found[0]


def choose_interface(
    host: str, store: "Store", rank: int, world: int, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Make gloo use the interface that leads to the other machines, if this machine's name leads only to itself.

    `host` is where rank 0 is. Every one of the `world` ranks calls this with a `store` that all of them reach, through
    which they find out whether they are on one machine, where its name is good enough. A choice that the user made in
    GLOO_SOCKET_IFNAME stays. Raises RendezvousError when `host` has no address or no interface leads there.
    """
    here = _machine()
    if rank == 0:
        store.set(_FIRST, here)
    together = store.get(_FIRST).decode() == here
    address = resolve(host)
    if not together:
        store.set(_ELSEWHERE, local_address(address))
    if store.add(_TOLD, 1) >= world:
        store.set(_ALL, "told")
    if environment.get(VARIABLE) or _own_name_is_of_use():
        return
    if together:
        store.wait([_ALL])
        if not store.check([_ELSEWHERE]):
            return
        address = store.get(_ELSEWHERE).decode()
    name = interface_of(local_address(address))
    if name is None:
        raise RendezvousError(
            f"the name of this machine, {platform.node()}, leads to itself only (/etc/hosts): set {VARIABLE} to the "
            f"network interface that leads to {host if not together else address}"
        )
    environment[VARIABLE] = name


def only_here(host: str) -> str:
    """Say that only this machine reaches `host` under the address that it has here; empty when others may reach it.

    Raises RendezvousError when `host` has no address.
    """
    address = resolve(host)
    if not _is_loopback(address):
        return ""
    return (
        f"{host}, where rank 0 is, has the address {address} on {platform.node()}, which no other machine reaches: "
        f"fix /etc/hosts there, or set MASTER_ADDR to an address that all nodes reach"
    )


def listen_at(host: str, port: int, several_nodes: bool = False) -> int:
    """Listen at a port of the address of `host` alone, and return the socket's descriptor.

    Where that is no address of this machine (a container behind a forwarded port), or one that only this machine
    reaches although there are several nodes, at all of its addresses. Raises OSError, and RendezvousError when `host`
    has no address.
    """
    address = resolve(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if several_nodes and _is_loopback(address):
        return _listen(family, "", port)
    try:
        return _listen(family, address, port)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
    return _listen(family, "", port)


def _listen(family: int, address: str, port: int) -> int:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(4096)
        return server.detach()


def local_address(address: str) -> str:
    """Return the address of this machine in the network that leads to `address`. Nothing is sent. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that has an IPv4 address; None when no interface has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), _GET_ADDRESS, request)
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO):
                    continue  # one without an address
                raise
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def _machine() -> str:
    """Name the running system and the network that this process sees: equal for processes that share a loopback."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/net').st_ino}"
    except OSError:
        return uuid.uuid4().hex  # not known: as if on a machine of its own


def _own_name_is_of_use() -> bool:
    try:
        return not _is_loopback(resolve(socket.gethostname(), 5.0))
    except RendezvousError:
        return False


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
