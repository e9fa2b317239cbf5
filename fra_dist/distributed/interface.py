"""The choice of the network interface that leads to the other ranks.

Gloo listens at the address of this machine's own name. On Debian and its relatives that is 127.0.1.1 (/etc/hosts),
which no other machine can reach: the interface that leads to rank 0 is used instead.
"""

import errno
import fcntl
import ipaddress
import os
import platform
import socket
import struct
import threading
from collections.abc import MutableMapping

from fra_dist.errors import RendezvousError

VARIABLE = "GLOO_SOCKET_IFNAME"
_PATIENCE = 20.0
_GET_ADDRESS = 0x8915  # SIOCGIFADDR


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


def choose_interface(host: str, several_nodes: bool, environment: MutableMapping[str, str] = os.environ) -> None:
    """Make gloo use the interface that leads to `host`, where rank 0 is, if this machine's name leads only to itself.

    A choice that the user made in GLOO_SOCKET_IFNAME stays. Raises RendezvousError when `host` has no address, or when
    there are several nodes and its address is one that only its own machine can reach.
    """
    address = resolve(host)
    if not several_nodes or environment.get(VARIABLE):
        return
    if _is_loopback(address):
        raise RendezvousError(
            f"{host}, where rank 0 is, has the address {address} on {platform.node()}, which no other node reaches: "
            f"mend /etc/hosts there, or set MASTER_ADDR to an address that all nodes reach"
        )
    if _own_name_is_of_use():
        return
    name = interface_of(local_address(address))
    if name is None:
        raise RendezvousError(
            f"the name of this machine, {platform.node()}, leads to itself only (/etc/hosts): set {VARIABLE} to the "
            f"network interface that leads to {host}"
        )
    environment[VARIABLE] = name


def listen_at(host: str, port: int) -> int:
    """Listen at a port of the address of `host` alone, and return the socket's descriptor.

    Where that is no address of this machine (a container behind a forwarded port), at all of its addresses. Raises
    OSError, and RendezvousError when `host` has no address.
    """
    address = resolve(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
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


def _own_name_is_of_use() -> bool:
    try:
        return not _is_loopback(resolve(socket.gethostname(), 5.0))
    except RendezvousError:
        return False


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
