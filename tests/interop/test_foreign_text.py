"""Names, descriptions and types out of the network: terminal and log get nothing of them but printable text."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import unicodedata
from pathlib import Path

import pytest

from endpoint import bound_endpoint, wait_until_bound
from program import plain_environment

ESCAPES = "\x1b]0;title\x07\x1b[2J\r\nroot@host# \x9b31m\x7f"
DIRECTIONS = "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C]))
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u2028\u2029\x85"
TEXT = f"a{ESCAPES}b{DIRECTIONS}c{INVISIBLE}d"
# A name that needs no escape in a Python literal.
FIELD = TEXT.replace("\n", "").replace("\r", "")


def pointer(id: int, value: int, immediate: bool) -> bytes:
    return struct.pack("!Q", immediate << 63 | id << 40 | value)


def packet(cnt: int, items: bytes, payload: bytes) -> bytes:
    """A heap of one packet, of flavour 64-40."""
    head = b"".join(
        pointer(id, value, True) for id, value in ((1, cnt), (2, len(payload)), (3, 0), (4, len(payload)))
    )
    count = (len(head) + len(items)) // 8
    return struct.pack("!BBBBHH", 0x53, 4, 3, 5, 0, count) + head + items + payload


def descriptor(cnt: int, name: str, description: str, *, numpy: str | None = None, code: bytes = b"u") -> bytes:
    """A heap with the descriptor of item 0x3300."""
    parts = [(0x10, name.encode()), (0x11, description.encode())]
    if numpy is None:
        parts += [(0x12, struct.pack("!BBI", 0, 0, 4)), (0x13, code + b"\0\0\x08")]
    else:
        parts += [(0x15, numpy.encode())]
    items, content = pointer(0x14, 0x3300, True), b""
    for id, part in parts:
        items += pointer(id, len(content), False)
        content += part
    return packet(cnt, pointer(5, 0, False), packet(1, items, content))


def header(descr: str, shape: str = "(4,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


FOREIGN = {
    "name and description": dict(name=TEXT, description=TEXT),
    "name of an item of no type": dict(name=TEXT, description=TEXT, code=b"q"),
    "dtype": dict(name="n", description="", numpy=header(f"'<{FIELD}'")),
    "fields": dict(name="n", description="", numpy=header(f"[('{FIELD}', '|u1')]")),
    "fields of too long an item": dict(name="n", description="", numpy=header(f"[('{FIELD}', '|u1')]", "(40,)")),
    "fields of too short an item": dict(name=TEXT, description="", numpy=header(f"[('{FIELD}', '|u1')]", "(2,)")),
    "no header": dict(name="n", description="", numpy=TEXT),
    "long name": dict(name="n" * 40_000, description="d" * 20_000),
    "long dtype": dict(name="n", description="", numpy=header(f"'<{'f' * 50_000}'")),
    "long shape": dict(name="n", description="", numpy=header("'|u1'", f"({'1, ' * 15_000})")),
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("json_too", [False, True])
def test_what_is_shown_is_printable(doorbell, tmp_path, foreign: dict, json_too: bool) -> None:
    heaps = [descriptor(1, **foreign), packet(2, pointer(0x3300, 0, False), b"abcd")]
    # Of another type, so that the first is named for what is no longer alike.
    heaps += [descriptor(3, "again", "", numpy=header("'<i2'", "(2,)")), packet(4, pointer(0x3300, 0, False), b"abcd")]
    out, errors = received(doorbell, tmp_path, heaps, *(["--json"] if json_too else []))
    for text in out, errors:
        for line in text.split("\n"):
            assert all(is_printable(character) for character in line), ascii(line)
        if not json_too:
            assert max(map(len, text.split("\n"))) < 700, "bounded"
    assert "again" in out


@pytest.mark.parametrize("text", [TEXT, "温度 ±1 µ"], ids=["hostile", "harmless"])
def test_json_has_it_as_it_was(doorbell, tmp_path, text: str) -> None:
    heaps = [descriptor(1, text, text[::-1]), packet(2, pointer(0x3300, 0, False), b"abcd")]
    out, _ = received(doorbell, tmp_path, heaps, "--json")
    item = json.loads(out.splitlines()[-1])["items"][0]
    assert (item["name"], item["description"]) == (text, text[::-1])


def received(doorbell, directory: Path, heaps: list[bytes], *flags: str) -> tuple[str, str]:
    """What `doorbell recv` says of heaps that it is to store, and of a stop heap."""
    free = bound_endpoint()
    port = free.port
    free.socket.close()
    flags = ("-vv", "--from", f"127.0.0.1:{port}", "--write", directory / "out.npy", *flags)
    process = subprocess.Popen(
        doorbell.command("recv", *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=plain_environment()
    )
    try:
        wait_until_bound(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", port))
            for heap in [*heaps, packet(9, pointer(6, 2, True), b"")]:
                sender.send(heap)
        out, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode in (0, 1), errors
    return out.decode(), errors.decode()


def is_printable(character: str) -> bool:
    """Neither control, format, surrogate, private nor unassigned; no separator but the space."""
    category = unicodedata.category(character)
    return character == " " or not (category.startswith("C") or category.startswith("Z"))


PATIENCE = 60
