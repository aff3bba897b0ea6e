"""Ethernet frames from a classic pcap file or off an interface; holds every header in them to its RFC."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Datagram:
    """A UDP datagram as captured."""

    nanoseconds: int
    destination_mac: bytes
    source_mac: bytes
    vlan: int | None
    source: IpAddress
    destination: IpAddress
    source_port: int
    destination_port: int
    hops: int
    may_fragment: bool
    checksum: int
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
    at, vlan = 14, None
    if ethertype == VLAN_TAG:
        tag, ethertype = struct.unpack_from("!HH", frame, 14)
        at, vlan = 18, tag & 0xFFF
    parse = {IPV4: parse_ipv4, IPV6: parse_ipv6}[ethertype]
    source, destination, hops, may_fragment, udp = parse(frame[at:])
    source_port, destination_port, length, checksum = struct.unpack_from("!HHHH", udp)
    assert length == len(udp), "UDP length"
    if checksum or source.version == 6:  # RFC 768: 0 is "none", RFC 8200 8.1: not for IPv6.
        pseudo = source.packed + destination.packed + struct.pack("!IHBB", len(udp), 0, 0, UDP)
        assert ones_complement_sum(pseudo + udp) == 0xFFFF, "UDP checksum"
    return Datagram(
        nanoseconds=nanoseconds,
        destination_mac=frame[:6],
        source_mac=frame[6:12],
        vlan=vlan,
        source=source,
        destination=destination,
        source_port=source_port,
        destination_port=destination_port,
        hops=hops,
        may_fragment=may_fragment,
        checksum=checksum,
        payload=udp[8:],
    )


def parse_ipv4(packet: bytes) -> tuple[IpAddress, IpAddress, int, bool, bytes]:
    version_ihl, _, total, _, fragment, ttl, protocol = struct.unpack_from("!BBHHHBB", packet)
    assert version_ihl == 0x45 and total == len(packet) and protocol == UDP
    assert fragment & 0x3FFF == 0, "a fragment"
    assert ones_complement_sum(packet[:20]) == 0xFFFF, "IPv4 header checksum"
    source, destination = ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20])
    return source, destination, ttl, fragment & DONT_FRAGMENT == 0, packet[20:]


def parse_ipv6(packet: bytes) -> tuple[IpAddress, IpAddress, int, bool, bytes]:
    version, length, protocol, hops = struct.unpack_from("!IHBB", packet)
    assert version >> 28 == 6 and length == len(packet) - 40 and protocol == UDP
    # Only the sender itself fragments (RFC 8200, 4.5), and this is no fragment.
    return ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40]), hops, False, packet[40:]


class Tap:
    """A packet socket (packet(7)) that sees every frame which arrives at an interface."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.bind((interface, ETH_P_ALL))

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def datagrams(self, port: int, count: int) -> list[Datagram]:
        """The next `count` datagrams to a UDP port, from an interface that carries others too."""
        found: list[Datagram] = []
        self._socket.settimeout(10)
        while len(found) < count:
            frame = self._frame()
            if udp_destination(frame) == port:
                found.append(parse_frame(time.monotonic_ns(), frame))
        return found

    def _frame(self) -> bytes:
        frame, ancillary, _, (_, _, kind, _, _) = self._socket.recvmsg(1 << 16, 256)
        for level, type, data in ancillary:
            if (level, type) == (SOL_PACKET, PACKET_AUXDATA):
                status, _, _, _, _, tag, tag_type = struct.unpack_from("=IIIHHHH", data)
                if status & TP_STATUS_VLAN_VALID:
                    # The kernel takes the tag out of every frame, and keeps it beside.
                    assert tag_type == VLAN_TAG
                    frame = frame[:12] + struct.pack("!HH", VLAN_TAG, tag) + frame[12:]
        return frame if kind != socket.PACKET_OUTGOING else b""


def udp_destination(frame: bytes) -> int | None:
    """The destination port of the datagram in a frame, if there is one."""
    at = 14
    if frame[12:14] == VLAN_TAG.to_bytes(2, "big"):
        at = 18
    ethertype = int.from_bytes(frame[at - 2 : at], "big")
    if ethertype == IPV4 and frame[at + 9] == UDP:
        at += 20
    elif ethertype == IPV6 and frame[at + 6] == UDP:
        at += 40
    else:
        return None
    return int.from_bytes(frame[at + 2 : at + 4], "big")


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
DONT_FRAGMENT = 0x4000

# packet(7), if_ether.h and if_packet.h; Python does not name them.
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_VLAN_VALID = 1 << 4
# socket(7): as SO_RCVBUF, but past net.core.rmem_max, for those with CAP_NET_ADMIN.
SO_RCVBUFFORCE = 33
