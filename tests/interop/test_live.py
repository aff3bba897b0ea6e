"""Sources that are slow: what was read leaves, whether more comes or not.

Nothing here is timed. A writer gives some bytes and then waits until the receiver has all heaps that they hold;
if the sender kept one back, that would be for ever.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from receiver import Receiver
from verbs import VerbsSender


class Writer:
    """The end of a pipe into the program that is written."""

    def __init__(self, process: subprocess.Popen[bytes], file: int) -> None:
        self.process, self.file = process, file

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.file, data) :]

    def end(self) -> None:
        os.close(self.file)


def by_pipe(doorbell, directory: Path, *arguments: object) -> Writer:
    process = doorbell.start("send", "--json", "-q", "--source", "-", *arguments, stdin=b"")
    return Writer(process, os.dup(process.stdin.fileno()))


def by_fifo(doorbell, directory: Path, *arguments: object) -> Writer:
    path = directory / "fifo"
    os.mkfifo(path)
    process = doorbell.start("send", "--json", "-q", "--source", path, *arguments)
    return Writer(process, os.open(path, os.O_WRONLY))


def heap(index: int, size: int | None = None) -> bytes:
    return bytes([index % 251]) * (size or HEAP_SIZE)


@pytest.fixture(params=[by_pipe, by_fifo], ids=["pipe", "fifo"])
def start(request, doorbell, tmp_path) -> Callable[..., Writer]:
    def start(*arguments: object, program=doorbell) -> Writer:
        return request.param(program, tmp_path, *arguments)

    return start


def finish(writer: Writer) -> None:
    writer.end()
    if writer.process.stdin:
        writer.process.stdin.close()
    assert writer.process.wait(timeout=60) == 0, writer.process.stderr.read().decode()


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--batch-heaps", 1],
        ["--batch-heaps", 64, "--rate", "10Mb/s"],
        ["--batch-heaps", 1, "--rate", "1Mb/s"],
        ["--batch-heaps", 3, "--frame-rate", 100],
        ["--zerocopy", "on", "--packet-size", 1472],
        ["--descriptors-every", "20ms"],
    ],
    ids=lambda flags: " ".join(map(str, flags)) or "plain",
)
def test_heaps_that_were_read_leave_though_no_more_come(start, listen, flags: list[object]) -> None:
    receiver = listen()
    writer = start(*receiver.to, "--heap-size", HEAP_SIZE, *flags)
    index = 0
    for count in (1, 2, 5, 1):
        for _ in range(count):
            writer.write(heap(index))
            index += 1
        # And the begin of one, which is to be no reason to keep the others back.
        writer.write(heap(index)[:100])
        received = data_heaps(receiver, count)
        assert received == [heap(index - count + at) for at in range(count)]
        writer.write(heap(index)[100:])
        index += 1
        assert data_heaps(receiver, 1) == [heap(index - 1)]
    finish(writer)


def data_heaps(receiver: Receiver, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        received = receiver.next_heap()
        if received.items:
            found.append(received.content(ITEM, HEAP_SIZE))
    return found


@pytest.mark.parametrize("size", [8192, 3 << 20], ids=["small", "more than the send buffer"])
def test_over_tcp(start, size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as acceptor:
        acceptor.settimeout(60)
        to = f"127.0.0.1:{acceptor.getsockname()[1]}"
        flags = ("--backend", "tcp", "--to", to, "--heap-size", size, "--descriptors", "own")
        started: list[Writer] = []
        # A FIFO is opened once the program reads it, which is after it has connected.
        starter = threading.Thread(target=lambda: started.append(start(*flags)))
        starter.start()
        connection, _ = acceptor.accept()
        starter.join()
        writer = started[0]
        with connection:
            connection.settimeout(60)
            payload = 0
            for index in range(4):
                feed = threading.Thread(target=writer.write, args=(heap(index, size),))
                feed.start()
                # All of this heap's payload, and headers and descriptors besides.
                payload += size
                received = read_until(connection, payload if index == 0 else size)
                assert received.count(heap(index, size)[:1] * 1000) >= 1
                feed.join()
            rest = threading.Thread(target=read_all, args=(connection,))
            rest.start()
            finish(writer)
            rest.join()


def read_until(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += connection.recv(1 << 20)
    return bytes(received)


def read_all(connection: socket.socket) -> None:
    while connection.recv(1 << 20):
        pass


class OnDevice:
    """The program at the near end of a wire, by verbs."""

    def __init__(self, device: VerbsSender) -> None:
        self.device = device

    def start(self, command: str, *arguments: object, **rest: object) -> subprocess.Popen[bytes]:
        begin = partial(self.device.doorbell.start, command, "--backend", "verbs", *arguments, **rest)
        return self.device.wire.near(begin)


def test_over_verbs(start, sender, listen_far) -> None:
    receiver = listen_far()
    writer = start(*receiver.to, "--heap-size", HEAP_SIZE, program=OnDevice(sender()))
    for index in range(5):
        writer.write(heap(index))
        assert data_heaps(receiver, 1) == [heap(index)]
    finish(writer)


def test_a_failure_for_good_ends_a_stream_whose_source_blocks(start, tmp_path: Path) -> None:
    """A capture on a disk that is full: the failure is told though the writer neither writes nor ends."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    flags = ("--to", "127.0.0.1:9", "--backend", "pcap", "--pcap", full, "--heap-size", 1 << 20)
    writer = start(*flags)
    with suppress(BrokenPipeError):
        writer.write(bytes(4 << 20))
    out, err = writer.process.communicate(timeout=60)
    assert writer.process.returncode == 1, err.decode()
    assert b"No space left" in err
    writer.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_stream_whose_source_blocks(start, listen, number: signal.Signals) -> None:
    receiver = listen()
    writer = start(*receiver.to, "--heap-size", HEAP_SIZE)
    writer.write(heap(0) + heap(1)[:5000])
    assert data_heaps(receiver, 1) == [heap(0)]
    writer.process.send_signal(number)
    out, err = writer.process.communicate(timeout=60)
    assert writer.process.returncode == 130, err.decode()
    assert b'"heaps":1,"heaps_failed":0' in out
    assert receiver.until_stop()[-1].is_stop
    writer.end()


ITEM = 0x3300
HEAP_SIZE = 8192
