#!/usr/bin/env python3
"""Receives frames that `doorbell` sends as 10-bit integers, with numpy and spead2 alone, and shows that they
equal their source within half a step.

    cargo build --release
    .venv/bin/python examples/receive_frames.py [PATH-OF-DOORBELL]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import spead2
import spead2.recv

ROOT = Path(__file__).resolve().parent.parent
DOORBELL = sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/doorbell"


def main() -> None:
    # What a renderer would make: linear light, mostly dim, as 64-bit floats.
    frames = np.random.default_rng(1).gamma(2.0, 0.1, size=(5, 270, 480, 3))

    stream = spead2.recv.Stream(spead2.ThreadPool())
    port = 7155
    stream.add_udp_reader(port, max_size=65507, buffer_size=16 << 20, bind_hostname="127.0.0.1")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "frames.npy"
        np.save(path, frames)
        send = [DOORBELL, "send", "-q", "--source", path, "--pack", "u10", "--range", f"0..{frames.max()}"]
        # Slowly: this receiver's buffer is what net.core.rmem_max allows.
        sender = subprocess.Popen([*send, "--to", f"127.0.0.1:{port}", "--rate", "400Mb/s"])
        items = spead2.ItemGroup()
        received = []
        for heap in stream:
            if "data" in items.update(heap):
                # A descriptor said how: integers of 10 bits, and items named scale and offset.
                integers = np.asarray(items["data"].value)
                received.append(integers * items["scale"].value + items["offset"].value)
        assert sender.wait() == 0

    step = items["scale"].value
    error = np.abs(np.stack(received) - frames).max()
    print(f"{len(received)} frames of {received[0].shape}, {items['data'].format}")
    print(f"the largest error is {error / step:.3f} steps of {step:.6f}")
    assert len(received) == len(frames)
    assert error <= step / 2 * (1 + 1e-9)


if __name__ == "__main__":
    main()
