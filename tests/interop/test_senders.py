"""Many processes that send one stream, started by a launcher: every heap arrives exactly once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from endpoint import bound_endpoint
from program import TIME_LIMIT, plain_environment
from receiver import ReceivedHeap, Receiver
from splitmix import heap_payload

RANKS = 4
TIMESTAMP = 0x1600


def mpirun(doorbell, *arguments: object) -> None:
    """Runs ``doorbell send ARGUMENTS`` four times at once, on this machine alone."""
    if shutil.which("mpirun") is None:
        reason = "there is no mpirun (Debian: openmpi-bin)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    launcher = ["mpirun", "-np", str(RANKS), "--oversubscribe", "--allow-run-as-root"]
    # No ssh, no daemon on another host, and no message layer: the processes never speak to each other.
    launcher += ["--mca", "plm", "isolated", "--mca", "oob_tcp_if_include", "lo", "--mca", "btl", "self"]
    command = [*launcher, *doorbell.command("send", "-q", *arguments)]
    done = subprocess.run(
        command, env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout.decode()}{done.stderr.decode()}"


def data_heaps(receiver: Receiver, count: int) -> list[ReceivedHeap]:
    """The next `count` heaps with data, in whatever order they come; no stop heap among them."""
    heaps: list[ReceivedHeap] = []
    while len(heaps) < count:
        heap = receiver.next_heap()
        assert not heap.is_stop, f"a sender stopped the stream after {len(heaps)} of {count} heaps"
        if heap.items:
            heaps.append(heap)
    return heaps


@pytest.mark.parametrize("group", ["serial", "round-robin"])
def test_mpirun_shares_heaps(doorbell, listen, group: str) -> None:
    """One receiver finds each heap of one source once, with the cnt that a single sender gives it; where heaps
    take turns, each sender's first cnt is that of its descriptors."""
    first = 50 if group == "serial" else 50 + 3 * RANKS
    receiver = listen()
    mpirun(
        doorbell,
        *(*receiver.to, "--share", "heaps", "--rate", "100Mb/s", "--group", group),
        *("--source", "random:31", "--heap-size", 10_000, "--heaps", 203, "--cnt-start", 50, "--cnt-step", 3),
    )
    by_cnt = {heap.cnt: heap for heap in data_heaps(receiver, 203)}
    assert sorted(by_cnt) == [first + 3 * index for index in range(203)]
    for index in range(203):
        heap = by_cnt[first + 3 * index]
        assert heap.content(0x3300, 10_000) == heap_payload(31, index, 10_000), f"heap {index}"
        assert heap.values[TIMESTAMP] == index * 10_000
    assert_nothing_more(doorbell, receiver)


def test_mpirun_shares_destinations(doorbell, listen) -> None:
    """Each of eight receivers gets what one sender would send there, and a stop heap."""
    receivers = [listen() for _ in range(2 * RANKS)]
    destinations = [flag for receiver in receivers for flag in receiver.to]
    mpirun(
        doorbell,
        *(*destinations, "--share", "destinations", "--rate", "100Mb/s"),
        *("--source", "random:32", "--heap-size", 5000, "--heaps", 100),
    )
    cnts: list[int] = []
    for number, receiver in enumerate(receivers):
        heaps = receiver.until_stop()
        assert any(heap.descriptors for heap in heaps)
        data = [heap for heap in heaps if heap.items]
        mine = range(number, 100, len(receivers))
        assert len(data) == len(mine)
        for index, heap in zip(mine, data):
            assert heap.content(0x3300, 5000) == heap_payload(32, index, 5000), f"heap {index}"
        cnts += [heap.cnt for heap in heaps]
    assert len(set(cnts)) == len(cnts), "two heaps have one cnt"


def test_mpirun_shares_files(doorbell, listen, tmp_path: Path) -> None:
    """Six arrays and four senders: each array is sent once, whole."""
    arrays = [np.arange(5 * 600, dtype="<u2").reshape(5, 600) + 3000 * number for number in range(6)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    receiver = listen()
    mpirun(
        doorbell,
        *(*receiver.to, "--share", "files", "--rate", "100Mb/s", "--source", tmp_path / "*.npy"),
    )
    heaps = data_heaps(receiver, 30)
    assert len({heap.cnt for heap in heaps}) == 30
    frames = Counter(content(heap) for heap in heaps)
    assert frames == Counter(frame.tobytes() for array in arrays for frame in array)


def content(heap: ReceivedHeap) -> bytes:
    return next(data for id, data in heap.items.items() if id not in heap.immediates)


def assert_nothing_more(doorbell, receiver: Receiver) -> None:
    """What a sender on its own sends next is what arrives next."""
    doorbell.send_to(receiver, "--heaps", 1, "--heap-size", 100, "--cnt-start", 99_999)
    assert receiver.next_heap().cnt == 99_999


def test_a_stop_heap_from_each_sender_if_that_is_asked_for(doorbell, listen) -> None:
    receiver = listen()
    for rank in range(2):
        doorbell.send_to(receiver, "--rank", rank, "--ranks", 2, "--heaps", 10, "--heap-size", 100, "--stop-heap")
    heaps = receiver.until_stop() + receiver.until_stop()
    assert sorted(heap.cnt for heap in heaps if heap.items) == list(range(1, 11))


@pytest.mark.parametrize(
    "environment, arguments, expected",
    [
        ({}, ["--share", "heaps"], "senders.rank (--rank) is missing"),
        ({}, ["--rank", 1], "senders.ranks (--ranks) is missing"),
        ({}, ["--rank", 4, "--ranks", 4], "the last is 3"),
        ({"JOB_COMPLETION_INDEX": "1"}, ["--share", "heaps"], "senders.ranks (--ranks) is missing"),
        ({"SLURM_PROCID": "?", "SLURM_NTASKS": "2"}, ["--share", "heaps"], "SLURM_PROCID=?"),
    ],
)
def test_a_share_without_a_place_is_refused(doorbell, environment, arguments, expected) -> None:
    with bound_endpoint().socket as sock:
        launched = type(doorbell)(doorbell.path, environment=environment)
        done = launched.run("send", "--to", f"127.0.0.1:{sock.getsockname()[1]}", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr


def test_a_launcher_alone_shares_nothing(doorbell, listen) -> None:
    """A Slurm batch script has a rank of its own, and what it starts may be all there is."""
    receiver = listen()
    launched = type(doorbell)(doorbell.path, environment={"SLURM_PROCID": "0", "SLURM_NTASKS": "4"})
    launched.send_to(receiver, "--heaps", 8, "--heap-size", 100)
    assert len(receiver.data_heaps()) == 8
