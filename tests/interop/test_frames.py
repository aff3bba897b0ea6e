"""Packed frames, as spead2's receiver, which does not know this program, decodes them."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

from endpoint import bound_endpoint, wait_until_bound

WIDTHS = [8, 10, 12, 14, 16]


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["<u2", ">i4", "<f4", "<f8", ">f8"])
def test_every_integer_of_the_range_arrives(doorbell, listen, tmp_path, bits: int, dtype: str) -> None:
    """A ramp up and one down, so that each value stands at several places within its bytes."""
    ramp = np.arange(1 << bits)
    frame = np.stack([ramp, ramp[::-1]]).astype(dtype)
    heaps, report, group = packed(doorbell, listen, tmp_path, frame[np.newaxis], f"u{bits}", f"0..{(1 << bits) - 1}")
    np.testing.assert_array_equal(heaps[0], frame.astype("<i8"))
    assert (group["data"].format, group["data"].dtype) == ([("u", bits)], None)
    assert (group["scale"].value, group["offset"].value) == (1.0, 0.0)
    assert (report["clipped"], report["not_a_number"]) == (0, 0)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("packet_size", [96, 1472, "auto"])
def test_floats_come_back_within_half_a_step(doorbell, listen, tmp_path, bits, dtype, packet_size) -> None:
    frames = np.random.default_rng(bits).normal(size=(2, 37, 53)).astype(dtype)
    frames[1].clip(frames[0].min(), frames[0].max(), out=frames[1])
    heaps, report, group = packed(
        doorbell, listen, tmp_path, frames, f"u{bits}", "auto", "--packet-size", packet_size
    )
    scale, offset = group["scale"].value, group["offset"].value
    assert offset == frames[0].min()
    assert scale == pytest.approx((float(frames[0].max()) - offset) / ((1 << bits) - 1), rel=1e-15)
    for heap, frame in zip(heaps, frames, strict=True):
        assert np.abs(np.asarray(heap) * scale + offset - frame).max() <= scale / 2 * (1 + 1e-9)
    assert (np.min(heaps[0]), np.max(heaps[0])) == (0, (1 << bits) - 1)
    assert report["clipped"] == 0


@pytest.mark.parametrize("bits", [10, 16])
def test_rounding_is_numpy_s(doorbell, listen, tmp_path, bits: int) -> None:
    """numpy.rint rounds to nearest even, too; halves are exact here."""
    frame = np.arange(0, 1 << bits, 0.5)[:-1]
    heaps, _, _ = packed(doorbell, listen, tmp_path, frame[np.newaxis], f"u{bits}", f"0..{(1 << bits) - 1}")
    np.testing.assert_array_equal(heaps[0], np.rint(frame))


def test_what_is_out_of_range_is_clipped_and_counted(doorbell, listen, tmp_path) -> None:
    frame = np.array([[-1.0, 0.0, 0.5, 1.0, 1.5, np.inf, -np.inf, np.nan]])
    heaps, report, _ = packed(doorbell, listen, tmp_path, frame, "u8", "0..1")
    np.testing.assert_array_equal(heaps[0], [0, 0, 128, 255, 255, 255, 0, 0])
    assert (report["clipped"], report["not_a_number"]) == (4, 1)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i2"])
@pytest.mark.parametrize("pack", ["f16", "f32"])
def test_floats_are_numpy_s(doorbell, listen, tmp_path, dtype: str, pack: str) -> None:
    target = np.dtype(f">f{int(pack[1:]) // 8}")
    rng = np.random.default_rng(1)
    # Normal and subnormal numbers of the target, and what is too small for it.
    frame = (rng.normal(size=5000) * 10.0 ** rng.uniform(-9, 4, 5000)).astype(dtype).reshape(1, 50, 100)
    if dtype != "<i2":
        frame[0, 0, :3] = np.nan, np.inf, -np.inf
    heaps, report, group = packed(doorbell, listen, tmp_path, frame, pack)
    finite = np.clip(frame, -np.finfo(target).max, np.finfo(target).max)
    expected = np.where(np.isinf(frame), frame, finite).astype(target)[0]
    assert group["data"].dtype == target
    np.testing.assert_array_equal(heaps[0], expected)
    assert report["clipped"] == np.count_nonzero(np.isfinite(frame) & (np.abs(frame) > np.finfo(target).max))
    assert "scale" not in group


@pytest.mark.parametrize("kind", ["<f4", "f32", "u16"])
def test_raw_file(doorbell, listen, tmp_path, kind: str) -> None:
    dtype = {"f32": ">f4", "u16": ">u2"}.get(kind, kind)
    frames = np.arange(3 * 1000).reshape(3, 10, 100).astype(dtype)
    (tmp_path / "frames.raw").write_bytes(frames.tobytes())
    receiver = listen()
    report = doorbell.send_to(
        receiver, "--source", tmp_path / "frames.raw", "--items", f"0x3400=frame:{kind}[10x100]",
        "--pack", "u12", "--range", "0..4095",
    )  # fmt: skip
    heaps = [heap.values[0x3400] for heap in receiver.data_heaps()]
    np.testing.assert_array_equal(np.array(heaps), frames)
    assert (report["heaps"], report["payload_bytes"]) == (3, 3 * 1500)
    assert receiver.group["frame"].id == 0x3400


@pytest.mark.parametrize("way", ["fifo", "stdin"])
@pytest.mark.parametrize("named", ["items", "dtype"])
@pytest.mark.parametrize("pack", ["u10", "u12 of its range", "f16", "f32"])
def test_a_pipe_is_packed_as_a_file_is(doorbell, listen, tmp_path, way: str, named: str, pack: str) -> None:
    """It comes in pieces that end anywhere, and the last frame is not whole."""
    frames = np.random.default_rng(5).normal(size=(6, 30, 41)).astype("<f4")
    kind, *ranged = pack.split(" of its ")
    # Of the first frame, if none is given: later ones are clipped.
    values = ["--range", "-1.5..1.5"] if ranged else []
    expected, report, _ = packed(doorbell, listen, tmp_path, frames, kind, values[1] if values else "auto")
    what = ["--items", "data:<f4[30x41]"] if named == "items" else ["--dtype", "<f4", "--shape", "30x41"]
    content = frames.tobytes() + frames.tobytes()[:777]
    receiver = listen()
    source = "-"
    if way == "fifo":
        os.mkfifo(source := tmp_path / "pipe")
    process = doorbell.start(
        *("send", "-q", "--json", *receiver.to, "--source", source, *what, "--pack", kind, *values),
        stdin=None if way == "fifo" else b"",
    )
    with open(source, "wb") if way == "fifo" else process.stdin as pipe:
        for start in range(0, len(content), 3001):
            pipe.write(content[start : start + 3001])
            pipe.flush()
            time.sleep(0.002)
    process.stdin = None
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert b"its last 777 bytes, of 4920 that a heap has, were not sent" in err
    heaps = [heap.values[ITEM] for heap in receiver.data_heaps()]
    np.testing.assert_array_equal(np.array(heaps), np.array(expected))
    ours = json.loads(out)
    assert all(ours[name] == report[name] for name in ("heaps", "payload_bytes", "clipped", "not_a_number"))


@pytest.mark.parametrize("content", [b"", bytes(100)])
def test_a_pipe_without_a_frame_is_an_error(doorbell, listen, content: bytes) -> None:
    receiver = listen()
    flags = ("--source", "-", "--items", "data:<f4[30x41]", "--pack", "u10")
    done = doorbell.run("send", "-q", *receiver.to, *flags, stdin=content)
    assert done.returncode == 2
    assert f"the source ended after {len(content)} bytes, and a heap takes 4920" in done.stderr


def test_a_plan_reads_no_pipe(doorbell) -> None:
    process = doorbell.start("plan", "--json", "--source", "-", "--items", "data:<f4[30x41]", "--pack", "u10", stdin=b"")
    out, err = process.communicate(timeout=60) if process.wait(60) == 0 else (b"", b"")
    assert json.loads(out)["heap_bytes"] == (30 * 41 * 10 + 7) // 8, err


@pytest.mark.parametrize("flags", [("--descriptors", "own"), ("--layout", "split"), ("--flavour", "64-48")], ids=str)
def test_every_heap_has_scale_and_offset(doorbell, listen, tmp_path, flags: tuple[str, str]) -> None:
    frames = np.linspace(-3, 5, 2 * 999).reshape(2, 999)
    np.save(tmp_path / "frames.npy", frames)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "frames.npy", "--pack", "u14", "--range", "-3..5", *flags)
    heaps = receiver.data_heaps()
    assert len(heaps) == 2
    for heap, frame in zip(heaps, frames, strict=True):
        assert heap.values[SCALE] == pytest.approx(8 / 16383, rel=1e-15)
        assert heap.values[OFFSET] == -3
        # An odd number of samples: the last byte is filled up.
        decoded = np.asarray(heap.values[ITEM]) * heap.values[SCALE] - 3
        assert np.abs(decoded - frame).max() <= 4 / 16383 * (1 + 1e-9)


def test_doorbell_itself_decodes_and_scales(doorbell, tmp_path) -> None:
    frames = np.random.default_rng(3).uniform(-5, 5, size=(3, 40, 51))
    np.save(tmp_path / "frames.npy", frames)
    for placement in "first", "own":
        free = bound_endpoint("ipv4")
        port = free.port
        free.socket.close()
        out = tmp_path / f"{placement}.npy"
        receiver = doorbell.start("recv", "--from", free.destination, "--write", out, "--scale")
        wait_until_bound(port)
        doorbell.send("--source", tmp_path / "frames.npy", "--pack", "u12", "--range", "-5..5", "--to",
                      free.destination, "--descriptors", placement)  # fmt: skip
        _, errors = receiver.communicate(timeout=30)
        assert receiver.returncode == 0, errors
        received = np.load(out)
        assert received.shape == frames.shape
        assert np.abs(received - frames).max() <= 5 / 4095 * (1 + 1e-3)  # Stored as 32-bit floats.


def test_the_embedded_receiver_knows_packed_frames(doorbell, tmp_path) -> None:
    np.save(tmp_path / "frames.npy", np.random.default_rng(2).normal(size=(20, 100, 101)))
    report = doorbell.send("--source", tmp_path / "frames.npy", "--pack", "u10", "--range", "-4..4")
    assert report["received"] == {"heaps": 20, "incomplete": 0, "mismatched": 0} | report["received"]
    assert report["payload_bytes"] == 20 * -(-100 * 101 * 10 // 8)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--pack", "u9"], ["--pack", "`u9`", "u8, u10, u12, u14, u16, f16 or f32"]),
        (["--pack", "u10", "--range", "1..0"], ["--range", "`1..0`", "LOW..HIGH"]),
        (["--pack", "u10", "--range", "0..nan"], ["--range", "`0..nan`", "LOW..HIGH"]),
        (["--pack", "f16", "--range", "0..1"], ["--range", "--pack", "drop the range"]),
        (["--range", "0..1"], ["source.pack (--pack) is missing"]),
        (["--pack", "u10", "--source", "pattern"], ["--pack", "--source", ".npy"]),
        (["--pack", "u10", "--source", "-"], ["heap.items (--items) is missing", "frame:<f4"]),
        (["--pack", "u10", "--source", "-", "--items", "a:<f4[2],b:u8[1]"], ["--pack", "--items", "one item"]),
        (["--pack", "u10", "--source", "RAW"], ["heap.items (--items) is missing", "frame:<f4"]),
        (["--pack", "u10", "--source", "RAW", "--items", "a:|S4[2]"], ["--pack", "'|S4'", "floats of 16 to 64"]),
        (["--pack", "u10", "--source", "RAW", "--items", "a:u12[2]"], ["--pack", "SPEAD's own"]),
        (["--pack", "u10", "--source", "RECORDS"], ["--pack", "[('power', '<f4')", "integers of 8 to 64"]),
        (["--pack", "u10", "--source", "COMPLEX"], ["--pack", "'<c8'"]),
        (["--pack", "u10", "--source", "ZEROS"], ["--range", "are 0", "LOW..HIGH"]),
        (["--pack", "u10", "--source", "NANS"], ["--range", "no finite sample", "LOW..HIGH"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input(doorbell, tmp_path, flags: list[str], words: list[str]) -> None:
    arrays = {
        "FLOATS": np.arange(12.0).reshape(3, 4),
        "RECORDS": np.zeros((3, 4), [("power", "<f4"), ("flag", "|u1")]),
        "COMPLEX": np.zeros((3, 4), "<c8"),
        "ZEROS": np.zeros((3, 4)),
        "NANS": np.full((3, 4), np.nan),
    }
    paths = {name: tmp_path / f"{name}.npy" for name in arrays}
    for name, array in arrays.items():
        np.save(paths[name], array)
    paths["RAW"] = tmp_path / "frames.raw"
    paths["RAW"].write_bytes(bytes(range(240)))
    arguments = ["--source", "FLOATS"] if "--source" not in flags else []
    arguments = [str(paths.get(argument, argument)) for argument in [*arguments, *flags]]
    done = doorbell.run("send", "-q", "--to", "127.0.0.1:9", *arguments)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert len(done.stderr.splitlines()) <= 5


def packed(doorbell, listen, tmp_path, frames: np.ndarray, pack: str, range: str = "auto", *flags):
    """Sends the frames packed: the received values heap by heap, the report, and the item group."""
    np.save(tmp_path / "frames.npy", frames)
    receiver = listen()
    report = doorbell.send_to(
        receiver, "--source", tmp_path / "frames.npy", "--pack", pack, "--range", range, *flags
    )  # fmt: skip
    heaps = receiver.data_heaps()
    assert len(heaps) == len(frames)
    return [heap.values[ITEM] for heap in heaps], report, receiver.group


ITEM = 0x3300
SCALE = 0x3310
OFFSET = 0x3311
