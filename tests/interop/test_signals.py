"""Signals at any moment: a stream ends in order, counts every heap, and says what it waits for."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from endpoint import bound_endpoint, wait_until_bound
from packets import Packet, parse_packet
from test_tcp import listening


class Sink:
    """Takes in what comes over UDP or a TCP connection, packet by packet."""

    def __init__(self, transport: str) -> None:
        self._pieces: list[bytes] = []
        # With room for the whole stream, should nothing be read for a while.
        self._socket = bound_endpoint().socket if transport == "udp" else listening()
        self._is_stream = transport == "tcp"
        self.to = ("--to", f"127.0.0.1:{self._socket.getsockname()[1]}", "--backend", transport)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read_bytes if self._is_stream else self._read_datagrams)
        self._thread.start()

    def finish(self) -> list[Packet]:
        """All packets, once the program is gone: what it sent over loopback has arrived."""
        self._is_over.set()
        self._thread.join()
        self._socket.close()
        if not self._is_stream:
            return [parse_packet(datagram) for datagram in self._pieces]
        return list(packets_of(b"".join(self._pieces)))

    def _is_readable(self, sock: socket.socket) -> bool:
        while not (ready := select.select([sock], [], [], 0.05)[0]):
            if self._is_over.is_set():
                return False
        return bool(ready)

    def _read_datagrams(self) -> None:
        while self._is_readable(self._socket):
            self._pieces.append(self._socket.recv(1 << 16))

    def _read_bytes(self) -> None:
        if not self._is_readable(self._socket):
            return
        connection, _ = self._socket.accept()
        with connection:
            while self._is_readable(connection) and (piece := connection.recv(1 << 20)):
                self._pieces.append(piece)


def packets_of(data: bytes) -> Iterator[Packet]:
    """Packets back to back, the last of them whole."""
    at = 0
    while at < len(data):
        end = at + 8 + 8 * data[at + 7]
        pointers = [int.from_bytes(data[it : it + 8], "big") for it in range(at + 8, end, 8)]
        [payload] = [it & (1 << 40) - 1 for it in pointers if it >> 40 & 0x7FFFFF == PAYLOAD_LENGTH]
        end += payload
        assert end <= len(data), "the stream of bytes ends within a packet"
        yield parse_packet(data[at:end])
        at = end


def deliver(process: subprocess.Popen, kind: str) -> None:
    if kind == "STOP and CONT":
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        process.send_signal(signal.SIGCONT)
    else:
        process.send_signal(signal.Signals[f"SIG{kind}"])


def attends_to_signals(pid: int) -> bool:
    """Whether the program has begun: its loader ends by any signal. The first thing that it does is to start a thread."""
    return len(os.listdir(f"/proc/{pid}/task")) > 1


def start(doorbell, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        doorbell.command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not attends_to_signals(process.pid):
        time.sleep(0.0005)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{process.args} hangs: {process.communicate()}") from None


def judge(doorbell, transport: str, kinds: list[str], moments: list[float]) -> None:
    sink = Sink(transport)
    process = start(doorbell, "send", "--json", *sink.to, "--heaps", HEAPS, "--rate", "40Mb/s", "--batch-heaps", 16)
    for kind, moment in zip(kinds, moments):
        time.sleep(moment)
        if process.poll() is None:
            deliver(process, kind)
    out, err = finish(process)
    packets = sink.finish()
    context = (kinds, moments, process.returncode, out, err)
    assert "panicked" not in err, context
    report = json.loads(out)
    # What comes when all is done changes nothing.
    assert process.returncode in ((0, 130) if set(kinds) & ENDING else (0,)), context
    assert report["heaps"] + report["heaps_unsubmitted"] == HEAPS, context
    sent = report["heaps"] - report["heaps_failed"]
    assert len({packet.cnt for packet in packets if len(packet.payload) > 4096}) == sent, context
    assert packets[-1].is_stop and sum(packet.is_stop for packet in packets) == 1, context
    if process.returncode == 0:
        assert sent == HEAPS, context


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("kind", ["INT", "TERM", "HUP", "PIPE", "STOP and CONT", "pairs"])
def test_a_signal_at_any_moment(doorbell, transport, kind) -> None:
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    print(f"SEED={seed}")
    chance = random.Random(f"{seed} {transport} {kind}")

    def pick() -> tuple[list[str], list[float]]:
        if kind != "pairs":
            return [kind], [chance.uniform(0, 1)]
        # A second one that comes soon is the first; one that comes late gives up what is under way.
        return chance.choices(KINDS, k=2), [chance.uniform(0, 1), chance.choice((0, 0.001, 0.05, 0.3))]

    with ThreadPoolExecutor(max_workers=4) as pool:
        picked = [pick() for _ in range(MOMENTS)]
        list(pool.map(lambda it: judge(doorbell, transport, *it), picked))


@pytest.fixture
def sink() -> Iterator[tuple[str, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        yield "--to", f"127.0.0.1:{receiver.getsockname()[1]}"


def stop_heaps(receiver: socket.socket) -> int:
    receiver.settimeout(1)
    count = 0
    try:
        while True:
            count += parse_packet(receiver.recv(1 << 16)).is_stop
    except TimeoutError:
        return count


@pytest.mark.parametrize("rate", ["10b/s", "10kb/s"])
def test_the_wait_for_what_is_paced_is_bounded_and_a_second_signal_ends_it(doorbell, rate) -> None:
    for has_second in (False, True):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            to = f"127.0.0.1:{receiver.getsockname()[1]}"
            process = start(doorbell, "send", "--json", "--to", to, "--rate", rate)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            line = process.stderr.readline()
            assert "SIGINT" in line and "heaps under way" in line and "second signal" in line
            if has_second:
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
            out, err = finish(process)
            report = json.loads(out)
            assert process.returncode == 130, err
            assert report["heaps"] > report["heaps_failed"] > 0 and report["heaps_unsubmitted"] > 0
            assert stop_heaps(receiver) == 1, err


def test_timeout_of_gnu_signals_twice_and_means_once(doorbell, sink) -> None:
    """It signals the program, and then its group."""
    command = ["timeout", "0.3", *doorbell.command("send", "--json", *sink, "--rate", "10Mb/s", "--batch-heaps", 64)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIME_LIMIT)
    report = json.loads(done.stdout)
    assert done.returncode == 124 and report["heaps_failed"] == 0 < report["heaps"], done.stderr


def stalled_tcp() -> tuple[socket.socket, tuple[str, ...]]:
    """Accepts, and never reads."""
    acceptor = listening(buffer=4096)
    return acceptor, ("--backend", "tcp", "--to", f"127.0.0.1:{acceptor.getsockname()[1]}")


def test_a_receiver_over_tcp_that_has_stalled_is_given_up(doorbell) -> None:
    acceptor, to = stalled_tcp()
    with acceptor:
        process = start(doorbell, "send", "--json", *to, "--heaps", 100_000)
        connection, _ = acceptor.accept()
        with connection:
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            out, err = finish(process)
    report = json.loads(out)
    assert process.returncode == 130, err
    assert report["heaps"] + report["heaps_unsubmitted"] == 100_000 and report["heaps_failed"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "--to", "127.0.0.1:9", "--source", "FIFO"),
        ("send", "--backend", "pcap", "--pcap", "FIFO"),
        ("send", "FIFO"),
        ("recv", "--from", "127.0.0.1:PORT", "--write", "FIFO"),
        ("recv", "--from", "127.0.0.1:PORT"),
        ("plan", "FIFO"),
        ("bench", "--sink", "loopback"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", ["INT", "TERM", "HUP"])
def test_whatever_a_command_waits_for_a_signal_ends_it(doorbell, tmp_path, arguments, kind) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    port = str(random.randrange(20_000, 30_000))
    process = start(doorbell, *(it.replace("FIFO", str(fifo)).replace("PORT", port) for it in arguments))
    time.sleep(0.2)
    number = signal.Signals[f"SIG{kind}"]
    process.send_signal(number)
    out, err = finish(process)
    assert process.returncode in (130, -number), (process.returncode, out, err)
    assert "panicked" not in err


@pytest.mark.parametrize("has_second", [False, True])
def test_a_file_that_takes_nothing_is_not_waited_for_for_ever(doorbell, tmp_path, has_second) -> None:
    """A FIFO whose reader has stalled."""
    fifo, port = tmp_path / "fifo", random.randrange(20_000, 30_000)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        process = start(doorbell, "recv", "--json", "--from", f"127.0.0.1:{port}", "--write", fifo)
        wait_until_bound(port)
        doorbell.send("--to", f"127.0.0.1:{port}", "--heaps", 50, "--heap-size", "64KiB", "--rate", "200Mb/s")
        time.sleep(0.3)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        if has_second:
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        out, err = finish(process)
    finally:
        os.close(reader)
    report = json.loads(out)
    assert (report["ended"], report["heaps"], process.returncode) == ("stopped", 50, 1), (out, err)
    assert "was not written out in time" in err
    assert not has_second or time.monotonic() - begin < 8, "within seconds of the second"


@pytest.mark.parametrize("command", ["send", "recv"])
def test_a_terminal_that_is_closed_ends_what_it_started(doorbell, command) -> None:
    with bound_endpoint().socket as sink:
        sink_port, port = sink.getsockname()[1], random.randrange(20_000, 30_000)
        flags = {"send": ("--to", f"127.0.0.1:{sink_port}", "--rate", "1Mb/s"), "recv": ("--from", f"127.0.0.1:{port}")}
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(doorbell.path, [str(doorbell.path), command, *flags[command]])
        assert os.read(terminal, 1)
        time.sleep(0.3)
        os.close(terminal)
        deadline = time.monotonic() + TIME_LIMIT
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "it hangs"
            time.sleep(0.05)
        assert os.waitstatus_to_exitcode(ended[1]) == 130
        assert command == "recv" or stop_heaps(sink) == 1


def ignoring(*numbers: signal.Signals) -> Callable[[], None]:
    return lambda: [signal.signal(number, signal.SIG_IGN) for number in numbers]


@pytest.mark.parametrize("command", ["send", "recv"])
def test_what_was_to_be_ignored_is_ignored_but_for_sigint(doorbell, sink, command) -> None:
    """Shells have what they start in the background ignore SIGINT; scripts end it by that."""
    flags = (*sink, "--rate", "1Mb/s") if command == "send" else ("--from", f"127.0.0.1:{random.randrange(20_000, 30_000)}")
    process = subprocess.Popen(
        doorbell.command(command, *flags),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=ignoring(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    )
    try:
        time.sleep(0.3)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(TIME_LIMIT) == 130
    finally:
        process.kill()


KINDS = ["INT", "TERM", "HUP", "PIPE", "STOP and CONT"]
ENDING = {"INT", "TERM", "HUP"}
MOMENTS = 40 if os.environ.get("FULL") == "1" else 4
HEAPS = 400
PAYLOAD_LENGTH = 0x4
TIME_LIMIT = 30
