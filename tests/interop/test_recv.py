"""`doorbell recv`: spead2's senders, and the program's own, as numpy finds what was stored."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import spead2
import spead2.send

from endpoint import bound_endpoint
from namespace import VETH, VETH_SETUP, in_new_network
from splitmix import splitmix_bytes


class Recv:
    """`doorbell recv` that listens."""

    def __init__(self, doorbell, addresses: list[str], *arguments: object) -> None:
        flags = [flag for address in addresses for flag in ("--from", address)]
        self.addresses = addresses
        self._process = subprocess.Popen(
            doorbell.command("recv", "--json", *flags, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = []
        while not (said and said[-1].startswith("listening at")):
            said.append(self._process.stderr.readline())
            assert said[-1], "".join(said)

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def finish(self, code: int = 0) -> dict:
        """The report."""
        try:
            out, err = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        assert self._process.returncode == code, out + err
        assert "panicked" not in err
        return json.loads(out)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def recv(doorbell) -> Iterator[Callable[..., Recv]]:
    """Starts receivers: ``recv(addresses, *arguments)``, at a free port of 127.0.0.1 by default."""
    started = []

    def start(*arguments: object, addresses: list[str] | None = None) -> Recv:
        started.append(Recv(doorbell, addresses or [free_address()], *arguments))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


def free_address(kind: str = "ipv4") -> str:
    endpoint = bound_endpoint(kind)
    endpoint.socket.close()
    return endpoint.destination


@contextmanager
def spead2_stream(receiver: Recv, flavour: int = 40, packet_size: int = 1472, **config):
    """A sender of spead2 to all addresses of a receiver; sends a stop heap to each at the end."""
    endpoints = [tuple(address.rsplit(":", 1)) for address in receiver.addresses]
    endpoints = [(host.strip("[]"), int(port)) for host, port in endpoints]
    stream = spead2.send.UdpStream(
        spead2.ThreadPool(),
        endpoints,
        spead2.send.StreamConfig(max_packet_size=packet_size, rate=40e6, **config),
    )
    group = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, flavour, 0))
    yield stream, group
    for substream in range(len(endpoints)):
        stream.send_heap(group.get_end(), substream_index=substream)


def random(dtype: str, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    kind = np.dtype(dtype)
    return np.frombuffer(splitmix_bytes(seed, kind.itemsize * int(np.prod(shape))), kind).reshape(shape)


@pytest.mark.parametrize("flavour", [40, 48])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "|i1", "<f4", ">f8", "<c8", "<f2"])
def test_numpy_items(recv, tmp_path, dtype: str, order: str, flavour: int) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--timeout", 60)
    frames = random(dtype, (5, 6, 70, 3))
    with spead2_stream(receiver, flavour) as (stream, group):
        group.add_item(0x1234, "frame", "a picture", shape=(6, 70, 3), dtype=np.dtype(dtype), order=order)
        for frame in frames:
            group["frame"].value = frame
            stream.send_heap(group.get_heap())
    report = receiver.finish()
    stored = np.load(tmp_path / "out.npy")
    assert stored.dtype == np.dtype(dtype)
    assert stored.shape == frames.shape
    assert stored.tobytes() == frames.tobytes()
    assert (report["heaps"], report["ended"], report["missing"]) == (5, "stopped", 0)
    assert [(item["id"], item["name"], item["description"]) for item in report["items"]] == [
        (0x1234, "frame", "a picture")
    ]


@pytest.mark.parametrize("code, bits", [("u", n) for n in (1, 7, 8, 10, 12, 16, 23, 33, 48, 64)] + [("i", n) for n in (3, 8, 14, 31, 63)])
def test_packed_samples_are_widened(recv, tmp_path, code: str, bits: int) -> None:
    """Every value of up to 10 bits, and random ones of more."""
    low, high = (0, 1 << bits) if code == "u" else (-(1 << bits - 1), 1 << bits - 1)
    rng = np.random.default_rng(bits)
    values = [int(v) for v in rng.integers(low, high, 1025, dtype=np.uint64 if code == "u" else np.int64)]
    values[: min(high - low, 1024)] = range(low, min(high, low + 1024))
    values[-1] = high - 1
    receiver = recv("--write", tmp_path / "out.npy", "--timeout", 60)
    with spead2_stream(receiver) as (stream, group):
        group.add_item(0x1234, "samples", "", shape=(1025,), format=[(code, bits)])
        for heap in (values, values[::-1]):
            group["samples"].value = heap
            stream.send_heap(group.get_heap())
    report = receiver.finish()
    stored = np.load(tmp_path / "out.npy")
    size = next(size for size in (1, 2, 4, 8) if 8 * size >= bits)
    assert stored.dtype == np.dtype(f"{code}{size}")
    assert stored.tolist() == [values, values[::-1]]
    assert report["items"][0]["type"] == f"{code}{bits} (1025,)"


def test_unknown_dimension_and_structure(recv, tmp_path) -> None:
    receiver = recv("--write-dir", tmp_path / "out", "--item", "pairs", "--timeout", 60)
    rows = [[(1, -1)], [(5, -2), (1023, 511), (0, -512)]]
    with spead2_stream(receiver) as (stream, group):
        group.add_item(0x10, "other", "", shape=(1000,), dtype=np.int32, value=np.zeros(1000, np.int32))
        group.add_item(0x1234, "pairs", "", shape=(None,), format=[("u", 10), ("i", 10)])
        for pairs in rows:
            group["pairs"].value = pairs
            group["other"].version += 1
            stream.send_heap(group.get_heap())
    report = receiver.finish()
    assert report["written"]["frames"] == 2
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["frame-00000001.npy", "frame-00000002.npy"]
    for file, pairs in zip(files, rows):
        stored = np.load(file)
        assert stored.dtype == np.dtype([("f0", "<u2"), ("f1", "<i2")])
        # Spare bits after the last element may hold another one.
        assert stored.tolist()[: len(pairs)] == pairs


def test_scale_and_offset(recv, tmp_path) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--scale", "--item", "frame", "--timeout", 60)
    frame = np.arange(1000).reshape(20, 50)
    with spead2_stream(receiver) as (stream, group):
        group.add_item(0x1234, "frame", "", shape=(20, 50), format=[("u", 10)], value=frame)
        group.add_item(0x1235, "scale", "", shape=(), dtype=np.float64, value=0.25)
        group.add_item(0x1236, "offset", "", shape=(), format=[("f", 32)], value=-3)
        stream.send_heap(group.get_heap())
        group["frame"].value = frame[::-1]
        stream.send_heap(group.get_heap())
    receiver.finish()
    stored = np.load(tmp_path / "out.npy")
    assert stored.dtype == np.float32
    assert np.array_equal(stored, np.stack([frame, frame[::-1]]) * np.float32(0.25) - 3)


def test_substreams_come_out_in_order(recv, tmp_path) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--timeout", 60, addresses=[free_address() for _ in range(3)])
    with spead2_stream(receiver) as (stream, group):
        group.add_item(0x1234, "value", "", shape=(2000,), dtype=np.int32)
        for index in range(30):
            group["value"].value = np.full(2000, index, np.int32)
            stream.send_heap(group.get_heap(descriptors="all" if index == 0 else "none", data="all"), substream_index=index % 3)
    report = receiver.finish()
    assert np.load(tmp_path / "out.npy")[:, 0].tolist() == list(range(30))
    assert [(it["heaps"], it["missing"], it["stopped"]) for it in report["substreams"]] == [(10, 0, True)] * 3


@pytest.mark.parametrize("group", ["serial", "round-robin"])
@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
def test_our_own_stream(doorbell, recv, kind: str, group: str) -> None:
    addresses = [free_address(kind) for _ in range(2)]
    receiver = recv("--verify", "random:3", "--timeout", 60, addresses=addresses)
    to = [flag for address in addresses for flag in ("--to", address)]
    doorbell.send(*to, *("--source", "random:3", "--heap-size", 20_000, "--heaps", 150, "--group", group, "--rate", "400Mb/s"))
    report = receiver.finish()
    assert (report["heaps"], report["mismatched"], report["ended"]) == (150, 0, "stopped")
    assert [substream["heaps"] for substream in report["substreams"]] == [75, 75]


def test_multicast_groups(doorbell, recv) -> None:
    port = free_address().rsplit(":", 1)[1]
    receiver = recv("--interface", "lo", "--verify", "pattern", "--timeout", 60, addresses=[f"239.255.77.2+1:{port}"])
    doorbell.send("--to", f"239.255.77.2+1:{port}", "--interface", "lo", "--heaps", 50, "--rate", "400Mb/s")
    report = receiver.finish()
    assert (report["heaps"], report["mismatched"]) == (50, 0)
    assert [substream["heaps"] for substream in report["substreams"]] == [25, 25]


def test_ipv6_multicast(doorbell) -> None:
    def test() -> None:
        receiver = Recv(doorbell, ["[ff15::7148:1]:7148"], *("--interface", VETH, "--verify", "pattern", "--timeout", 60))
        doorbell.send("--to", "[ff15::7148:1]:7148", *("--interface", VETH, "--heaps", 50, "--rate", "400Mb/s"))
        report = receiver.finish()
        assert (report["heaps"], report["mismatched"]) == (50, 0)

    in_new_network(VETH_SETUP, test)


def test_npy_round_trip_and_preview(doorbell, recv, tmp_path) -> None:
    frames = np.exp(np.random.default_rng(1).normal(0, 3, (4, 40, 60, 3))).astype(np.float32)
    np.save(tmp_path / "in.npy", frames)
    receiver = recv("--write", tmp_path / "out.npy", "--preview", tmp_path / "last.png", "--timeout", 60)
    doorbell.send("--to", receiver.addresses[0], "--source", tmp_path / "in.npy", "--rate", "400Mb/s")
    receiver.finish()
    assert np.load(tmp_path / "out.npy").tobytes() == frames.tobytes()
    picture = (tmp_path / "last.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture[16:26] == (60).to_bytes(4, "big") + (40).to_bytes(4, "big") + b"\x08\x02"


def test_loss_is_told(recv) -> None:
    """Of six heaps, the third never comes, and the fifth not whole."""
    capture = bound_endpoint("ipv4", buffer=1 << 20)
    host = Recv.__new__(Recv)
    host.addresses = [capture.destination]
    with spead2_stream(host) as (stream, group):
        group.add_item(0x1234, "value", "", shape=(4000,), dtype=np.uint8)
        for index in range(6):
            group["value"].value = np.full(4000, index, np.uint8)
            stream.send_heap(group.get_heap())
    datagrams = []
    capture.socket.setblocking(False)  # spead2 has sent it all, and loopback delivers at once.
    while True:
        try:
            datagrams.append(capture.socket.recv(65536))
        except BlockingIOError:
            break
    capture.socket.close()
    heap_cnts = [int.from_bytes(datagram[11:16], "big") for datagram in datagrams]
    kept = [d for d, cnt in zip(datagrams, heap_cnts) if cnt != 3]
    kept.remove([d for d, cnt in zip(datagrams, heap_cnts) if cnt == 5][1])
    receiver = recv("--timeout", 60)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        address, port = receiver.addresses[0].rsplit(":", 1)
        for datagram in [b"not SPEAD", *kept[:3], kept[0], *kept[3:]]:
            sock.sendto(datagram, (address, int(port)))
    report = receiver.finish(1)
    assert (report["heaps"], report["incomplete"], report["missing"]) == (4, 1, 1)
    assert (report["not_spead"], report["ignored"]) == (1, 1)


def test_ends(doorbell, recv) -> None:
    silent = recv("--timeout", 0.2)
    assert silent.finish(1)["ended"] == "timeout"
    receiver = recv()
    receiver.interrupt()
    assert receiver.finish(130)["ended"] == "interrupted"
    receiver = recv("--heaps", 7)
    doorbell.send("--to", receiver.addresses[0], "--heaps", 20, "--rate", "100Mb/s")
    report = receiver.finish()
    assert (report["ended"], report["heaps"], report["incomplete"], report["missing"]) == ("heaps", 7, 0, 0)
    receiver = recv("--verify", "random:5", "--timeout", 60)
    doorbell.send("--to", receiver.addresses[0], "--heaps", 3)
    assert receiver.finish(1)["mismatched"] == 3


PATIENCE = 60.0
