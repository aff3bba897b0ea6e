"""Networks of their own for a test: loopback and veth pairs that nobody else can reach."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

Result = TypeVar("Result")


class Network:
    """A network namespace, and a thread inside it that runs what this is called with.

    A namespace belongs to a thread (network_namespaces(7)): sockets opened and programs started by
    that one are inside, while the rest of the process stays where it is. The kernel takes it away
    once thread, sockets and programs are gone.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Network:
        if shutil.which("ip") is None:
            pytest.skip("needs `ip` (iproute2)")
        reason = self(enter_new_namespace)
        if reason is not None:
            self._thread.shutdown()
            pytest.skip(f"needs root to make a network namespace: {reason}")
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def __call__(self, action: Callable[..., Result], *arguments: object) -> Result:
        """Runs ``action(*arguments)`` inside."""
        return self._thread.submit(action, *arguments).result()

    def ip(self, *commands: str) -> list[str]:
        """What ``ip`` prints, for each of `commands`."""
        return [self(run_ip, command) for command in commands]

    def counters(self) -> dict[str, int]:
        """What the kernel counts of IP and UDP (``/proc/net/snmp`` and ``snmp6``)."""
        return self(read_counters)


@dataclass(frozen=True)
class Wire:
    """Two networks with a veth pair between them; the interface has one name at both ends."""

    near: Network
    far: Network


def in_new_network(setup: list[str], test: Callable[[], Result]) -> Result:
    """Runs the ``ip`` commands of `setup`, then `test`, in a new network namespace."""
    with Network() as network:
        network.ip(*setup)
        return network(test)


@contextmanager
def joined_networks(mtu: int = 9000) -> Iterator[Wire]:
    """Two networks that reach each other through `VETH`, at `NEAR` and `FAR`."""
    with Network() as near, Network() as far:
        near.ip(f"link add {VETH} type veth peer name {VETH} netns {far(threading.get_native_id)}")
        for network, addresses in ((near, NEAR), (far, FAR)):
            network.ip(
                "link set lo up",
                f"link set {VETH} mtu {mtu} up",
                f"addr add {addresses.ipv4}/24 dev {VETH}",
                # nodad: duplicate address detection (RFC 4862) would make the address wait.
                f"addr add {addresses.ipv6}/64 dev {VETH} nodad",
            )
        wait_for_carrier(near)
        wait_for_carrier(far)
        yield Wire(near, far)


def wait_for_carrier(network: Network) -> None:
    """Until then, frames are dropped."""
    deadline = time.monotonic() + PATIENCE
    while "state UP" not in network.ip(f"link show {VETH}")[0]:
        assert time.monotonic() < deadline, "veth has no carrier"
        time.sleep(0.01)


@dataclass(frozen=True)
class Addresses:
    ipv4: str
    ipv6: str


def enter_new_namespace() -> str | None:
    """Moves this thread, or says why it cannot."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    return None


def run_ip(command: str) -> str:
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {command}: {done.stderr}"
    return done.stdout


def read_counters() -> dict[str, int]:
    counters: dict[str, int] = {}
    # /proc/net is the network of the main thread.
    with open("/proc/thread-self/net/snmp") as file:
        lines = [line.split() for line in file]
    for names, values in zip(lines[::2], lines[1::2]):
        prefix = names[0].removesuffix(":")
        counters |= {f"{prefix}{name}": int(value) for name, value in zip(names[1:], values[1:])}
    with open("/proc/thread-self/net/snmp6") as file:
        counters |= {name: int(value) for name, value in map(str.split, file)}
    return counters


PATIENCE = 60
CLONE_NEWNET = 0x40000000
VETH = "veth0"
NEAR = Addresses("10.71.48.1", "fd00:7148::1")
FAR = Addresses("10.71.48.2", "fd00:7148::2")
VETH_SETUP = [
    "link set lo up",
    f"link add {VETH} type veth peer name veth1",
    f"link set {VETH} up",
    "link set veth1 up",
    # nodad: duplicate address detection (RFC 4862) would make the address wait.
    f"addr add fd00:7148::1/64 dev {VETH} nodad",
]
