#!/usr/bin/env python3
"""4K frames from one process to another: doorbell beside pyzmq, on one machine, in turn, in one run.

    cargo build --release
    python3 -m venv .venv && .venv/bin/pip install -r benches/compare_frames.txt
    .venv/bin/python benches/compare_frames.py            # as root: large receive buffers take that
    .venv/bin/python benches/compare_frames.py --quick

Frames of 3840 x 2160 x 3 float64, 199 MB each, all different, lie in memory: for pyzmq in four arrays
of the sender's, for doorbell in a file in /dev/shm that it maps. They go over loopback from a sender to a
receiver, which has each of them whole in memory. Every way has its turn in each round; the table has
medians over the rounds, and ratios that are medians of the ratios within each round.

- frames/s: from the first send (doorbell: the first packet, one frame's time added) to the last byte
  received.
- CPU s/frame: user and system time of each process with all of its threads. doorbell's receiver counts
  from its start to its end, the others from the first frame to the last. The kernel's work for loopback
  is charged to whoever sends.
- wire: bytes that go through the socket, SPEAD, UDP and IP headers included; of TCP the payload alone.
- UDP drops what a receiver has no room for, so doorbell sends with --hold-back, which waits while the
  receiver's socket is full, as TCP does. A round in which a frame did not arrive whole would not count:
  the last column says how many do.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zmq

SHAPE = (2160, 3840, 3)
FRAME_BYTES = 8 * 3 * 3840 * 2160
PACKED = {
    "float64": [],
    "u16": ["--pack", "u16", "--range", "0..1"],
    "u10": ["--pack", "u10", "--range", "0..1"],
}


@dataclass
class Run:
    """What sending all frames once came to."""

    whole: bool
    frames_per_s: float
    sender_cpu: float
    receiver_cpu: float
    wire_bytes: float

    @property
    def cpu(self) -> float:
        return self.sender_cpu + self.receiver_cpu


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        path = Path(directory) / "frames.npy"
        write_frames(path, arguments.frames)
        ways = {f"pyzmq {way}": way for way in ("tobytes tcp", "tobytes ipc", "zero-copy tcp", "zero-copy ipc")}
        rounds: list[dict[str, Run]] = []
        for number in range(arguments.rounds):
            done = {name: pyzmq(path, way, Path(directory)) for name, way in ways.items()}
            for name in PACKED:
                done[f"doorbell {name}"] = doorbell(arguments, path, name)
            rounds.append(done)
            print(f"round     {number + 1} of {arguments.rounds}", file=sys.stderr)
    report(rounds, arguments)


def parse() -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--doorbell", default="target/release/doorbell", help="the program [%(default)s]")
    parser.add_argument("--frames", type=int, default=16, help="frames a round, 199 MB each [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--buffer", default="64MiB", help="doorbell's receive buffer [%(default)s]")
    parser.add_argument("--directory", default="/dev/shm", help="where frames lie [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="6 frames, 3 rounds")
    parser.add_argument("--json", action="store_true", help="print one object with every round instead")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.frames, arguments.rounds = 6, 3
    if arguments.frames < 2 or arguments.rounds < 1:
        parser.error("there must be at least 2 frames and 1 round")
    return arguments


def write_frames(path: Path, count: int) -> None:
    random = np.random.default_rng(1)
    frames = np.lib.format.open_memmap(path, "w+", np.float64, (count, *SHAPE))
    for frame in frames:
        random.random(out=frame)


# doorbell


def doorbell(arguments: argparse.Namespace, path: Path, name: str) -> Run:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [arguments.doorbell, "recv", "--from", address, "--buffer", arguments.buffer]
    command += ["--timeout", "2", "--json"]
    receiver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert receiver.stdout and receiver.stderr
    if not receiver.stderr.readline().startswith("listening"):
        sys.exit("doorbell recv does not listen")
    command = [arguments.doorbell, "send", "--to", address, "--source", str(path), *PACKED[name]]
    sender = subprocess.run([*command, "--hold-back", "--json", "-q"], check=False, capture_output=True, text=True)
    lines = receiver.stdout.read().splitlines()
    usage = os.wait4(receiver.pid, 0)[2]
    receiver.returncode = 0
    if sender.returncode != 0:
        sys.exit(f"doorbell send failed: {sender.stderr}")
    sent, received = json.loads(sender.stdout.splitlines()[-1]), json.loads(lines[-1])
    frames = sent["heaps"]
    first_frame = received["seconds"] / (frames - 1)
    return Run(
        whole=received["heaps"] == frames and received["dropped"] == 0,
        frames_per_s=frames / max(received["seconds"] + first_frame, sent["seconds"]),
        sender_cpu=(sent["user_seconds"] + sent["system_seconds"]) / frames,
        receiver_cpu=(usage.ru_utime + usage.ru_stime) / frames,
        wire_bytes=sent["wire_bytes"] / frames,
    )


# pyzmq


def pyzmq(path: Path, way: str, directory: Path) -> Run:
    how, transport = way.split()
    address = "tcp://127.0.0.1:*" if transport == "tcp" else f"ipc://{directory}/socket"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    frames = len(np.load(path, mmap_mode="r"))
    receiver = context.Process(target=receive, args=(address, frames, theirs))
    receiver.start()
    bound = ours.recv()
    ready, theirs = context.Pipe()
    sender = context.Process(target=send, args=(bound, path, how, theirs))
    sender.start()
    begin, sender_cpu = ready.recv()
    end, receiver_cpu = ours.recv()
    sender.join()
    receiver.join()
    return Run(
        whole=True,
        frames_per_s=frames / (end - begin),
        sender_cpu=sender_cpu / frames,
        receiver_cpu=receiver_cpu / frames,
        wire_bytes=FRAME_BYTES,
    )


def send(address: str, path: Path, how: str, out: multiprocessing.connection.Connection) -> None:
    stored = np.load(path, mmap_mode="r")
    # Read into memory before the clock starts; some of them in turn, so that memory suffices.
    loaded = [np.array(frame) for frame in stored[:4]]
    frames = [loaded[index % len(loaded)] for index in range(len(stored))]
    with zmq.Context() as context:
        with context.socket(zmq.PUSH) as push:
            push.set_hwm(HIGH_WATER)
            push.connect(address)
            before, begin = cpu(), time.monotonic()
            for frame in frames:
                if how == "tobytes":
                    push.send(frame.tobytes())
                else:
                    push.send(frame, copy=False)
        # Leaving the context waits until everything is sent.
    out.send((begin, cpu() - before))


def receive(address: str, frames: int, out: multiprocessing.connection.Connection) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.set_hwm(HIGH_WATER)
        pull.bind(address)
        out.send(pull.getsockopt_string(zmq.LAST_ENDPOINT))
        before = cpu()
        for _ in range(frames):
            message = pull.recv(copy=False)
            frame = np.frombuffer(message.buffer, np.float64).reshape(SHAPE)
        end = time.monotonic()
        assert frame.nbytes == FRAME_BYTES
        out.send((end, cpu() - before))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


HIGH_WATER = 2
"""Messages that may wait: with the default of 1000, all frames do, and each needs memory of its own."""


# What is said


def report(rounds: list[dict[str, Run]], arguments: argparse.Namespace) -> None:
    if arguments.json:
        every = [{name: asdict(run) for name, run in done.items()} for done in rounds]
        print(json.dumps({"frames": arguments.frames, "rounds": every}))
        return
    references = ["pyzmq tobytes tcp", "pyzmq zero-copy tcp", "pyzmq zero-copy ipc"]
    titles = ["frames/s", "x tobytes", "x zc tcp", "x zc ipc", "MB on wire", "sender CPU", "receiver CPU", "both", "whole"]
    print(f"{arguments.frames} frames of 199 MB a round, {len(rounds)} rounds; CPU in ms a frame")
    print(f"{'':20}", *(f"{title:>12}" for title in titles))
    for name in rounds[0]:
        whole = [done for done in rounds if done[name].whole]
        if not whole:
            print(f"{name:20} lost frames in every round")
            continue

        def median(of: str) -> float:
            return statistics.median(getattr(done[name], of) for done in whole)

        ratios = [
            statistics.median(done[name].frames_per_s / done[other].frames_per_s for done in whole)
            for other in references
        ]
        cells = [
            f"{median('frames_per_s'):.2f}",
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{median('wire_bytes') / 1e6:.1f}",
            *(f"{1e3 * median(of):.0f}" for of in ("sender_cpu", "receiver_cpu", "cpu")),
            f"{len(whole)}/{len(rounds)}",
        ]
        print(f"{name:20}", *(f"{cell:>12}" for cell in cells))
    print("caveat    integers lie packed in the receiver's memory, as they came: widening them is a pass more")


if __name__ == "__main__":
    main()
