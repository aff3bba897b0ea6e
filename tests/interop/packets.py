"""SPEAD packets as they come out of a plain UDP socket, put together without any library."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Packet:
    """One packet of flavour 64-40."""

    cnt: int
    heap_length: int
    offset: int
    payload: bytes
    is_stop: bool


def parse_packet(data: bytes) -> Packet:
    """The four items that every packet begins with (in any order), stream control, and the payload."""
    magic, version, item_width, address_width, _, pointers = struct.unpack_from("!BBBBHH", data)
    assert (magic, version, item_width, address_width) == (0x53, 4, 3, 5)
    immediates = {}
    for (pointer,) in struct.iter_unpack("!Q", data[8 : 8 + 8 * pointers]):
        if pointer >> 63:
            immediates[pointer >> 40 & 0x7FFFFF] = pointer & ((1 << 40) - 1)
    payload = data[8 + 8 * pointers :]
    assert immediates[PAYLOAD_LENGTH] == len(payload)
    return Packet(
        cnt=immediates[HEAP_CNT],
        heap_length=immediates[HEAP_LENGTH],
        offset=immediates[PAYLOAD_OFFSET],
        payload=payload,
        is_stop=immediates.get(STREAM_CONTROL) == STOP,
    )


def whole_heaps(packets: Iterable[Packet]) -> dict[int, bytes]:
    """The payload of each heap of which no byte is missing, by heap cnt; none may come twice."""
    chunks: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
    lengths: dict[int, int] = {}
    for packet in packets:
        assert packet.offset not in chunks[packet.cnt], f"heap {packet.cnt}: offset {packet.offset} came twice"
        chunks[packet.cnt][packet.offset] = packet.payload
        assert lengths.setdefault(packet.cnt, packet.heap_length) == packet.heap_length
    heaps = {cnt: b"".join(found[offset] for offset in sorted(found)) for cnt, found in chunks.items()}
    return {cnt: payload for cnt, payload in heaps.items() if len(payload) == lengths[cnt]}


def drain(sock: socket.socket) -> list[bytes]:
    """The datagrams that wait in a socket, up to a stop heap or for as long as one may be on the way."""
    datagrams: list[bytes] = []
    sock.settimeout(SILENCE)
    try:
        while not datagrams or not parse_packet(datagrams[-1]).is_stop:
            datagrams.append(sock.recv(1 << 16))
    except TimeoutError:
        pass
    return datagrams


HEAP_CNT, HEAP_LENGTH, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x1, 0x2, 0x3, 0x4
STREAM_CONTROL, STOP = 0x6, 2
# Frames that the far end has not seen to yet, once the program is gone.
SILENCE = 1
