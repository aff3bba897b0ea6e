"""What goes wrong around a stream while it runs: it goes on, or ends with an error; the counts stay exact."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from endpoint import bound_endpoint, wait_until_bound
from namespace import VETH, Network, Wire, joined_networks, wait_for_carrier
from packets import drain, parse_packet, whole_heaps
from program import plain_environment
from splitmix import heap_payload
from verbs import far_endpoint

HEAPS, HEAP_SIZE, FIRST_DATA_CNT = 600, 8000, 2
SHAPE = ("--descriptors", "own", "--heap-size", HEAP_SIZE, "--heaps", HEAPS)
STREAM = ("--source", "random:71", *SHAPE)


@pytest.fixture
def own_wire() -> Iterator[Wire]:
    """Networks that no other test sees, since what joins them is changed."""
    with joined_networks() as wire:
        yield wire


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    report: dict[str, Any]
    errors: str
    whole: set[int]

    def check_counts(self) -> None:
        """No heap is reported as sent that did not arrive, none as lost that did, and none is forgotten."""
        assert self.report["heaps"] + self.report["heaps_unsubmitted"] == HEAPS, self.report
        assert len(self.whole) == self.report["heaps"] - self.report["heaps_failed"], self.report


@pytest.fixture
def run(own_wire: Wire, doorbell) -> Callable[..., Outcome]:
    """Sends a stream over the wire; its second third while `disturb` has been done, until the program says so."""

    def send(disturb: Callable[[Network], None], calm: Callable[[Network], None]) -> Outcome:
        receiver = far_endpoint(own_wire, "ipv4")
        receiver.socket.settimeout(PATIENCE)
        with receiver.socket, tempfile.TemporaryFile() as log:
            process = own_wire.near(
                lambda: subprocess.Popen(
                    doorbell.command(
                        *("send", "--json", "-q", "--backend", "udp", *receiver.to, *SHAPE, "--source", "-"),
                        *("--batch-heaps", 5, "--rate", "400Mb/s"),
                    ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=plain_environment(),
                )
            )
            try:
                assert process.stdin
                third = HEAPS // 3
                for number in range(3):
                    if number == 1:
                        # Not before the stream has come through.
                        receiver.socket.recv(1, socket.MSG_PEEK)
                        disturb(own_wire.near)
                    elif number == 2:
                        while "did not go out" not in log_of(log):
                            assert process.poll() is None
                            time.sleep(0.001)
                        calm(own_wire.near)
                    for index in range(number * third, (number + 1) * third):
                        process.stdin.write(heap_payload(71, index, HEAP_SIZE))
                    process.stdin.flush()
                out, _ = process.communicate(timeout=60)
            finally:
                process.kill()
            errors = log_of(log)
            heaps = whole_heaps(map(parse_packet, drain(receiver.socket)))
        return outcome(process.returncode, out, errors, heaps)

    return send


def log_of(file: IO[bytes]) -> str:
    """What a process has written so far, whose place in the file is not to be moved."""
    return os.pread(file.fileno(), 1 << 20, 0).decode()


def outcome(exit_code: int, out: bytes, errors: str, heaps: dict[int, bytes]) -> Outcome:
    data = {cnt: payload for cnt, payload in heaps.items() if FIRST_DATA_CNT <= cnt < FIRST_DATA_CNT + HEAPS}
    for cnt, payload in data.items():
        assert payload == heap_payload(71, cnt - FIRST_DATA_CNT, HEAP_SIZE), f"heap {cnt} is corrupt"
    assert "panicked" not in errors, errors
    return Outcome(exit_code, json.loads(out.splitlines()[-1]), errors, set(data))


def test_a_link_that_goes_down_and_comes_back(run) -> None:
    def up(near: Network) -> None:
        near.ip(f"link set {VETH} up")
        wait_for_carrier(near)

    flapped = run(disturb=lambda near: near.ip(f"link set {VETH} down"), calm=up)
    flapped.check_counts()
    assert flapped.exit_code == 1
    assert 0 < flapped.report["heaps_failed"] < HEAPS
    assert "unreachable" in flapped.errors or "down" in flapped.errors, flapped.errors
    assert max(flapped.whole) == FIRST_DATA_CNT + HEAPS - 1, "it did not go on"


def test_a_route_that_carries_less_for_a_while(run) -> None:
    narrowed = run(
        disturb=lambda near: near.ip(f"link set {VETH} mtu 1500"),
        calm=lambda near: near.ip(f"link set {VETH} mtu 9000"),
    )
    narrowed.check_counts()
    assert narrowed.exit_code == 1
    assert 0 < narrowed.report["heaps_failed"] < HEAPS
    assert "exceeds the MTU of the route, 1500 bytes" in narrowed.errors, narrowed.errors
    assert max(narrowed.whole) == FIRST_DATA_CNT + HEAPS - 1, "it did not go on"


def test_a_queue_that_is_always_full(doorbell, own_wire: Wire) -> None:
    """ENOBUFS is no loss: the stream waits."""
    if shutil.which("tc") is None:
        pytest.skip("needs `tc` (iproute2)")
    # Room for two messages of one packet, and no burst that would segment a message.
    shape = f"tc qdisc add dev {VETH} root tbf rate 40mbit burst 80000 limit 20000"
    shaped = own_wire.near(lambda: subprocess.run(shape.split(), capture_output=True, text=True))
    if shaped.returncode != 0:
        pytest.skip(f"needs the queueing discipline tbf: {shaped.stderr.strip()}")
    receiver = far_endpoint(own_wire, "ipv4")
    with receiver.socket:
        command = ("send", "--json", "-q", "--backend", "udp", *receiver.to, *STREAM, "--batch-heaps", 50)
        done = own_wire.near(doorbell.run, *command)
        heaps = whole_heaps(map(parse_packet, drain(receiver.socket)))
    crowded = outcome(done.returncode, done.stdout.encode(), done.stderr, heaps)
    crowded.check_counts()
    assert (crowded.exit_code, crowded.report["heaps_failed"]) == (0, 0), crowded.errors
    assert crowded.report["waits"] > 10


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs root to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_capture_that_fills_the_disk(doorbell, tmp_path) -> None:
    """What is reported as sent is in the file."""
    with small_disk(tmp_path / "disk") as disk:
        capture = disk / "stream.pcap"
        done = doorbell.run("send", "--json", "-q", "--backend", "pcap", "--pcap", capture, *STREAM, "--batch-heaps", 9)
        captured = capture.read_bytes()
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert "write the capture file: No space left on device" in done.stderr
    assert report["heaps_unsubmitted"] > 0, report
    assert report["heaps"] + report["heaps_unsubmitted"] == HEAPS
    sent = report["heaps"] - report["heaps_failed"]
    heaps = whole_heaps(map(parse_packet, datagrams(captured)))
    cnts = range(FIRST_DATA_CNT, FIRST_DATA_CNT + sent)
    assert sent > 0
    assert all(heaps[cnt] == heap_payload(71, cnt - FIRST_DATA_CNT, HEAP_SIZE) for cnt in cnts)


def datagrams(capture: bytes) -> Iterator[bytes]:
    """The UDP payloads of a capture, as far as it goes (pcap-savefile(5)); headers are 42 bytes."""
    at = 24
    while at + 16 <= len(capture):
        (length,) = struct.unpack_from("<I", capture, at + 8)
        frame = capture[at + 16 : at + 16 + length]
        if len(frame) == length:
            yield frame[42:]
        at += 16 + length


@pytest.mark.parametrize("flag", ["--write", "--write-dir"])
def test_frames_that_fill_the_disk(doorbell, tmp_path, flag: str) -> None:
    """Whoever receives ends, says why, and counts what came; whole frames are there for numpy."""
    free = bound_endpoint()
    port = free.port
    free.socket.close()
    with small_disk(tmp_path / "disk") as disk:
        out = disk / ("frames.npy" if flag == "--write" else "frames")
        receiver = doorbell.start("recv", "--json", "-q", "--from", f"127.0.0.1:{port}", flag, out, "--timeout", 60)
        try:
            wait_until_bound(port)
            doorbell.run("send", "-q", "--to", f"127.0.0.1:{port}", *STREAM, "--rate", "100Mb/s")
            printed, errors = receiver.communicate(timeout=60)
        finally:
            receiver.kill()
        frames = stored_frames(out)
    report = json.loads(printed.splitlines()[-1])
    assert receiver.returncode == 1
    assert "No space left on device" in errors.decode() and str(out) in errors.decode(), errors.decode()
    assert 0 < report["heaps"] <= HEAPS + 1, report
    assert 0 < len(frames) == report["written"]["frames"], report
    for index, frame in enumerate(frames):
        assert frame.tobytes() == heap_payload(71, index, HEAP_SIZE), f"frame {index}"


def stored_frames(out: Path) -> list[np.ndarray]:
    """What numpy reads of a file of frames, or of a directory of them."""
    if out.is_dir():
        return [np.load(path) for path in sorted(out.iterdir())]
    return list(np.load(out))


PATIENCE = 60
