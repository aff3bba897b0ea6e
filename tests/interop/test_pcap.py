"""`--backend pcap`: the frames hold what spead2 would put on the wire, packet by packet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
import spead2
import spead2.send

import generate
from capture import Datagram, multicast_mac, read_capture
from generate import RawItem
from receiver import Receiver
from splitmix import heap_payload

GEOMETRIES = [(56, 300), (1472, 100), (1472, 8192), (1475, 5000), (8972, 8192), (8972, 100_000), (4096, 65536)]
# Not even spead2 can repeat the first heap's four item pointers in 56 bytes.
REPEATING = [geometry for geometry in GEOMETRIES if geometry[0] > 56]


def pattern_packets(bits: int, packet_size: int, heap_size: int, count: int, repeat: bool) -> Iterator[list[bytes]]:
    """What spead2 sends, heap by heap, given the heaps of the default source."""
    flavour = spead2.Flavour(4, 64, bits)
    for index in range(count):
        heap = spead2.send.Heap(flavour)
        heap.repeat_pointers = repeat
        if index == 0:
            for descriptor in generate.tutorial(bits, heap_size):
                heap.add_descriptor(generate.spead2_descriptor(descriptor))
        heap.add_item(RawItem(0x1600, (index * heap_size).to_bytes(bits // 8, "big"), True))
        heap.add_item(RawItem(0x3300, bytes([index % 256]) * heap_size, True))
        yield list(spead2.send.PacketGenerator(heap, 1 + index, packet_size))
    stop = spead2.send.Heap(flavour)
    stop.repeat_pointers = repeat
    stop.add_end()
    yield list(spead2.send.PacketGenerator(stop, 1 + count, packet_size))


def random_packets(
    seed: int, packet_size: int, heap_size: int, indices: range, first_cnt: int = 1
) -> Iterator[list[bytes]]:
    """What spead2 sends for heaps of ``--source random:SEED`` that have no descriptors; heap 0 has ``first_cnt``."""
    for index in indices:
        heap = spead2.send.Heap(spead2.Flavour(4, 64, 40))
        heap.add_item(RawItem(0x1600, (index * heap_size).to_bytes(5, "big"), True))
        heap.add_item(RawItem(0x3300, heap_payload(seed, index, heap_size), True))
        yield list(spead2.send.PacketGenerator(heap, first_cnt + index, packet_size))


def captured(doorbell, directory: Path, *arguments: object) -> list[Datagram]:
    """The datagrams that ``doorbell send --backend pcap`` writes."""
    path = directory / "wire.pcap"
    report = doorbell.send("--backend", "pcap", "--pcap", path, *arguments)
    datagrams = read_capture(path)
    assert report["backend"] == "pcap"
    assert report["packets"] == len(datagrams)
    times = [datagram.nanoseconds for datagram in datagrams]
    assert times == sorted(times)
    return datagrams


def assert_equal_packets(found: list[bytes], expected: list[bytes]) -> None:
    """As ``found == expected``, with a message that a person can read."""
    for number, (mine, theirs) in enumerate(zip(found, expected)):
        at = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
        assert mine == theirs, (
            f"packet {number} ({len(mine)} bytes, spead2 {len(theirs)}) differs at byte {at}: "
            f"{mine[at : at + 16].hex()}, spead2 {theirs[at : at + 16].hex()}"
        )
    assert len(found) == len(expected)


@pytest.mark.parametrize("flavour", [40, 48])
@pytest.mark.parametrize("packet_size, heap_size", GEOMETRIES)
def test_pattern(doorbell, tmp_path, packet_size: int, heap_size: int, flavour: int) -> None:
    found = captured(
        *(doorbell, tmp_path, "--to", "127.0.0.1:7148", "--packet-size", packet_size),
        *("--heap-size", heap_size, "--heaps", 10, "--batch-heaps", 4, "--flavour", f"64-{flavour}"),
    )
    expected = pattern_packets(flavour, packet_size, heap_size, 10, repeat=False)
    assert_equal_packets([datagram.payload for datagram in found], sum(expected, []))


@pytest.mark.parametrize("flavour", [40, 48])
@pytest.mark.parametrize("packet_size, heap_size", REPEATING)
def test_repeated_pointers(doorbell, tmp_path, packet_size: int, heap_size: int, flavour: int) -> None:
    found = captured(
        *(doorbell, tmp_path, "--to", "127.0.0.1:7148", "--packet-size", packet_size, "--repeat-pointers"),
        *("--heap-size", heap_size, "--heaps", 10, "--batch-heaps", 4, "--flavour", f"64-{flavour}"),
    )
    expected = pattern_packets(flavour, packet_size, heap_size, 10, repeat=True)
    assert_equal_packets([datagram.payload for datagram in found], sum(expected, []))


def test_round_robin(doorbell, tmp_path) -> None:
    """One packet of each heap of a batch in turn, as spead2's GroupMode.ROUND_ROBIN sends a group."""
    found = captured(
        *(doorbell, tmp_path, "--to", "127.0.0.1:7148", "--packet-size", 1472, "--group", "round-robin"),
        *("--source", "random:31", "--heap-size", 10_000, "--heaps", 10, "--batch-heaps", 4),
    )
    expected = []
    for batch in (range(4), range(4, 8), range(8, 10)):
        heaps = random_packets(31, 1472, 10_000, batch, first_cnt=2)
        expected += [packet for turn in zip(*heaps) for packet in turn]
    # After the descriptors, which have a heap of their own here.
    data = [datagram.payload for datagram in found if 2 <= heap_cnt(datagram.payload) < 12]
    assert_equal_packets(data, expected)


@pytest.mark.parametrize(
    "destination",
    ["127.0.0.1:7148", "[::1]:7148", "239.255.80.1:7148", "[ff15::80]:7148"],
)
def test_headers(doorbell, tmp_path, destination: str) -> None:
    """Addresses, ports, hops and checksums (`read_capture` holds the rest to the RFCs)."""
    host, _, port = destination.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    found = captured(
        *(doorbell, tmp_path, "--to", destination, "--packet-size", 1400, "--interface", "lo", "--ttl", 3),
        *("--source", "random:32", "--heap-size", 5000, "--heaps", 5),
    )
    for datagram in found:
        assert (datagram.destination, datagram.destination_port) == (address, int(port))
        assert datagram.source.version == address.version
        assert datagram.hops == 3
        if address.is_multicast:
            assert datagram.destination_mac == multicast_mac(address)
    assert len({datagram.source_port for datagram in found}) == 1
    expected = sum(random_packets(32, 1400, 5000, range(1, 5)), [])
    data = [datagram.payload for datagram in found if 2 <= heap_cnt(datagram.payload) < 6]
    assert_equal_packets(data, expected)


def test_substreams_keep_to_their_destinations(doorbell, tmp_path) -> None:
    found = captured(
        *(doorbell, tmp_path, "--to", "127.0.0.1:7148", "--to", "127.0.0.1:7149", "--packet-size", 1472),
        *("--source", "random:33", "--heap-size", 4000, "--heaps", 8),
    )
    for number, port in enumerate((7148, 7149)):
        payloads: dict[int, bytes] = {}
        for datagram in found:
            if datagram.destination_port == port:
                packet = datagram.payload
                payloads[heap_cnt(packet)] = payloads.get(heap_cnt(packet), b"") + payload(packet)
        data = [content for content in payloads.values() if len(content) == 4000]
        assert data == [heap_payload(33, index, 4000) for index in range(number, 8, 2)]


def test_spead2_reads_the_capture(doorbell, tmp_path) -> None:
    """libpcap and spead2 agree that it is a capture of a whole stream."""
    captured(
        *(doorbell, tmp_path, "--to", "127.0.0.1:7148", "--packet-size", "auto", "--mtu", 9000),
        *("--source", "random:34", "--heap-size", 30_000, "--heaps", 25, "--batch-heaps", 8),
    )
    with Receiver(tmp_path / "wire.pcap") as receiver:
        heaps = receiver.data_heaps()
    assert [heap.content(0x3300, 30_000) for heap in heaps] == [heap_payload(34, i, 30_000) for i in range(25)]


def heap_cnt(packet: bytes) -> int:
    """The first of the four pointers that open every packet (64-40)."""
    return int.from_bytes(packet[11:16], "big")


def payload(packet: bytes) -> bytes:
    """What follows the item pointers."""
    pointers = int.from_bytes(packet[6:8], "big")
    return packet[8 + 8 * pointers :]
