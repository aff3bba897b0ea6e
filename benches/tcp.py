#!/usr/bin/env python3
"""doorbell's TCP beside spead2's, on one machine, in turn, in one run.

    cargo bench --no-run
    python3 -m venv .venv && .venv/bin/pip install -r tests/interop/requirements.txt
    .venv/bin/python benches/tcp.py

Both send batches of 512 KiB of ready-made heaps, two in flight and none filled anew (doorbell by
benches/cost.rs), over loopback to a process that has the kernel
drop what comes (MSG_TRUNC of tcp(7)) and notes the time from the first byte to the last. spead2's TCP sender
is that of its wheel: it has no use for UDP_SEGMENT, which the wheel lacks. Medians of GB/s of the stream; the
ratio is the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import socket
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import spead2
import spead2.send.asyncio

Sender = Callable[[int, int, int], None]
"""Takes bytes to send, bytes a heap, and a port."""


def main() -> None:
    arguments = parse()
    senders: dict[str, Sender] = {
        "doorbell": doorbell(arguments.packet_size),
        "spead2": lambda *rest: asyncio.run(send_by_spead2(*rest, arguments.packet_size)),
    }
    print(f"packets of at most {arguments.packet_size} bytes, medians of {arguments.rounds} rounds, GB/s")
    print(f"{'heap':>10} " + " ".join(f"{name:>9}" for name in senders) + f" {'ratio':>7}")
    for heap_size in arguments.heap_sizes:
        rates: dict[str, list[float]] = {name: [] for name in senders}
        for _ in range(arguments.rounds):
            for name, send in senders.items():
                rates[name].append(measure(send, arguments.bytes, heap_size))
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["doorbell"], rates["spead2"]))
        cells = " ".join(f"{statistics.median(values):9.2f}" for values in rates.values())
        print(f"{heap_size:10} {cells} {ratio:7.2f}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heap-sizes", type=int, nargs="+", default=[1024, 8192, 65536, 1 << 20, 4 << 20])
    parser.add_argument("--packet-size", type=int, default=9000)
    parser.add_argument("--bytes", type=int, default=2 << 30, help="of payload, each time")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def measure(send: Sender, size: int, heap_size: int) -> float:
    with socket.create_server(("127.0.0.1", 0)) as acceptor:
        here, there = multiprocessing.Pipe()
        sink = multiprocessing.Process(target=drop, args=(acceptor, there))
        sink.start()
        send(size, heap_size, acceptor.getsockname()[1])
        received, seconds = here.recv()
        sink.join()
    assert received >= size, f"{received} bytes of {size} came"
    return received / seconds * 1e-9


def drop(acceptor: socket.socket, result: multiprocessing.connection.Connection) -> None:
    connection, _ = acceptor.accept()
    room = bytearray(1 << 20)
    received = connection.recv_into(room, 1)
    begin = time.monotonic()
    while some := connection.recv_into(room, len(room), socket.MSG_TRUNC):
        received += some
    result.send((received, time.monotonic() - begin))


def doorbell(packet_size: int) -> Sender:
    program = cost()

    def send(size: int, heap_size: int, port: int) -> None:
        heaps = max(1, BATCH_BYTES // heap_size)
        command = [program, "tcp", f"127.0.0.1:{port}", heap_size, heaps, -(-size // (heaps * heap_size))]
        command += ["packed", "off", packet_size]
        subprocess.run([str(argument) for argument in command], check=True, capture_output=True)

    return send


def cost() -> Path:
    """benches/cost.rs, as cargo says where it has put it."""
    build = ["cargo", "bench", "--no-run", "--bench", "cost", "--message-format=json"]
    messages = subprocess.run(build, check=True, capture_output=True, text=True).stdout.splitlines()
    found = (json.loads(line) for line in messages)
    ours = (it for it in found if it.get("executable") and it["target"]["name"] == "cost")
    return Path(next(ours)["executable"])


async def send_by_spead2(size: int, heap_size: int, port: int, packet_size: int) -> None:
    group = spead2.send.ItemGroup()
    group.add_item(0x1600, "timestamp", "", shape=(), format=[("u", 40)], value=0)
    samples = np.zeros(heap_size, np.int8)
    group.add_item(0x3300, "adc_samples", "", shape=samples.shape, dtype=samples.dtype, value=samples)
    heaps = max(1, BATCH_BYTES // heap_size)
    references = [spead2.send.HeapReference(group.get_heap(descriptors="none", data="all")) for _ in range(heaps)]
    batch = spead2.send.HeapReferenceList(references)
    stream = await spead2.send.asyncio.TcpStream.connect(
        spead2.ThreadPool(),
        [("127.0.0.1", port)],
        spead2.send.StreamConfig(max_packet_size=packet_size, max_heaps=BATCHES_IN_FLIGHT * heaps),
    )
    in_flight: deque[asyncio.Future[int]] = deque()
    for _ in range(-(-size // (heaps * heap_size))):
        if len(in_flight) == BATCHES_IN_FLIGHT:
            await in_flight.popleft()
        in_flight.append(stream.async_send_heaps(batch, spead2.send.GroupMode.SERIAL))
    while in_flight:
        await in_flight.popleft()


BATCH_BYTES = 512 << 10
BATCHES_IN_FLIGHT = 2

if __name__ == "__main__":
    main()
