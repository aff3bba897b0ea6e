"""Standard output and standard error of every kind, for every command: what is around the program ends nothing."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from program import plain_environment


@dataclass(frozen=True)
class Command:
    """A command, how it ends where all it says is read, and whether it prints anything."""

    arguments: tuple[str, ...]
    code: int = 0
    prints: bool = True
    is_json: bool = False


def commands() -> Iterator[Command]:
    """Every command, in words and as JSON, with each way that it ends by itself."""
    bench = "bench --sizes 1024 --packet-sizes 1472 --backends udp --layouts packed --repeat 1 --seconds 0.01 --sink loopback"
    recv = "recv --from 127.0.0.1:FREE --timeout 0.1"
    send = "send --to SINK --heaps 20"
    for line, code in ((send, 0), ("send --heaps 20", 0), (recv, 1), ("plan", 0), ("devices", 0), (bench, 0)):
        yield Command(tuple(line.split()), code)
        yield Command((*line.split(), "--json"), code, is_json=True)
    for line in ("send --print-config", "man", "man recv", "completions bash", "--help", "send --help", "--version"):
        yield Command(tuple(line.split()))
    for line in ("", "sned", "send --heaps many", "recv --from nowhere", "man sned", "send --source /nonexistent"):
        yield Command(tuple(line.split()), 2, prints=False)
    yield Command((*send.split(), "-q", "-v"), prints=False)
    yield Command(tuple("send --backend tcp --to 127.0.0.1:1".split()), 3, prints=False)
    yield Command((*recv.split(), "--write", "/nonexistent/a.npy"), 3, prints=False)


@dataclass
class Stream:
    """What a standard stream of the program leads to."""

    fd: int | None
    """None where the program is to begin without it."""
    read: Callable[[], bytes] = field(default=lambda: b"")
    is_read: bool = False
    takes_nothing: bool = False


Kind = Callable[[ExitStack], Stream]


def terminal(stack: ExitStack) -> Stream:
    master, slave = pty.openpty()
    return Stream(slave, reading(stack, master), is_read=True)


def closed_terminal(stack: ExitStack) -> Stream:
    master, slave = pty.openpty()
    os.close(master)
    return Stream(slave)


def pipe(stack: ExitStack) -> Stream:
    read, write = os.pipe()
    return Stream(write, reading(stack, read), is_read=True)


def nonblocking_pipe(stack: ExitStack) -> Stream:
    stream = pipe(stack)
    os.set_blocking(stream.fd, False)
    return stream


def reader_gone(stack: ExitStack) -> Stream:
    read, write = os.pipe()
    os.close(read)
    return Stream(write)


def stalled(stack: ExitStack) -> Stream:
    """A pipe that is full and that nobody reads."""
    read, write = os.pipe()
    stack.callback(os.close, read)
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, b"." * 4096)
    os.set_blocking(write, True)
    return Stream(write)


def closed(stack: ExitStack) -> Stream:
    return Stream(None)


def full(stack: ExitStack) -> Stream:
    return Stream(os.open("/dev/full", os.O_WRONLY), takes_nothing=True)


def reading(stack: ExitStack, fd: int) -> Callable[[], bytes]:
    """Reads from now on, and returns all of it in the end."""
    stack.callback(os.close, fd)
    return stack.enter_context(ThreadPoolExecutor(max_workers=1)).submit(drain, fd).result


def drain(fd: int) -> bytes:
    data = b""
    try:
        while piece := os.read(fd, 65536):
            data += piece
    except OSError:  # EIO is the end of a terminal.
        pass
    return data


@pytest.fixture(scope="module")
def sink() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{receiver.getsockname()[1]}"


def free_port() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run(path: Path, arguments: list[str], out: Stream, err: Stream) -> tuple[int, bytes, bytes]:
    """The exit code, and what could be read."""
    left_out = [f"{fd}>&-" for fd, stream in ((1, out), (2, err)) if stream.fd is None]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$0" "$@" {" ".join(left_out)}', path, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out.fd,
        stderr=err.fd,
        env=plain_environment() | {"NO_COLOR": "1"},
    )
    for stream in (out, err):
        if stream.fd is not None:
            os.close(stream.fd)
    try:
        process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"still running after {TIME_LIMIT} s: {process.args}") from None
    return process.returncode, out.read(), err.read()


@pytest.mark.parametrize("stdout", [terminal, closed_terminal, pipe, nonblocking_pipe, reader_gone, closed, full])
@pytest.mark.parametrize("stderr", [terminal, closed_terminal, pipe, reader_gone, stalled, closed, full])
def test_no_standard_stream_ends_a_command(doorbell, sink, stdout, stderr) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda command: judge(doorbell.path, command, sink, stdout, stderr), commands()))


def judge(path: Path, command: Command, sink: str, stdout: Kind, stderr: Kind) -> None:
    arguments = [it.replace("SINK", sink).replace("FREE", free_port()) for it in command.arguments]
    with ExitStack() as stack:
        out, err = stdout(stack), stderr(stack)
        code, printed, said = run(path, arguments, out, err)
    context = (arguments, code, printed, said)
    is_lost = command.prints and out.takes_nothing
    assert code == (1 if is_lost else command.code), context
    assert b"panicked" not in printed + said, context
    if err.is_read and is_lost:
        assert b"cannot write to standard output: No space left" in said, context
    elif err.is_read:
        assert b"standard output" not in said, context
        assert said or code == 0 or command.prints, context
    if out.is_read:
        assert bool(printed) == command.prints, context
    if out.is_read and command.is_json:
        assert isinstance(json.loads(printed), dict) and printed.count(b"\n") == 1, context


@pytest.mark.parametrize("kind", ["reader gone", "stopped terminal", "closed terminal"])
def test_a_standard_error_that_fails_on_the_way_costs_no_heap(doorbell, sink, kind) -> None:
    command = ["send", "--to", sink, "--heaps", "1000", "--rate", "20Mb/s", "--batch-heaps", "8", "--json", "-vvv"]
    ours, theirs = os.pipe() if kind == "reader gone" else pty.openpty()
    process = subprocess.Popen(doorbell.command(*command), stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    assert os.read(ours, 1)
    if kind == "stopped terminal":
        os.write(ours, CTRL_S)
    else:
        os.close(ours)
    try:
        out, _ = process.communicate(timeout=TIME_LIMIT)
    finally:
        process.kill()
    report = json.loads(out)
    assert process.returncode == 0 and (report["heaps"], report["heaps_failed"]) == (1000, 0), report


def test_no_socket_becomes_standard_output(doorbell, sink) -> None:
    """Where the program begins without it, the first file that is opened would."""
    command = doorbell.command("send", "--to", sink, "--rate", "1Mb/s", "--heaps", "100000", "-v")
    process = subprocess.Popen(["sh", "-c", 'exec "$0" "$@" 0>&- 1>&- 2>&-', *command])
    try:
        time.sleep(0.3)
        links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]
    finally:
        process.kill()
        process.wait()
    assert links == ["/dev/null"] * 3


TIME_LIMIT = 60
CTRL_S = b"\x13"
