#!/usr/bin/env python3
"""Receives frames that `doorbell` sends as 10-bit integers, with numpy and spead2 alone, and shows that they
equal their source within half a step.

    cargo build --release
    .venv/bin/python examples/receive_frames.py [--timeout SECONDS] [PATH-OF-DOORBELL]
"""

from __future__ import annotations

import argparse
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import spead2
import spead2.recv

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doorbell", nargs="?", type=Path, default=ROOT / "target/release/doorbell")
    parser.add_argument(
        "--timeout", type=float, default=10, metavar="SECONDS", help="how long to wait for the next heap [%(default)g]"
    )
    arguments = parser.parse_args()
    # What a renderer would make: linear light, mostly dim, as 64-bit floats.
    frames = np.random.default_rng(1).gamma(2.0, 0.1, size=(5, 270, 480, 3))

    # TCP, on which nothing is lost however late this process comes to read.
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stream = spead2.recv.Stream(spead2.ThreadPool())
    stream.add_tcp_reader(listener)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "frames.npy"
        np.save(path, frames)
        send = [arguments.doorbell, "send", "-q", "--backend", "tcp", "--to", f"127.0.0.1:{port}"]
        sender = subprocess.Popen([*send, "--source", path, "--pack", "u10", "--range", f"0..{frames.max()}"])
        try:
            items = spead2.ItemGroup()
            received = []
            for heap in heaps(stream, arguments.timeout):
                if "data" in items.update(heap):
                    # A descriptor said how: integers of 10 bits, and items named scale and offset.
                    integers = np.asarray(items["data"].value)
                    received.append(integers * items["scale"].value + items["offset"].value)
            assert sender.wait(arguments.timeout) == 0
        finally:
            sender.kill()

    step = items["scale"].value
    error = np.abs(np.stack(received) - frames).max()
    print(f"{len(received)} frames of {received[0].shape}, {items['data'].format}")
    print(f"the largest error is {error / step:.3f} steps of {step:.6f}")
    assert len(received) == len(frames)
    assert error <= step / 2 * (1 + 1e-9)


def heaps(stream: spead2.recv.Stream, timeout: float) -> Iterator[spead2.recv.Heap]:
    """The heaps of a stream, up to its end; the end of this program if none comes for so long."""
    while True:
        ready, _, _ = select.select([stream.fd], [], [], timeout)
        if not ready:
            sys.exit(f"no heap came for {timeout:g} s: does the sender run, and send here?")
        try:
            yield stream.get()
        except spead2.Stopped:
            return


if __name__ == "__main__":
    main()
