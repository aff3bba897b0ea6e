"""Reads the Ethernet frames of a classic pcap file, and holds every header in them to its RFC."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from pathlib import Path

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram as captured."""

    nanoseconds: int
    destination_mac: bytes
    source: IpAddress
    destination: IpAddress
    source_port: int
    destination_port: int
    hops: int
    payload: bytes


def read_capture(path: Path) -> list[Datagram]:
    """The datagrams of the nanosecond pcap file `path`, in order."""
    data = path.read_bytes()
    order = {NANOSECOND_MAGIC.to_bytes(4, "little"): "<", NANOSECOND_MAGIC.to_bytes(4, "big"): ">"}[data[:4]]
    _, major, minor, _, _, snapshot_length, link = struct.unpack_from(order + "IHHiIII", data)
    assert (major, minor, link) == (2, 4, ETHERNET_LINK)
    datagrams, at = [], 24
    while at < len(data):
        seconds, nanoseconds, captured, original = struct.unpack_from(order + "IIII", data, at)
        assert captured == original <= snapshot_length, "a frame is cut short"
        assert nanoseconds < 1_000_000_000
        frame = data[at + 16 : at + 16 + captured]
        assert len(frame) == captured, "the file is cut short"
        datagrams.append(parse_frame(seconds * 1_000_000_000 + nanoseconds, frame))
        at += 16 + captured
    return datagrams


def parse_frame(nanoseconds: int, frame: bytes) -> Datagram:
    """The datagram in an Ethernet `frame`, with or without a VLAN tag."""
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    at = 14
    if ethertype == VLAN_TAG:
        (ethertype,) = struct.unpack_from("!H", frame, 16)
        at = 18
    parse = {IPV4: parse_ipv4, IPV6: parse_ipv6}[ethertype]
    source, destination, hops, udp = parse(frame[at:])
    source_port, destination_port, length, checksum = struct.unpack_from("!HHHH", udp)
    assert length == len(udp), "UDP length"
    if checksum or source.version == 6:  # RFC 768: 0 is "none", RFC 8200 8.1: not for IPv6.
        pseudo = source.packed + destination.packed + struct.pack("!IHBB", len(udp), 0, 0, UDP)
        assert ones_complement_sum(pseudo + udp) == 0xFFFF, "UDP checksum"
    return Datagram(
        nanoseconds, frame[:6], source, destination, source_port, destination_port, hops, udp[8:]
    )


def parse_ipv4(packet: bytes) -> tuple[IpAddress, IpAddress, int, bytes]:
    version_ihl, _, total, _, fragment, ttl, protocol = struct.unpack_from("!BBHHHBB", packet)
    assert version_ihl == 0x45 and total == len(packet) and protocol == UDP
    assert fragment & 0x3FFF == 0, "a fragment"
    assert ones_complement_sum(packet[:20]) == 0xFFFF, "IPv4 header checksum"
    return ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20]), ttl, packet[20:]


def parse_ipv6(packet: bytes) -> tuple[IpAddress, IpAddress, int, bytes]:
    version, length, protocol, hops = struct.unpack_from("!IHBB", packet)
    assert version >> 28 == 6 and length == len(packet) - 40 and protocol == UDP
    return ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40]), hops, packet[40:]


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def multicast_mac(group: IpAddress) -> bytes:
    """RFC 1112 6.4 and RFC 2464 7."""
    if group.version == 4:
        return b"\x01\x00\x5e" + bytes([group.packed[1] & 0x7F]) + group.packed[2:]
    return b"\x33\x33" + group.packed[12:]


NANOSECOND_MAGIC = 0xA1B23C4D
ETHERNET_LINK = 1
VLAN_TAG = 0x8100
IPV4, IPV6 = 0x0800, 0x86DD
UDP = 17
