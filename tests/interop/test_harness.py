"""The suite's own tools, against spead2's sender: what they pass is whole, what they fail is not."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import spead2
import spead2.send

import generate
from capture import ETHERNET_LINK, NANOSECOND_MAGIC, ones_complement_sum, read_capture
from endpoint import multicast6_endpoint
from namespace import VETH, VETH_SETUP, in_new_network
from receiver import Receiver
from splitmix import SplitMix64, heap_payload, splitmix_bytes

SAMPLES = 5000
HEAPS = 20


def tutorial_heaps(address_bits: int) -> list[spead2.send.Heap]:
    """The SPEAD tutorial's stream, with its stop heap, as spead2 makes it."""
    group = spead2.send.ItemGroup()
    group.add_item(0x1600, "timestamp", "Index of the first sample", shape=(), format=[("u", address_bits)])
    group.add_item(0x3300, "adc_samples", "ADC converter output", shape=(SAMPLES,), dtype=np.int8)
    generator = spead2.send.HeapGenerator(group, flavour=spead2.Flavour(4, 64, address_bits))
    heaps = []
    for i in range(HEAPS):
        group["timestamp"].value = i * SAMPLES
        group["adc_samples"].value = np.full(SAMPLES, i, np.int8)
        heaps.append(generator.get_heap())
    return [*heaps, generator.get_end()]


def send_packets(destination: tuple, packets: list[bytes]) -> None:
    family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for packet in packets:
            sender.sendto(packet, destination)


def packets_of(heaps: list[spead2.send.Heap], first_cnt: int = 1) -> list[list[bytes]]:
    return [list(spead2.send.PacketGenerator(heap, first_cnt + i, 1472)) for i, heap in enumerate(heaps)]


@pytest.mark.parametrize("address_bits", [40, 48])
@pytest.mark.parametrize("kind", ["ipv4", "ipv6", "multicast"])
def test_receives_what_spead2_sends(listen, kind: str, address_bits: int) -> None:
    receiver = listen(kind)
    address = receiver.endpoint.socket.getsockname()[:2]
    flags = {"ttl": 1, "interface_address": "127.0.0.1"} if kind == "multicast" else {}
    stream = spead2.send.UdpStream(spead2.ThreadPool(), [address], spead2.send.StreamConfig(max_heaps=64), **flags)
    for heap in tutorial_heaps(address_bits):
        stream.send_heap(heap)
    heaps = receiver.whole_stream()
    assert [heap.address_bits for heap in heaps] == [address_bits] * HEAPS
    assert [heap.values[0x1600] for heap in heaps] == [i * SAMPLES for i in range(HEAPS)]
    for i, heap in enumerate(heaps):
        assert heap.content(0x3300, SAMPLES) == bytes([i]) * SAMPLES
        assert heap.descriptors == ((0x1600, 0x3300) if i == 0 else ())
        assert heap.immediates == {0x1600}


def test_ipv6_multicast_in_a_network_of_our_own() -> None:
    def receive() -> int:
        with Receiver(multicast6_endpoint("ff15::77", VETH)) as receiver:
            port = receiver.endpoint.port
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(VETH))
                for packet in sum(packets_of(tutorial_heaps(40)), []):
                    sender.sendto(packet, ("ff15::77", port))
            return len(receiver.whole_stream())

    assert in_new_network(VETH_SETUP, receive) == HEAPS


def test_a_lost_heap_is_a_failure(listen) -> None:
    receiver = listen()
    heaps = packets_of(tutorial_heaps(40))
    del heaps[7]
    send_packets(receiver.endpoint.socket.getsockname(), sum(heaps, []))
    with pytest.raises(AssertionError, match=r"missing \[8\]"):
        receiver.whole_stream()


def test_a_lost_packet_is_a_failure(listen) -> None:
    receiver = listen()
    heaps = packets_of(tutorial_heaps(40))
    del heaps[7][1]
    send_packets(receiver.endpoint.socket.getsockname(), sum(heaps, []))
    with pytest.raises(AssertionError, match="missing|incomplete"):
        receiver.whole_stream()


def test_heaps_out_of_order_are_a_failure(listen) -> None:
    receiver = listen()
    heaps = packets_of(tutorial_heaps(40))
    heaps[3], heaps[4] = heaps[4], heaps[3]
    send_packets(receiver.endpoint.socket.getsockname(), sum(heaps, []))
    with pytest.raises(AssertionError, match="order"):
        receiver.whole_stream()


def test_splitmix64_is_the_published_generator() -> None:
    # The first outputs for these states, as java.util.SplittableRandom and splitmix64.c print them.
    assert SplitMix64(0).next() == 0xE220A8397B1DCDAF
    assert SplitMix64(1234567).next() == 6457827717110365317
    rng = SplitMix64(99)
    assert b"".join(rng.next().to_bytes(8, "little") for _ in range(4))[:29] == splitmix_bytes(99, 29)
    assert heap_payload(5, 0, 9) == splitmix_bytes(5, 9) != heap_payload(5, 1, 9)


def test_golden_specs_build_the_tutorial_s_heap() -> None:
    """Specs and spead2's own item group must lead to the same packets."""
    timestamp, samples = generate.tutorial(40, SAMPLES)
    # spead2's generator puts each descriptor right before its item.
    items = [
        timestamp,
        {"kind": "immediate", "id": 0x1600, "value": 0},
        samples,
        generate.payload(0x3300, SAMPLES, 1),
    ]
    by_spec = generate.packets(generate.heap(40, 1472, 1, items))
    by_group = packets_of(tutorial_heaps(40))[0]
    # The samples differ (random against zero), so compare up to them.
    assert [len(p) for p in by_spec] == [len(p) for p in by_group]
    assert by_spec[0][:300] == by_group[0][:300]


def test_frames_are_parsed_as_spead2_parses_them(tmp_path: Path) -> None:
    """A capture made here by hand reads the same by `read_capture` and by spead2 (libpcap)."""
    packets = sum(packets_of(tutorial_heaps(40)), [])
    capture = tmp_path / "hand-made.pcap"
    with capture.open("wb") as out:
        out.write(struct.pack("<IHHiIII", NANOSECOND_MAGIC, 2, 4, 0, 0, 65535, ETHERNET_LINK))
        for number, packet in enumerate(packets):
            frame = ethernet_frame(packet)
            out.write(struct.pack("<IIII", 1, number, len(frame), len(frame)) + frame)
    datagrams = read_capture(capture)
    assert [d.payload for d in datagrams] == packets
    assert (str(datagrams[0].destination), datagrams[0].destination_port, datagrams[0].hops) == ("127.0.0.1", 7148, 1)
    assert datagrams[-1].nanoseconds == 1_000_000_000 + len(packets) - 1
    with Receiver(capture) as receiver:
        assert len(receiver.whole_stream()) == HEAPS


def ethernet_frame(payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", 9, 7148, 8 + len(payload), 0) + payload
    loopback = socket.inet_aton("127.0.0.1")
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 1, 17, 0) + loopback + loopback
    checksum = ones_complement_sum(ip) ^ 0xFFFF
    ip = ip[:10] + checksum.to_bytes(2, "big") + ip[12:]
    return bytes(12) + b"\x08\x00" + ip + udp
