"""TCP: spead2's receivers and plain sockets take the stream; the bytes are those of spead2's own sender."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import spead2
import spead2.recv
import spead2.send

from endpoint import Endpoint
from receiver import MAX_HEAPS, Receiver
from splitmix import heap_payload
from test_stream import ITEM, assert_dealt_out, assert_random_stream


class TcpReceiver(Receiver):
    """A spead2 stream that listens for a TCP connection."""

    def __init__(self, host: str, acceptor: socket.socket) -> None:
        config = spead2.recv.StreamConfig(max_heaps=MAX_HEAPS, stop_on_stop_item=False)
        ring = spead2.recv.RingStreamConfig(heaps=MAX_HEAPS, contiguous_only=False)
        self.group = spead2.ItemGroup()
        self._stream = spead2.recv.Stream(spead2.ThreadPool(), config, ring)
        self._source = Endpoint(acceptor, f"{host}:{acceptor.getsockname()[1]}")
        # With its default max_size, which is what packet_size = auto counts on.
        self._stream.add_tcp_reader(acceptor)


@pytest.fixture
def listen_tcp() -> Iterator[Callable[..., TcpReceiver]]:
    with ExitStack() as stack:

        def open_receiver(kind: str = "ipv4", port: int = 0) -> TcpReceiver:
            host = {"ipv4": "127.0.0.1", "ipv6": "[::1]"}[kind]
            return stack.enter_context(TcpReceiver(host, listening(kind, port)))

        yield open_receiver


def listening(kind: str = "ipv4", port: int = 0, buffer: int = 0) -> socket.socket:
    family, address = {"ipv4": (socket.AF_INET, "127.0.0.1"), "ipv6": (socket.AF_INET6, "::1")}[kind]
    acceptor = socket.socket(family, socket.SOCK_STREAM)
    acceptor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if buffer:
        acceptor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    acceptor.bind((address, port))
    acceptor.listen(1)
    return acceptor


@pytest.mark.parametrize("layout", ["packed", "split"])
@pytest.mark.parametrize("packet_size", ["auto", 1472, 9000])
@pytest.mark.parametrize("heap_size", [1, 8, 2048, 8193, 65536, (1 << 20) + 3, 4 << 20])
def test_every_heap_size(doorbell, listen_tcp, heap_size: int, packet_size: str | int, layout: str) -> None:
    count = max(5, min(300, (16 << 20) // heap_size))
    receiver = listen_tcp()
    report = doorbell.send(
        *(*receiver.to, "--backend", "tcp", "--packet-size", packet_size, "--layout", layout),
        *("--source", "random:12", "--heap-size", heap_size, "--heaps", count),
    )
    assert_random_stream(receiver.data_heaps(), 12, heap_size, count)
    assert report["backend"] == "tcp" and report["unacknowledged_bytes"] == 0


@pytest.mark.parametrize("group", ["serial", "round-robin"])
@pytest.mark.parametrize("substreams", [1, 2, 3])
@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
@pytest.mark.parametrize("zerocopy", ["auto", "on", "off"])
def test_substreams(doorbell, listen_tcp, kind: str, substreams: int, group: str, zerocopy: str) -> None:
    receivers = [listen_tcp(kind) for _ in range(substreams)]
    to = [flag for receiver in receivers for flag in receiver.to]
    doorbell.send(
        *(*to, "--backend", "tcp", "--group", group, "--zerocopy", zerocopy),
        *("--source", "random:16", "--heap-size", 200_000, "--heaps", 40, "--batch-heaps", 12),
    )
    assert_dealt_out(receivers, 16, 200_000, 40)


@pytest.mark.parametrize("zerocopy", ["on", "off"])
def test_a_file_is_sent_from_where_it_lies(doorbell, listen_tcp, tmp_path, zerocopy: str) -> None:
    data = b"".join(heap_payload(3, index, 100_000) for index in range(30))
    (tmp_path / "samples").write_bytes(data)
    receiver = listen_tcp()
    doorbell.send(
        *(*receiver.to, "--backend", "tcp", "--zerocopy", zerocopy),
        *("--source", tmp_path / "samples", "--heap-size", 100_000),
    )
    heaps = receiver.data_heaps()
    assert b"".join(heap.content(ITEM, 100_000) for heap in heaps) == data


def test_the_file_of_flags_says_tcp(doorbell, listen_tcp, tmp_path) -> None:
    receiver = listen_tcp()
    toml = tmp_path / "tcp.toml"
    done = doorbell.run("send", *receiver.to, "--backend", "tcp", "--reconnect", 7, "--print-config")
    toml.write_text(done.stdout)
    assert 'kind = "tcp"' in done.stdout and "reconnect = 7" in done.stdout
    doorbell.send(toml, "--heaps", 10, "--interface", "lo")
    assert len(receiver.data_heaps()) == 10


# Not split and uncopied: that many small fragments overrun this receive buffer (docs/tcp.md).
@pytest.mark.parametrize("layout, zerocopy", [("packed", "off"), ("packed", "on"), ("split", "off")])
def test_the_bytes_are_spead2s(doorbell, zerocopy: str, layout: str) -> None:
    """Heap by heap, as spead2's TCP sender writes the same items; a slow reader makes writes partial."""
    heap_size, count, packet_size = 100_000, 200, 9000
    with listening(buffer=4096) as acceptor:
        to = f"127.0.0.1:{acceptor.getsockname()[1]}"
        ours = start_reading(acceptor, slowly=True)
        report = doorbell.send(
            *("--to", to, "--backend", "tcp", "--zerocopy", zerocopy, "--layout", layout),
            *("--source", "random:5", "--heap-size", heap_size, "--heaps", count),
            *("--packet-size", packet_size, "--descriptors", "own"),
        )
        ours = ours()
    if zerocopy == "off":
        assert report["waits"] > 0
    with listening() as acceptor:
        theirs = start_reading(acceptor)
        config = spead2.send.StreamConfig(max_packet_size=packet_size)
        stream = spead2.send.TcpStream(
            spead2.ThreadPool(), [("127.0.0.1", acceptor.getsockname()[1])], config
        )
        for index in range(count):
            heap = spead2.send.Heap(spead2.Flavour(4, 64, 40, 0))
            heap.add_item(immediate(0x1600, index * heap_size))
            heap.add_item(item(0x3300, heap_payload(5, index, heap_size)))
            stream.send_heap(heap, cnt=2 + index)
        del stream
        theirs = theirs()
    start = ours.find(theirs[:64])
    assert start > 0, "the descriptors come first"
    assert ours[start : start + len(theirs)] == theirs
    stop = ours[start + len(theirs) :]
    assert stop[:4] == b"\x53\x04\x03\x05" and len(stop) < 100


def item(id: int, content: bytes) -> spead2.Item:
    return spead2.Item(id, "", "", shape=(len(content),), dtype="u1", value=bytearray(content))


def immediate(id: int, value: int) -> spead2.Item:
    return spead2.Item(id, "", "", shape=(), format=[("u", 40)], value=value)


def start_reading(acceptor: socket.socket, slowly: bool = False) -> Callable[[], bytes]:
    """Takes one connection, and all that comes, until its end; a reset is an error."""
    result: list[bytes | OSError] = []

    def read() -> None:
        pieces = []
        try:
            connection, _ = acceptor.accept()
            with connection:
                while piece := connection.recv(30_000 if slowly else 1 << 20):
                    pieces.append(piece)
                    if slowly and len(pieces) % 16 == 0:
                        time.sleep(0.002)
            result.append(b"".join(pieces))
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=read)
    thread.start()

    def finish() -> bytes:
        thread.join(60)
        assert result and isinstance(result[0], bytes), result
        return result[0]

    return finish


@pytest.mark.parametrize("zerocopy", ["off", "on"])
def test_a_peer_that_vanishes_fails_its_heaps_only(doorbell, listen_tcp, zerocopy: str) -> None:
    receiver = listen_tcp()
    # Less than what is sent there: some of it is left when the peer goes.
    with listening(buffer=1 << 16) as acceptor:
        vanishing = f"127.0.0.1:{acceptor.getsockname()[1]}"
        process = doorbell.start(
            *("send", "--json", "-q", *receiver.to, "--to", vanishing, "--backend", "tcp"),
            *("--source", "random:7", "--heap-size", 100_000, "--heaps", 400, "--rate", "4Gb/s"),
            *("--zerocopy", zerocopy),
        )
        connection, _ = acceptor.accept()
        connection.recv(1 << 20)
        connection.close()
        out, err = process.communicate(timeout=60)
    report = json.loads(out.splitlines()[-1])
    assert process.returncode == 1
    assert report["heaps"] == 400 and 0 < report["heaps_failed"] <= 200
    assert b"the connection to 127.0.0.1" in err
    mine = [heap for heap in receiver.until_stop()[:-1] if heap.items]
    assert [heap.content(ITEM, 100_000) for heap in mine] == [heap_payload(7, i, 100_000) for i in range(0, 400, 2)]


def test_all_peers_gone_ends_the_stream(doorbell) -> None:
    with listening() as acceptor:
        process = doorbell.start(
            *("send", "--json", "-q", "--to", f"127.0.0.1:{acceptor.getsockname()[1]}", "--backend", "tcp"),
            *("--source", "-", "--heap-size", 8192),
            stdin=b"",
        )
        connection, _ = acceptor.accept()
        assert process.stdin
        process.stdin.write(bytes(8192 * 100))
        connection.recv(100)
        connection.close()
        with pytest.raises(BrokenPipeError):
            for _ in range(1000):
                process.stdin.write(bytes(1 << 20))
        process.stdin = None
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    report = json.loads(out.splitlines()[-1])
    assert report["heaps_failed"] > 0


@pytest.mark.parametrize("group", ["serial", "round-robin"])
@pytest.mark.parametrize("zerocopy", ["off", "on"])
def test_reconnect_goes_on_with_a_whole_heap(doorbell, group: str, zerocopy: str) -> None:
    """The first peer reads a little and hangs up; heaps are longer than kernels hold of what it does not read."""
    heap_size, count, batch = 2 * send_buffer_limit(), 6, 2
    with listening(buffer=1 << 16) as acceptor:
        process = doorbell.start(
            *("send", "--json", "-q", "--to", f"127.0.0.1:{acceptor.getsockname()[1]}", "--backend", "tcp"),
            *("--source", "random:9", "--heap-size", heap_size, "--heaps", count, "--batch-heaps", batch),
            *("--descriptors", "own", "--group", group, "--reconnect", 60, "--zerocopy", zerocopy),
        )
        connection, _ = acceptor.accept()
        # Packets have 65,520 bytes at most: in round-robin order, this is some of each heap of the batch.
        for _ in range(8):
            assert len(connection.recv(1 << 16, socket.MSG_WAITALL)) == 1 << 16
        connection.close()
        # The stream that follows starts with a packet, and every heap in it is whole.
        config = spead2.recv.StreamConfig(max_heaps=MAX_HEAPS, stop_on_stop_item=False)
        ring = spead2.recv.RingStreamConfig(heaps=MAX_HEAPS, contiguous_only=False)
        stream = spead2.recv.Stream(spead2.ThreadPool(), config, ring)
        stream.add_tcp_reader(acceptor)
        heaps = list(stream)
        out, err = process.communicate(timeout=60)
    report = json.loads(out.splitlines()[-1])
    assert report["reconnects"] == 1, err.decode()
    begun = 1 if group == "serial" else batch
    assert (report["heaps"], report["heaps_failed"], process.returncode) == (count, begun, 1), err.decode()
    assert report["unacknowledged_bytes"] > 0
    assert not [heap.cnt for heap in heaps if isinstance(heap, spead2.recv.IncompleteHeap)]
    assert heaps[-1].is_end_of_stream()
    # Heap 1 is the descriptors.
    assert [heap.cnt for heap in heaps] == list(range(2 + begun, 2 + count + 1))
    for heap in heaps[:-1]:
        [payload] = [bytes(memoryview(item)) for item in heap.get_items() if item.id == ITEM]
        assert payload == heap_payload(9, heap.cnt - 2, heap_size)


def send_buffer_limit() -> int:
    """The most that the kernel holds of what a peer has not acknowledged (tcp(7))."""
    return int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])


def test_what_is_not_acknowledged_is_said(doorbell) -> None:
    """The receiver dies after the last byte went to the kernel."""
    flags = ("--backend", "tcp", "--heap-size", 8192, "--heaps", 64)
    with listening() as acceptor:
        whole = start_reading(acceptor)
        doorbell.send("--to", f"127.0.0.1:{acceptor.getsockname()[1]}", *flags)
        stream = len(whole())
    with listening(buffer=4096) as acceptor:
        port = acceptor.getsockname()[1]
        process = doorbell.start("send", "--json", "-q", "--to", f"127.0.0.1:{port}", *flags)
        connection, _ = acceptor.accept()
        while held_by_the_kernel(port) != stream:
            assert process.poll() is None
            time.sleep(0.001)
        connection.close()
        out, err = process.communicate(timeout=60)
    report = json.loads(out.splitlines()[-1])
    assert report["heaps_failed"] == 0 and report["unacknowledged_bytes"] > 0, err.decode()
    assert process.returncode == 1


def held_by_the_kernel(port: int) -> int:
    """Bytes of a connection to `port` that its receiver has not read, at either end (proc_pid_net(5))."""
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state == ESTABLISHED and f":{port:04X}" in (local[8:], remote[8:]):
            # What is sent and not acknowledged, and what is received and not read.
            held += sum(int(queue, 16) for queue in queues.split(":"))
    return held


@pytest.mark.parametrize("zerocopy", ["off", "on"])
def test_a_receiver_that_pauses_loses_nothing(doorbell, zerocopy: str) -> None:
    """Longer than anything else is waited for, at several places of a stream."""
    heap_size = 1 << 20

    def send(heaps: int, pause_at: int) -> tuple[bytes, bytes, int, bytes]:
        with listening(buffer=1 << 16) as acceptor:
            process = doorbell.start(
                *("send", "--json", "-q", "--to", f"127.0.0.1:{acceptor.getsockname()[1]}", "--backend", "tcp"),
                *("--source", "random:4", "--heap-size", heap_size, "--heaps", heaps, "--zerocopy", zerocopy),
            )
            connection, _ = acceptor.accept()
            with connection:
                pieces = [connection.recv(pause_at, socket.MSG_WAITALL)]
                time.sleep(LONGEST_DRAIN + 2)
                while piece := connection.recv(1 << 20):
                    pieces.append(piece)
            out, err = process.communicate(timeout=60)
            return b"".join(pieces), out, process.returncode, err

    # All but a little is in the kernel already; the end is yet to be posted; so is most.
    cases = [(1, 1000), (40, 38 * heap_size), (40, 1000)]
    with ThreadPoolExecutor(len(cases)) as pool:
        results = list(pool.map(lambda case: send(*case), cases))
    for (heaps, _), (stream, out, code, err) in zip(cases, results, strict=True):
        report = json.loads(out.splitlines()[-1])
        assert (code, report["heaps"], report["heaps_failed"]) == (0, heaps, 0), err.decode()
        assert report["unacknowledged_bytes"] == 0 and report["wire_bytes"] == len(stream)


def test_an_interrupt_ends_the_wait_for_a_receiver_that_does_not_read(doorbell) -> None:
    """Whether heaps are yet to be posted, or the kernel has them all and nobody acknowledges them."""

    def send(heaps: int) -> tuple[dict, int]:
        with listening(buffer=4096) as acceptor:
            port = acceptor.getsockname()[1]
            process = doorbell.start(
                *("send", "--json", "-q", "--to", f"127.0.0.1:{port}", "--backend", "tcp"),
                *("--heap-size", 8192, "--heaps", heaps, "--zerocopy", "off"),
            )
            connection, _ = acceptor.accept()
            with connection:
                settled = -1
                while (held := held_by_the_kernel(port)) != settled or not held:
                    settled = held
                    time.sleep(0.5)
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=60)
        return json.loads(out.splitlines()[-1]), process.returncode

    with ThreadPoolExecutor(2) as pool:
        (many, many_code), (few, few_code) = pool.map(send, [100_000, 4])
    assert many_code == few_code == 130
    assert many["heaps_failed"] > 0 and many["heaps_unsubmitted"] > 0
    assert many["heaps"] + many["heaps_unsubmitted"] == 100_000
    assert few["heaps"] == 4 and few["heaps_failed"] == 0 and few["unacknowledged_bytes"] > 0


def test_reconnect_waits_for_the_first_connection(doorbell) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    flags = ("--to", f"127.0.0.1:{port}", "--backend", "tcp", "--source", "random:8", "--heaps", 50)
    process = doorbell.start("send", "--json", "-q", *flags, "--reconnect", 60)
    assert process.stderr
    first = process.stderr.readline().decode()
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in first
    with TcpReceiver("127.0.0.1", listening(port=port)) as receiver:
        assert_random_stream(receiver.data_heaps(), 8, 8192, 50)
    out, err = process.communicate(timeout=60)
    report = json.loads(out.splitlines()[-1])
    assert (process.returncode, report["reconnects"], report["heaps_failed"]) == (0, 0, 0), err.decode()
    done = doorbell.run("send", "--json", "-q", *flags, "--reconnect", 1)
    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["heaps_failed"], report["packets"]) == (1, 50, 0)
    assert f"cannot connect to 127.0.0.1:{port}" in done.stderr


def test_nobody_listens(doorbell) -> None:
    with listening() as acceptor:
        port = acceptor.getsockname()[1]
    done = doorbell.run("send", "--to", f"127.0.0.1:{port}", "--backend", "tcp")
    assert done.returncode == 3
    assert f"connect to (127.0.0.1:{port})" in done.stderr


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--to", "127.0.0.1:9", "--vlan", "7"], ["stream.vlan (--vlan)", "with tcp the kernel builds"]),
        (["--to", "127.0.0.1:9", "--dst-mac", "02:00:00:00:00:07"], ["stream.dst_mac", "with tcp the kernel"]),
        (["--to", "239.1.0.0:9"], ["stream.to (--to)", "multicast"]),
        ([], ["stream.to (--to)"]),
        (["--to", "127.0.0.1:9", "--reconnect", "soon"], ["--reconnect"]),
    ],
)
def test_what_tcp_cannot_do(doorbell, flags: list[str], words: list[str]) -> None:
    done = doorbell.run("send", "--backend", "tcp", *flags)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr


def test_plan(doorbell) -> None:
    done = doorbell.run("plan", "--json", "--backend", "tcp", "--to", "127.0.0.1:9", "--heap-size", 65536)
    plan = json.loads(done.stdout)
    assert plan["doorbells_per_batch"] == plan["messages_per_batch"] == 1
    assert plan["packet_limit"] is None and 8192 < plan["packet_size"] <= 65536


# Of what goes no more, in seconds: `DRAIN`.
LONGEST_DRAIN = 10
# Linux's include/net/tcp_states.h.
ESTABLISHED = "01"
