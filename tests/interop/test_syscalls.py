"""One system call a batch, and no other that grows with the batches (strace counts)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from endpoint import bind
from program import Doorbell


@pytest.fixture
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        pytest.skip("needs strace")
    probe = subprocess.run([path, "-c", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")
    return path


@pytest.mark.parametrize("source", ["pattern", "random:1"])
@pytest.mark.parametrize("zerocopy", ["off", "auto"])
def test_a_batch_is_one_sendmmsg(
    doorbell: Doorbell, strace: str, tmp_path: Path, source: str, zerocopy: str
) -> None:
    """A thread that has to wait for the other one sleeps and is woken once a batch, at most."""
    flags = ["--source", source, "--zerocopy", zerocopy]
    growth, slept = grown(doorbell, strace, tmp_path, flags)
    # Auto asks every now and then whether loopback still copies.
    assert abs(growth.pop("sendmmsg") - BATCHES) <= (SLACK if zerocopy == "auto" else 0)
    assert max(slept.filler, slept.poster) <= 2 * BATCHES + SLACK
    assert {name: more for name, more in growth.items() if more > SLACK} == {}


def test_nothing_else_is_called_while_neither_side_waits(doorbell: Doorbell, strace: str, tmp_path: Path) -> None:
    """There is a batch to fill for each that is to be sent, and filling is faster than sending under strace."""
    flags = ["--zerocopy", "off", "--in-flight", 2 * BATCHES + 8]
    # A thread that is kept from running for long has the other one wait: that is no fault of theirs.
    for _ in range(ATTEMPTS):
        growth, slept = grown(doorbell, strace, tmp_path, flags)
        assert growth.pop("sendmmsg") == BATCHES
        assert max(slept.filler, slept.poster) <= 2 * BATCHES + SLACK
        others = {name: more for name, more in growth.items() if more > SLACK}
        assert others == {}
        if slept.filler + slept.poster <= SLACK:
            return
    pytest.fail(f"one side always had to wait for the other: {slept}")


def test_a_batch_that_is_not_copied_is_at_most_one_call_more(doorbell: Doorbell, strace: str, tmp_path: Path) -> None:
    growth, slept = grown(doorbell, strace, tmp_path, ["--zerocopy", "on"])
    assert growth.pop("sendmmsg") == BATCHES
    # Up to four batches are in flight, and one look may tell of all; what is left of one takes a second look,
    # and a wait.
    assert BATCHES / 2 <= slept.looked + SLACK <= 4 * BATCHES + 2 * SLACK
    assert max(slept.filler, slept.poster) <= 2 * BATCHES + SLACK
    assert {name: more for name, more in growth.items() if more > SLACK} == {}


def grown(
    doorbell: Doorbell, strace: str, directory: Path, flags: list[object]
) -> tuple[Counter[str], Waits]:
    """Calls that BATCHES batches more take, and the waits of a send of 2 * BATCHES."""
    few, _ = take_waits(system_calls(doorbell, strace, directory, flags, batches=BATCHES))
    many, slept = take_waits(system_calls(doorbell, strace, directory, flags, batches=2 * BATCHES))
    return many - few, slept


@dataclass
class Waits:
    """How often the thread that fills slept, the thread that posts slept, and it looked for completions. The
    scheduler has a say in these, so a difference of two sends says nothing of them."""

    filler: float
    poster: int
    looked: int


def take_waits(calls: Counter[str]) -> tuple[Counter[str], Waits]:
    """Parts calls that wait from the others. A filler takes one `futex` to sleep and one to be woken; a poster
    sleeps in `ppoll`, and is woken by a `write` that it reads."""
    names = ("futex", "ppoll", "write", "recvmmsg")
    futex, slept, woken, looked = (calls[name] for name in names)
    assert woken <= slept + SLACK
    others = Counter({name: n for name, n in calls.items() if name not in names})
    others["read"] -= woken
    return others, Waits(futex / 2, slept, looked)


def test_a_batch_over_tcp_is_one_call(doorbell: Doorbell, strace: str, tmp_path: Path) -> None:
    few, _ = take_waits(tcp_calls(doorbell, strace, tmp_path, batches=BATCHES))
    many, slept = take_waits(tcp_calls(doorbell, strace, tmp_path, batches=2 * BATCHES))
    # Where there is no room in the send buffer, a call ends early, one asks in vain, and another goes on after
    # a wait.
    assert 2 * BATCHES <= many["sendto"] <= 2 * BATCHES + SLACK + 3 * slept.poster
    growth = many - few
    del growth["sendto"]
    assert {name: more for name, more in growth.items() if more > SLACK} == {}


def tcp_calls(doorbell: Doorbell, strace: str, directory: Path, batches: int) -> Counter[str]:
    """As `system_calls`, to a receiver that reads all."""
    with socket.create_server(("127.0.0.1", 0)) as acceptor:
        reader = threading.Thread(target=read_all, args=(acceptor,))
        reader.start()
        summary = directory / f"tcp-{batches}.txt"
        send = doorbell.command(
            *("send", "-q", "--backend", "tcp", "--to", f"127.0.0.1:{acceptor.getsockname()[1]}"),
            *("--heap-size", 1024, "--batch-heaps", HEAPS_PER_BATCH, "--heaps", batches * HEAPS_PER_BATCH),
        )
        done = subprocess.run(
            [strace, "-f", "-c", "-o", summary, *send], capture_output=True, text=True, timeout=120
        )
        reader.join()
    assert done.returncode == 0, done.stderr
    return parse_summary(summary.read_text())


def read_all(acceptor: socket.socket) -> None:
    connection, _ = acceptor.accept()
    with connection:
        while connection.recv(1 << 20):
            pass


def system_calls(doorbell: Doorbell, strace: str, directory: Path, flags: list[object], batches: int) -> Counter[str]:
    """How often each system call is made in a send of `batches` batches of 64 one-packet heaps."""
    summary = directory / f"{batches}.txt"
    send = doorbell.command(
        *("send", "-q", "--json", *flags, "--heap-size", 8192, "--packet-size", 8972),
        *("--batch-heaps", HEAPS_PER_BATCH, "--heaps", batches * HEAPS_PER_BATCH),
    )
    # Somebody must own the port, or connected sockets hear ECONNREFUSED; nobody need read it.
    with bind(socket.AF_INET, ("127.0.0.1", 0), buffer=1 << 16) as sink:
        to = f"127.0.0.1:{sink.getsockname()[1]}"
        done = subprocess.run(
            [strace, "-f", "-c", "-o", summary, *send, "--to", to], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    return parse_summary(summary.read_text())


def parse_summary(text: str) -> Counter[str]:
    """The table of ``strace -c``: share, seconds, time per call, calls, [errors,] name."""
    calls: Counter[str] = Counter()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] += int(fields[3])
    return calls


def test_the_summary_is_read_as_strace_writes_it(strace: str, tmp_path: Path) -> None:
    summary = tmp_path / "summary.txt"
    subprocess.run(
        [strace, "-f", "-c", "-o", summary, "sh", "-c", "for i in 1 2 3 4 5; do cd /; cd /nowhere; done"],
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert parse_summary(summary.read_text())["chdir"] == 10


HEAPS_PER_BATCH = 64
BATCHES = 100
# Timing decides how often a timer fires, or the allocator grows its arena (mmap, brk); none of these may come
# near once a batch.
SLACK = 8
ATTEMPTS = 10
