#!/usr/bin/env python3
"""doorbell beside spead2, on one machine, in turn, in one run.

    cargo build --release
    benches/spead2/build.sh                                     # spead2 in C++, with UDP_SEGMENT
    .venv/bin/python benches/compare.py                         # as root, or `unshare -rn` before it

Heaps of each size go into an ifb device in a private network namespace, which frees what it is given;
each sender has them ready and fills none. All send batches of 512 KiB, two in flight; spead2 in C++ from
an array of `heap_reference` (benches/spead2/send_batches.cpp), its wheel from a `HeapReferenceList`. Medians
of the payload's GB/s; the ratio is the median of the ratios within each round.

spead2's wheel is built without UDP_SEGMENT: it makes one message of each packet, and is no measure of
what spead2 can do. The C++ program is; --spead2-sender takes another one with the same arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

Sender = Callable[[int, int], float]
"""Sends heaps of a size in packets of at most a size, in bytes; returns GB/s of payload."""


def main() -> None:
    arguments = parse()
    enter_network(arguments.packet_size)
    senders: dict[str, Sender] = {
        "doorbell 0copy": doorbell(arguments.doorbell, "packed", "udp 0copy", arguments.seconds),
        "doorbell packed": doorbell(arguments.doorbell, "packed", "udp", arguments.seconds),
        "doorbell split": doorbell(arguments.doorbell, "split", "udp", arguments.seconds),
    }
    rivals: dict[str, Sender] = {}
    if arguments.spead2_sender.exists():
        rivals["spead2 C++"] = spead2_batches(arguments.spead2_sender, arguments.seconds)
    else:
        print(f"left out  spead2 in C++: there is no {arguments.spead2_sender} (benches/spead2/build.sh)")
    try:
        import spead2
    except ImportError:
        print("left out  spead2's wheel: this Python does not have it (pip install spead2)")
        arguments.without_wheel = True
    if not arguments.without_wheel:
        rivals[f"wheel {spead2.__version__}"] = spead2_wheel(arguments.seconds)
        print(
            "caveat    spead2's wheel is built without UDP_SEGMENT and sends packet by packet: "
            "beside it, ratios flatter"
        )
    if not rivals:
        sys.exit("there is nothing to compare with")
    names = [*senders, *rivals]
    ratios = [(ours, theirs) for theirs in rivals for ours in senders]
    titles = [*names, *(f"{ours.split()[1]}/{theirs}" for ours, theirs in ratios)]
    widths = [max(9, len(title)) for title in titles]

    def print_row(first: str, cells: list[str]) -> None:
        print(f"{first:>9}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths)), sep="  ")

    for packet_size in arguments.packet_size:
        print(f"\npackets of up to {packet_size} bytes of SPEAD: GB/s of payload")
        print_row("heap", titles)
        for heap_size in arguments.heap_size:
            rounds = [
                {name: send(heap_size, packet_size) for name, send in (senders | rivals).items()}
                for _ in range(arguments.repeat)
            ]
            medians = [f"{statistics.median(r[name] for r in rounds):.2f}" for name in names]
            times = [f"{statistics.median(r[a] / r[b] for r in rounds):.2f}x" for a, b in ratios]
            print_row(str(heap_size), medians + times)


def parse() -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sizes = [512 << index for index in range(0, 14)]
    parser.add_argument("--heap-size", type=int, nargs="+", default=sizes, metavar="BYTES")
    parser.add_argument("--packet-size", type=int, nargs="+", default=[1472, 8972], metavar="BYTES")
    parser.add_argument("--repeat", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.2, metavar="S", help="each time")
    parser.add_argument("--without-wheel", action="store_true", help="leave spead2's wheel out")
    target = Path(__file__).resolve().parent.parent / "target"
    parser.add_argument(
        "--spead2-sender", type=Path, default=target / "spead2/send_batches", metavar="PATH"
    )
    parser.add_argument("--doorbell", type=Path, default=target / "release/doorbell", metavar="PATH")
    return parser.parse_args()


def enter_network(packet_sizes: list[int]) -> None:
    """Moves this process, and so those it starts, to a network with nothing but the sink.

    Before any other thread is started: a namespace belongs to a thread (network_namespaces(7)).
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"cannot make a network namespace ({reason}): run as root, or after `unshare -rn`")
    mtu = max(packet_sizes) + IP_UDP_HEADERS
    for command in (
        "ip link set lo up",
        f"ip link add sink0 mtu {mtu} type ifb",
        "tc qdisc replace dev sink0 root noqueue",
        "ip address add 198.18.0.1/15 dev sink0",
        "ip link set sink0 up",
    ):
        subprocess.run(command.split(), check=True)


def doorbell(program: Path, layout: str, backend: str, seconds: float) -> Sender:
    def send(heap_size: int, packet_size: int) -> float:
        command = [program, "bench", "--json", "--backends", "udp", "--layouts", layout]
        command += ["--sizes", str(heap_size), "--packet-sizes", str(packet_size)]
        command += ["--repeat", "1", "--seconds", str(seconds), "--sink", f"{HOST}:{PORT}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = json.loads(output)["rows"]
        return next(row["gb_per_s"]["median"] for row in rows if row["backend"] == backend)

    return send


def spead2_wheel(seconds: float) -> Sender:
    import numpy
    import spead2.send.asyncio

    def send(heap_size: int, packet_size: int) -> float:
        group = spead2.send.ItemGroup()
        group.add_item(0x1600, "timestamp", "", shape=(), format=[("u", 40)], value=0)
        samples = numpy.zeros(heap_size, numpy.int8)
        group.add_item(
            0x3300, "adc_samples", "", shape=samples.shape, dtype=samples.dtype, value=samples
        )
        heaps = max(1, BATCH_BYTES // heap_size)
        batch = spead2.send.HeapReferenceList(
            [
                spead2.send.HeapReference(group.get_heap(descriptors="none", data="all"))
                for _ in range(heaps)
            ]
        )
        return asyncio.run(run(batch, heaps, heap_size, packet_size))

    async def run(batch: object, heaps: int, heap_size: int, packet_size: int) -> float:
        config = spead2.send.StreamConfig(
            max_packet_size=packet_size, max_heaps=BATCHES_IN_FLIGHT * heaps
        )
        pool = spead2.ThreadPool(1)
        stream = spead2.send.asyncio.UdpStream(pool, [(HOST, PORT)], config)
        mode = spead2.send.GroupMode.SERIAL
        in_flight = deque([stream.async_send_heaps(batch, mode)])
        await in_flight.popleft()
        sent = 0
        start = time.perf_counter()
        while in_flight or time.perf_counter() - start < seconds:
            while len(in_flight) < BATCHES_IN_FLIGHT and time.perf_counter() - start < seconds:
                in_flight.append(stream.async_send_heaps(batch, mode))
            if in_flight:
                await in_flight.popleft()
                sent += heaps * heap_size
        return sent / (time.perf_counter() - start) * 1e-9

    return send


def spead2_batches(program: Path, seconds: float) -> Sender:
    def send(heap_size: int, packet_size: int) -> float:
        command = [program, HOST, PORT, heap_size, packet_size, seconds]
        output = subprocess.run(
            [str(argument) for argument in command], check=True, capture_output=True, text=True
        ).stdout
        return json.loads(output)["gb_per_s"]

    return send


HOST, PORT = "198.18.0.2", 7148
"""In the network for benchmarks: RFC 2544, appendix C.2.2. An ifb device asks for no neighbour."""
CLONE_NEWNET = 0x40000000
IP_UDP_HEADERS = 28
BATCH_BYTES = 512 << 10
BATCHES_IN_FLIGHT = 2

if __name__ == "__main__":
    main()
