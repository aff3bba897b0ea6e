#!/usr/bin/env python3
"""How well doorbell keeps to a rate, beside spead2's limiter, in one run.

    cargo build --release
    benches/spead2/build.sh                                     # spead2 in C++, with UDP_SEGMENT
    .venv/bin/python benches/pacing.py                          # as root; needs tcpdump, iproute2 and numpy

Heaps of 8 KiB go over a veth pair in a private network namespace, one sender after the other at each rate.
What happened is read off the far end, where tcpdump notes when the kernel was given which bytes:

- achieved: the slope of the line through bytes over time, in percent of the rate asked for. Each sender is
  asked for what it counts: doorbell for bytes on the wire, spead2 for bytes of SPEAD.
- off the line: how far the moments of arrival are from the line that the rate asked for draws, what 99% of
  packets are within: what a buffer on the way would have to hold, in time.
- jitter: what doorbell says itself of the times between its bursts, 99% within.
- CPU: processor time of all threads over time, in percent of one core.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """How one sender kept to one rate."""

    achieved: float
    off_the_line_us: float
    cpu: float
    jitter_us: float | None = None


def main() -> None:
    arguments = parse()
    enter_network()
    senders = {"doorbell": doorbell(arguments.doorbell)}
    if arguments.spead2_sender.exists():
        senders["spead2"] = spead2(arguments.spead2_sender)
    else:
        print(f"left out  spead2: there is no {arguments.spead2_sender} (benches/spead2/build.sh)")
    heading = f"{'':>10} " + " ".join(f"{name:^39}" for name in senders)
    columns = " ".join(f"{'achieved %':>10} {'off line us':>12} {'jitter us':>10} {'CPU':>4}" for _ in senders)
    print(heading, f"{'rate':>10} {columns}", sep="\n")
    worst = 0.0
    for rate in arguments.rates:
        cells = []
        for name, command in senders.items():
            outcome = measure(command(rate, arguments.seconds), rate)
            if name == "doorbell":
                worst = max(worst, abs(outcome.achieved - 1))
            jitter = "" if outcome.jitter_us is None else f"{outcome.jitter_us:.2f}"
            cells.append(
                f"{100 * outcome.achieved:10.3f} {outcome.off_the_line_us:12.1f} {jitter:>10} {100 * outcome.cpu:4.0f}"
            )
        print(f"{name_of(rate):>10} {' '.join(cells)}", flush=True)
    print(f"doorbell is within {100 * worst:.3f}% of what was asked for")


def parse() -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="in bits per second")
    parser.add_argument("--seconds", type=float, default=10, help="of each sender at each rate")
    parser.add_argument("--doorbell", type=Path, default=root / "target/release/doorbell")
    parser.add_argument("--spead2-sender", type=Path, default=root / "target/spead2/send_batches")
    return parser.parse_args()


def doorbell(program: Path):
    def command(rate: float, seconds: float) -> list[str]:
        heaps = max(2, int(rate * seconds / 8 / (PACKET_SIZE + HEADERS)))
        send = [program, "send", "-q", "--json", "--to", f"{HOST}:{PORT}", "--backend", "udp"]
        send += ["--packet-size", PACKET_SIZE, "--heap-size", HEAP_SIZE, "--heaps", heaps]
        return [str(argument) for argument in [*send, "--descriptors", "own", "--rate", int(rate)]]

    return command


def spead2(program: Path):
    def command(rate: float, seconds: float) -> list[str]:
        speads = rate / 8 * PACKET_SIZE / (PACKET_SIZE + HEADERS)
        return [str(argument) for argument in [program, HOST, PORT, HEAP_SIZE, PACKET_SIZE, seconds, speads]]

    return command


def measure(command: list[str], rate: float) -> Outcome:
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".pcap") as capture:
        tap = subprocess.Popen(
            ["tcpdump", "-i", "veth1", "-Q", "in", "-s", str(SNAPPED), "-B", "131072", "--time-stamp-precision=nano"]
            + ["-Z", "root", "-w", capture.name, "udp"],
            stderr=subprocess.PIPE,
            text=True,
        )
        while "listening on" not in (line := tap.stderr.readline()):
            assert line, "tcpdump has ended"
        begin, before = time.monotonic(), cpu_seconds()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        cpu = (cpu_seconds() - before) / (time.monotonic() - begin)
        time.sleep(0.5)
        tap.send_signal(signal.SIGINT)
        said = tap.communicate()[1]
        assert "\n0 packets dropped by kernel" in said, said
        times, bytes_before = read(Path(capture.name))
    slope = np.polyfit(times - times[0], bytes_before, 1)[0]
    late = times - bytes_before * 8 / rate
    report = json.loads(done.stdout.splitlines()[-1])
    jitter = report.get("jitter", {}).get("p99_us")
    off_the_line = np.quantile(np.abs(late - np.median(late)), 0.99) * 1e6
    return Outcome(slope * 8 / rate, off_the_line, cpu, jitter)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """When what the kernel handed over as one was there, and how many bytes of frames were before it."""
    record = np.dtype([("seconds", "<u4"), ("nanoseconds", "<u4"), ("kept", "<u4"), ("length", "<u4"), ("", f"V{SNAPPED}")])
    records = np.frombuffer(path.read_bytes()[FILE_HEADER:], record)
    # Descriptors and the stop heap are the first and the last; all others are whole packets, one or several.
    records = records[records["length"] >= HEADERS + PACKET_SIZE]
    assert (records["kept"] == SNAPPED).all()
    spead = records["length"].astype(np.int64) - HEADERS
    frames = spead + HEADERS * (spead // PACKET_SIZE)
    start = int(records["seconds"][0])
    times = (records["seconds"].astype(np.int64) - start) + records["nanoseconds"] * 1e-9
    return times, np.concatenate([[0], np.cumsum(frames)[:-1]])


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def enter_network() -> None:
    """Moves this process, and so those it starts, to a network where frames from one end are seen at the other.

    Before any other thread is started: a namespace belongs to a thread (network_namespaces(7)).
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit(f"cannot make a network namespace ({os.strerror(ctypes.get_errno())}): run as root")
    for command in (
        "ip link set lo up",
        "ip link add veth0 mtu 9000 type veth peer name veth1 mtu 9000",
        "ip address add 198.18.0.1/15 dev veth0",
        "ip link set veth0 up",
        "ip link set veth1 up",
        f"ip neighbour replace {HOST} lladdr 02:00:00:00:00:01 dev veth0",
    ):
        subprocess.run(command.split(), check=True)


def name_of(rate: float) -> str:
    unit = next(unit for unit in ((1e9, "Gb/s"), (1e6, "Mb/s"), (1, "b/s")) if rate >= unit[0])
    return f"{rate / unit[0]:g} {unit[1]}"


RATES = [1e6, 10e6, 100e6, 1e9, 2.5e9, 5e9, 10e9, 15e9, 20e9]
HOST, PORT = "198.18.0.2", 7148
"""In the network for benchmarks: RFC 2544, appendix C.2.2."""
HEAP_SIZE = 8192
PACKET_SIZE = HEAP_SIZE + 56
"""Header, four item pointers that every packet has, timestamp and samples: a heap is one packet."""
HEADERS = 14 + 20 + 8
SNAPPED = 64
FILE_HEADER = 24
CLONE_NEWNET = 0x40000000

if __name__ == "__main__":
    main()
