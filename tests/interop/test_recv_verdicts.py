"""What `doorbell recv` says of streams that are not as they should be, beside what spead2 and numpy make of them."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import time

import numpy as np
import pytest
import spead2
import spead2.send

from namespace import VETH, VETH_SETUP, in_new_network
from test_recv import Recv, free_address, recv, spead2_stream  # noqa: F401 (a fixture)


def pointer(item: int, value: int, immediate: bool = True) -> bytes:
    return struct.pack(">Q", (immediate << 63) | (item << 40) | value)


def packet(cnt: int, length: int | None, offset: int, payload: bytes, items: bytes = b"") -> bytes:
    head = pointer(1, cnt) + (b"" if length is None else pointer(2, length)) + pointer(3, offset)
    pointers = head + pointer(4, len(payload)) + items
    return struct.pack(">BBBBHH", 0x53, 4, 3, 5, 0, len(pointers) // 8) + pointers + payload


def stop(cnt: int) -> bytes:
    return packet(cnt, 0, 0, b"", pointer(6, 2))


def descriptor(cnt: int, name: bytes, format: bytes, shape: bytes) -> bytes:
    """A heap with the descriptor of item 0x3300."""
    items = pointer(0x14, 0x3300) + pointer(0x10, 0, False)
    items += pointer(0x12, len(name), False) + pointer(0x13, len(name) + len(shape), False)
    inner = packet(1, len(name + shape + format), 0, name + shape + format, items)
    return packet(cnt, len(inner), 0, inner, pointer(5, 0, False))


BYTES = b"u" + (8).to_bytes(3, "big")
ITEM = pointer(0x3300, 0, False)


def dimension(size: int) -> bytes:
    return b"\0" + size.to_bytes(5, "big")


def heap(cnt: int, payload: bytes, step: int = 1000) -> list[bytes]:
    return [packet(cnt, len(payload), at, payload[at : at + step], ITEM) for at in range(0, len(payload), step)]


def send(address: str, packets: list[bytes], source: socket.socket | None = None) -> None:
    host, port = address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if source is None else source.dup() as sock:
        for number, datagram in enumerate(packets):
            sock.sendto(datagram, (host, int(port)))
            if number % 50 == 49:
                time.sleep(0.001)


def values(tmp_path, index: int = 0) -> list[int]:
    """The value of each frame that was stored, whose elements must be alike."""
    stored = np.load(tmp_path / "out.npy")
    assert (stored == stored[:, :1]).all()
    return stored[:, index].tolist()


@pytest.mark.parametrize("size", [64, 4000])
def test_two_senders_with_equal_cnts(recv, tmp_path, size: int) -> None:
    """spead2, one stream each, has all of both."""
    receiver = recv("--write-dir", tmp_path / "out", addresses=[free_address() for _ in range(2)])
    streams, groups = [], []
    for host, port in (address.rsplit(":", 1) for address in receiver.addresses):
        config = spead2.send.StreamConfig(max_packet_size=1472, rate=40e6)
        streams.append(spead2.send.UdpStream(spead2.ThreadPool(), [(host, int(port))], config))
        groups.append(spead2.send.ItemGroup())
        groups[-1].add_item(0x1234, "frame", "", shape=(size,), dtype=np.uint8)
    for index in range(20):
        for number, (stream, group) in enumerate(zip(streams, groups)):
            group["frame"].value = np.full(size, 100 * number + index, np.uint8)
            stream.send_heap(group.get_heap())
    for stream, group in zip(streams, groups):
        stream.send_heap(group.get_end())
    report = receiver.finish()
    assert (report["heaps"], report["mismatched"], report["missing"], report["ended"]) == (40, 0, 0, "stopped")
    assert [it["heaps"] for it in report["substreams"]] == [20, 20]


@pytest.mark.parametrize("size", [64, 4000])
@pytest.mark.parametrize("first, again", [(3, 5), (200, 200)])
def test_a_sender_that_starts_again(recv, tmp_path, size: int, first: int, again: int) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--heaps", first + again)
    for number, heaps in enumerate((first, again)):
        host, port = receiver.addresses[0].rsplit(":", 1)
        config = spead2.send.StreamConfig(max_packet_size=1472, rate=40e6)
        stream = spead2.send.UdpStream(spead2.ThreadPool(), [(host, int(port))], config)
        group = spead2.send.ItemGroup()
        group.add_item(0x1234, "frame", "", shape=(size,), dtype=np.uint8)
        for _ in range(heaps):
            group["frame"].value = np.full(size, 1 + number, np.uint8)
            stream.send_heap(group.get_heap())
    report = receiver.finish()
    assert values(tmp_path) == [1] * first + [2] * again
    assert (report["heaps"], report["ignored"]) == (first + again, 0)
    assert report["substreams"][0]["restarts"] == 1


def test_a_stop_heap_or_descriptors_from_the_same_address_begin_a_stream(recv, tmp_path) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--heaps", 8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        for value, heaps in ((1, 3), (2, 5)):
            packets = [descriptor(1, b"n", BYTES, dimension(2500))]
            for cnt in range(2, 2 + heaps):
                packets += heap(cnt, bytes([value]) * 2500)
            send(receiver.addresses[0], packets, source)
    receiver.finish()
    assert values(tmp_path) == [1] * 3 + [2] * 5


def test_a_heap_is_whole_only_if_it_is(recv, tmp_path) -> None:
    """One of three packets of heap 4 comes, and an empty one that says its heap is empty."""
    receiver = recv("--write", tmp_path / "out.npy", "--timeout", 60)
    packets = [descriptor(1, b"n", BYTES, dimension(3000)), *heap(2, b"A" * 3000), *heap(3, b"B" * 3000)]
    packets += [heap(4, b"C" * 3000)[0], packet(4, 0, 0, b""), *heap(5, b"D" * 3000), stop(6)]
    send(receiver.addresses[0], packets)
    report = receiver.finish(1)
    assert values(tmp_path) == list(b"ABD")
    assert (report["heaps"], report["incomplete"], report["refused"]) == (3, 1, 1)
    assert "heap 4: its packets contradict each other" in report["first_refused"]


def test_a_heap_without_a_length_is_refused(recv) -> None:
    receiver = recv("--timeout", 60)
    packets = heap(2, b"A" * 3000) + [packet(3, None, 0, b"B" * 100, ITEM), stop(4)]
    send(receiver.addresses[0], packets)
    report = receiver.finish(1)
    assert (report["heaps"], report["refused"], report["missing"]) == (1, 1, 1)
    assert "do not say how long" in report["first_refused"]


def test_the_stop_heap_tells_what_was_lost_at_the_end(recv) -> None:
    for lost, first_cnt, expected in ((range(50, 90), None, 40), (range(1, 10), None, 0), (range(1, 10), 2, 8)):
        receiver = recv("--timeout", 60, *(() if first_cnt is None else ("--first-cnt", first_cnt)))
        cnts = [cnt for cnt in range(2, 90) if cnt not in lost]
        send(receiver.addresses[0], [it for cnt in cnts for it in heap(cnt, b"A" * 1500)] + [stop(90)])
        report = receiver.finish(1 if expected else 0)
        assert (report["heaps"], report["missing"]) == (len(cnts), expected)
        assert report["substreams"][0]["first_cnt"] == cnts[0]


def test_a_stream_without_an_end_is_no_success(recv) -> None:
    receiver = recv("--timeout", 0.5)
    send(receiver.addresses[0], heap(2, b"A" * 1500) + heap(3, b"B" * 1500))
    report = receiver.finish(1)
    assert (report["heaps"], report["missing"], report["end_seen"], report["ended"]) == (2, 0, False, "timeout")


def test_one_made_up_cnt_makes_nothing_missing(recv) -> None:
    for forged in (heap(1 << 39, b"X" * 500), heap(500_000, b"X" * 500)[:1]):
        receiver = recv("--timeout", 60)
        before = [it for cnt in range(2, 60) for it in heap(cnt, b"A" * 1500)]
        after = [it for cnt in range(60, 100) for it in heap(cnt, b"A" * 1500)]
        send(receiver.addresses[0], before + forged + after + [stop(100)])
        report = receiver.finish()
        assert report["missing"] == 0


def test_only_from_one_sender(recv) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        right.bind(("127.0.0.1", 0))
        receiver = recv("--source-filter", f"127.0.0.1:{right.getsockname()[1]}", "--timeout", 60)
        for cnt in range(2, 30):
            send(receiver.addresses[0], heap(cnt, b"W" * 2000, 700) + [stop(cnt + 1)], wrong)
            send(receiver.addresses[0], heap(cnt, b"R" * 2000), right)
        send(receiver.addresses[0], [stop(30)], right)
    report = receiver.finish()
    assert (report["heaps"], report["refused"], report["ignored"], report["filtered"]) == (28, 0, 0, 28 * 4)


def test_more_items_than_a_thousand(recv, tmp_path) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--item", "item1024", "--timeout", 60)
    with spead2_stream(receiver, packet_size=9000) as (stream, group):
        for index in range(1500):
            group.add_item(0x1000 + index, f"item{index}", "", shape=(16,), dtype=np.uint8)
        stream.send_heap(group.get_heap(descriptors="all", data="none"))
        for index in range(1500):
            group[f"item{index}"].value = np.full(16, index % 251, np.uint8)
        stream.send_heap(group.get_heap(descriptors="none", data="all"))
    report = receiver.finish()
    assert np.load(tmp_path / "out.npy").tolist() == [[1024 % 251] * 16]
    assert len(report["items"]) == 1500


def test_what_is_not_found_is_no_success(recv, tmp_path) -> None:
    receiver = recv("--item", "nowhere", "--write", tmp_path / "out.npy", "--timeout", 60)
    packets = [descriptor(1, b"n", BYTES, dimension(100)), *heap(2, bytes(100)), stop(3)]
    send(receiver.addresses[0], packets)
    assert "`nowhere`" in receiver.finish(1)["unfound"]
    receiver = recv("--item", "n", "--timeout", 60)
    send(receiver.addresses[0], packets)
    assert "unfound" not in receiver.finish()
    receiver = recv("--write", tmp_path / "immediate.npy", "--timeout", 60)
    send(receiver.addresses[0], [packet(2, 0, 0, b"", pointer(0x1600, 7)), stop(3)])
    report = receiver.finish(1)
    assert "0x1600" in report["first_unreadable"]


@pytest.mark.parametrize("size, unreadable, longer", [(100, 0, 0), (164, 0, 1), (60, 1, 0)])
def test_an_item_that_is_not_as_long_as_its_shape(recv, tmp_path, size: int, unreadable: int, longer: int) -> None:
    receiver = recv("--write", tmp_path / "out.npy", "--timeout", 60)
    send(receiver.addresses[0], [descriptor(1, b"n", BYTES, dimension(100)), *heap(2, bytes(size)), stop(3)])
    report = receiver.finish(unreadable)
    assert (report["unreadable"], report["longer"]) == (unreadable, longer)
    if longer:
        assert f"has {size - 100} bytes more than u8 (100,) takes" in report["first_longer"]
    if unreadable:
        assert "60 bytes are too few" in report["first_unreadable"]


def test_bits_that_grow_are_bounded(recv, tmp_path) -> None:
    """100,000 bits are 12,500 bytes in the heap, and 100,000 in a file."""
    bits = b"u" + (1).to_bytes(3, "big")
    packets = [descriptor(1, b"n", bits, dimension(100_000)), *heap(2, bytes(12_500)), stop(3)]
    receiver = recv("--write", tmp_path / "out.npy", "--max-heap", "20kB", "--timeout", 60)
    send(receiver.addresses[0], packets)
    assert "takes 100000 bytes, more than --max-heap" in receiver.finish(1)["first_unreadable"]
    receiver = recv("--write", tmp_path / "fits.npy", "--max-heap", "100kB", "--timeout", 60)
    send(receiver.addresses[0], packets)
    receiver.finish()
    assert np.load(tmp_path / "fits.npy").shape == (1, 100_000)


@pytest.mark.parametrize("flavour, item", [
    (40, {"shape": (5,), "format": [("u", 32)]}),
    (48, {"shape": (5,), "format": [("u", 32)]}),
    (48, {"shape": (5,), "dtype": np.dtype("<f4")}),
    (40, {"shape": (3, 5), "dtype": np.dtype("<f4")}),
    (40, {"shape": (2, 3, 1, 2), "format": [("i", 16)]}),
    (48, {"shape": (), "format": [("f", 32)]}),
])
def test_streams_of_pyspead_are_refused(recv, tmp_path, flavour: int, item: dict) -> None:
    """As spead2 writes them with its flag of bug-compatibility."""
    receiver = recv("--write", tmp_path / "out.npy", "--timeout", 60)
    host, port = receiver.addresses[0].rsplit(":", 1)
    stream = spead2.send.UdpStream(spead2.ThreadPool(), [(host, int(port))], spead2.send.StreamConfig(rate=40e6))
    group = spead2.send.ItemGroup(flavour=spead2.Flavour(4, 64, flavour, spead2.BUG_COMPAT_PYSPEAD_0_5_2))
    value = np.arange(1, 1 + int(np.prod(item["shape"])), dtype=item.get("dtype", np.int64)).reshape(item["shape"])
    group.add_item(0x1234, "frame", "", **item, value=value)
    stream.send_heap(group.get_heap())
    stream.send_heap(group.get_end())
    report = receiver.finish(1)
    assert "PySPEAD" in report["first_unreadable"], report
    assert not (tmp_path / "out.npy").exists()


def test_tcp_connections_are_substreams(doorbell, recv, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    receiver = recv("--verify", "random:3", "--timeout", 60, addresses=[f"tcp:127.0.0.1:{port}"])
    arguments = ("--backend", "tcp", "--source", "random:3", "--heap-size", "3MB", "--heaps", 30)
    doorbell.send("--to", f"127.0.0.1:{port}", *arguments)
    report = receiver.finish()
    assert (report["heaps"], report["mismatched"], report["ended"], report["missing"]) == (30, 0, "stopped", 0)


def test_tcp_from_two_senders_of_spead2(recv, tmp_path) -> None:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    receiver = recv("--write-dir", tmp_path / "out", "--timeout", 60, addresses=[f"tcp:127.0.0.1:{port}" for port in ports])
    for number, port in enumerate(ports):
        stream = spead2.send.TcpStream(spead2.ThreadPool(), [("127.0.0.1", port)])
        group = spead2.send.ItemGroup()
        group.add_item(0x1234, "frame", "", shape=(30_000,), dtype=np.uint8)
        for index in range(10):
            group["frame"].value = np.full(30_000, 100 * number + index, np.uint8)
            stream.send_heap(group.get_heap())
        stream.send_heap(group.get_end())
        del stream
    report = receiver.finish()
    assert (report["heaps"], [it["heaps"] for it in report["substreams"]]) == (20, [10, 10])


def test_a_connection_that_breaks_off_is_told(recv) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    receiver = recv("--timeout", 60, addresses=[f"tcp:127.0.0.1:{port}"])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"".join(heap(2, b"A" * 3000) + heap(3, b"B" * 3000)[:2])[:-10])
    report = receiver.finish(1)
    assert (report["heaps"], report["incomplete"], report["ended"]) == (1, 1, "closed")
    receiver = recv("--timeout", 60, addresses=[f"tcp:127.0.0.1:{port}"])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert receiver.finish(1)["not_spead"] == 1


@pytest.mark.parametrize("to", ["239.1.0.0+3:7148", "[ff15::1]:7148"])
@pytest.mark.parametrize("vlan", [(), ("--vlan", 5)])
def test_a_capture_is_received(doorbell, tmp_path, to: str, vlan: tuple) -> None:
    capture = tmp_path / "stream.pcap"
    doorbell.send("--backend", "pcap", "--pcap", capture, "--to", to, *vlan, "--source", "random:5", "--heaps", 40)
    done = doorbell.run("recv", "--from", capture, "--verify", "random:5", "--json", "-q")
    report = json.loads(done.stdout)
    assert done.returncode == 0, (done, report)
    assert (report["heaps"], report["mismatched"], report["ended"]) == (40, 0, "stopped")
    assert len(report["substreams"]) == (4 if "+" in to else 1)
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-9000])
    done = doorbell.run("recv", "--from", cut, "--json", "-q")
    assert done.returncode == 1 and json.loads(done.stdout)["ended"] == "closed"


def test_captures_that_are_none_are_told_why(doorbell, tmp_path) -> None:
    for name, content, hint in (
        ("a.pcap", b"", "no pcap file"),
        ("b.pcap", b"nothing of the kind, and long enough", "no pcap file"),
        ("c.pcapng", b"\x0a\x0d\x0d\x0a" + bytes(40), "editcap -F pcap"),
    ):
        (tmp_path / name).write_bytes(content)
        done = doorbell.run("recv", "--from", tmp_path / name)
        assert done.returncode == 3 and hint in done.stderr, done
    done = doorbell.run("recv", "--from", tmp_path / "none.pcap")
    assert done.returncode == 3 and "No such file" in done.stderr
    done = doorbell.run("recv", "--from", tmp_path / "a.pcap", "--from", "tcp:127.0.0.1:7148")
    assert done.returncode == 2 and "at once" in done.stderr


def usable_addresses() -> str:
    """Those of the wire, once the kernel has found out that nobody else has them (RFC 4862, section 5.4)."""
    show = ["ip", "-6", "-o", "addr", "show", "dev", VETH]
    for _ in range(100):
        lines = subprocess.run(show, capture_output=True, text=True).stdout
        if "fe80::" in lines and "tentative" not in lines:
            return lines
        time.sleep(0.1)
    raise AssertionError(lines)


def test_a_zone_names_the_interface(doorbell) -> None:
    """Groups of any scope, and interfaces by an address that others might have, too."""

    def test() -> None:
        own = re.search(r"inet6 (fe80::[0-9a-f:]+)", usable_addresses())[1]
        for group, arguments in (
            (f"[ff02::1234%{VETH}]:7148", ()),
            (f"[ff05::1%{VETH}]:7148", ()),
            ("[ff15::7]:7148", ("--interface", f"{own}%{VETH}")),
        ):
            receiver = Recv(doorbell, [group], *arguments, "--verify", "pattern", "--timeout", 60)
            to = re.sub(r"%\w+", "", group)
            doorbell.send("--to", to, "--interface", VETH, "--heaps", 20, "--rate", "400Mb/s")
            report = receiver.finish()
            assert (report["heaps"], report["mismatched"]) == (20, 0), group
        receiver = Recv(doorbell, [f"[ff02::1+3%{VETH}]:7148"], "--timeout", 60, "--verify", "pattern")
        doorbell.send("--to", "[ff02::1+3]:7148", "--interface", VETH, "--heaps", 20, "--rate", "400Mb/s")
        assert [it["heaps"] for it in receiver.finish()["substreams"]] == [5] * 4
        done = doorbell.run("recv", "--from", f"[ff02::1%{VETH}]:7148", "--interface", "lo")
        assert done.returncode == 3 and "another interface than lo" in done.stderr

    in_new_network(VETH_SETUP, test)


def test_advice_for_people(doorbell) -> None:
    address = free_address()
    process = subprocess.Popen(
        doorbell.command("recv", "--from", address, "--timeout", 60), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("listening at")
    packets = [it for cnt in range(50, 60) for it in heap(cnt, b"A" * 1500)]
    send(address, packets + heap(70, b"A" * 1500) + heap(71, b"A" * 1500) + [stop(72)])
    report = process.communicate(timeout=60)[0]
    assert "10 missing as far as cnts tell" in report
    assert "loses nothing with --hold-back" in report
    assert "joined    at heap 50" in report and "--first-cnt N counts it" in report
    assert process.returncode == 1
