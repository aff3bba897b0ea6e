"""UDP sockets on loopback to receive on, and what `doorbell send` must be told to reach them."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Endpoint:
    """A bound socket, and how to send to it."""

    socket: socket.socket
    destination: str
    flags: tuple[str, ...] = ()

    @property
    def to(self) -> list[str]:
        """The flags that make this endpoint a destination."""
        return ["--to", self.destination, *self.flags]

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    @property
    def lossless_bytes(self) -> int:
        """How much may wait unread, allowing for what the kernel spends on book-keeping."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 4


def bound_endpoint(kind: str = "ipv4", port: int = 0, buffer: int = 0) -> Endpoint:
    """A socket on a free port: `kind` is ``ipv4``, ``ipv6`` or ``multicast``."""
    match kind:
        case "ipv4":
            return endpoint("127.0.0.1", bind(socket.AF_INET, ("127.0.0.1", port), buffer))
        case "ipv6":
            return endpoint("[::1]", bind(socket.AF_INET6, ("::1", port), buffer))
        case "multicast":
            return multicast_endpoint("239.255.77.1", port)
    raise ValueError(f"no such kind of endpoint: {kind}")


def multicast_endpoint(group: str, port: int = 0, interface: str = "lo") -> Endpoint:
    """An IPv4 group, joined on `interface`."""
    sock = bind(socket.AF_INET, (group, port))
    # struct ip_mreqn (ip(7)), which names the interface by its index.
    member = socket.inet_aton(group) + struct.pack("@4xi", socket.if_nametoindex(interface))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return endpoint(group, sock, "--interface", interface)


def multicast6_endpoint(group: str, interface: str, port: int = 0) -> Endpoint:
    """An IPv6 group, joined on `interface` (which must be able to multicast: loopback is not)."""
    # The process-wide view of /sys is not this thread's network namespace; if_nametoindex is.
    index = socket.if_nametoindex(interface)
    sock = bind(socket.AF_INET6, (group, port, 0, index))
    sock.setsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
    )
    return endpoint(f"[{group}]", sock, "--interface", interface)


def endpoint(host: str, sock: socket.socket, *flags: str) -> Endpoint:
    return Endpoint(sock, f"{host}:{sock.getsockname()[1]}", flags)


def bind(family: socket.AddressFamily, address: tuple, buffer: int = 0) -> socket.socket:
    """A datagram socket with as much receive buffer as this process may have, or `buffer` bytes."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer or RECEIVE_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer or RECEIVE_BUFFER)
    sock.bind(address)
    return sock


def wait_until_bound(port: int) -> None:
    """Until another process listens at an IPv4 port."""
    deadline = time.monotonic() + PATIENCE
    while f":{port:04X} " not in Path("/proc/net/udp").read_text():
        assert time.monotonic() < deadline, f"nobody listens at port {port}"
        time.sleep(0.01)


# socket(7): as SO_RCVBUF, but past net.core.rmem_max, for those with CAP_NET_ADMIN.
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 512 << 20
PATIENCE = 60
