"""A network of its own for a test: loopback and a veth pair that nobody else can reach."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

Result = TypeVar("Result")


def in_new_network(setup: list[str], test: Callable[[], Result]) -> Result:
    """Runs the ``ip`` commands of `setup`, then `test`, in a new network namespace.

    A namespace belongs to a thread (network_namespaces(7)): sockets opened and programs started by
    this one are inside, while the rest of the process stays where it is.
    """
    if shutil.which("ip") is None:
        pytest.skip("needs `ip` (iproute2)")

    def inside() -> Result:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            pytest.skip(f"needs root to make a network namespace: {reason}")
        for command in setup:
            subprocess.run(["ip", *command.split()], check=True)
        return test()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(inside).result()


CLONE_NEWNET = 0x40000000
VETH = "veth0"
VETH_SETUP = [
    "link set lo up",
    f"link add {VETH} type veth peer name veth1",
    f"link set {VETH} up",
    "link set veth1 up",
    # nodad: duplicate address detection (RFC 4862) would make the address wait.
    f"addr add fd00:7148::1/64 dev {VETH} nodad",
]
