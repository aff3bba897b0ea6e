"""Every source of payload, as spead2's receiver and numpy see it."""

from __future__ import annotations

import numpy as np
import pytest

from splitmix import heap_payload, splitmix_bytes

DTYPES = ["|i1", "|u1", "|b1", "<i2", ">i2", "<u4", ">u4", "<i8", ">u8", "<f2", ">f4", "<f8", "<c8", ">c16"]


def random_array(dtype: str, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """Random bits as `dtype`: NaNs, denormals and all (but only 0 and 1 where it is bool)."""
    kind = np.dtype(dtype)
    data = splitmix_bytes(seed, kind.itemsize * int(np.prod(shape)))
    if kind.kind == "b":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, kind).reshape(shape)


def received_array(heaps, dtype: np.dtype) -> np.ndarray:
    """The values of item 0x3300, stacked; each must have come as `dtype`, byte order included."""
    values = [heap.values[ITEM] for heap in heaps]
    for value in values:
        # A scalar has no byte order in numpy, so only arrays can be held to it.
        assert value.dtype == (dtype if isinstance(value, np.ndarray) else dtype.newbyteorder("="))
    return np.stack(values).astype(dtype)  # np.stack falls back to the machine's byte order.


def assert_same(sent: np.ndarray, received: np.ndarray) -> None:
    assert received.shape == sent.shape
    assert received.tobytes() == sent.tobytes()  # NaN != NaN, so compare bits.


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_arrives_equal(doorbell, listen, tmp_path, dtype: str) -> None:
    array = random_array(dtype, (7, 30, 50))
    np.save(tmp_path / "array.npy", array)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "array.npy")
    assert_same(array, received_array(receiver.data_heaps(), array.dtype))
    assert receiver.group[ITEM].shape == (30, 50)


@pytest.mark.parametrize("shape", [(9,), (1, 1), (5, 3), (3, 2, 2, 2), (2, 1 << 20)], ids=str)
@pytest.mark.parametrize("dtype", ["|u1", "<f4", "<f8"])
def test_npy_of_any_shape(doorbell, listen, tmp_path, dtype: str, shape: tuple[int, ...]) -> None:
    """Rows from one byte (which may travel as an immediate) to 8 MiB."""
    array = random_array(dtype, shape)
    np.save(tmp_path / "array.npy", array)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "array.npy")
    assert_same(array, received_array(receiver.data_heaps(), array.dtype))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_npy_format_versions(doorbell, listen, tmp_path, version: tuple[int, int]) -> None:
    array = random_array("<i4", (6, 100))
    with (tmp_path / "array.npy").open("wb") as out:
        np.lib.format.write_array(out, array, version=version)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "array.npy")
    assert_same(array, received_array(receiver.data_heaps(), array.dtype))


def test_npy_in_fortran_order_arrives_equal_or_is_refused(doorbell, listen, tmp_path) -> None:
    array = np.asfortranarray(random_array("<f4", (6, 10, 20)))
    np.save(tmp_path / "array.npy", array)
    receiver = listen()
    done = doorbell.run("send", "-q", *receiver.to, "--source", tmp_path / "array.npy")
    if done.returncode == 0:
        assert_same(array, received_array(receiver.data_heaps(), array.dtype))
    else:
        assert done.returncode == 2
        assert "fortran" in done.stderr.lower()


def test_npy_of_records_arrives_equal_or_is_refused(doorbell, listen, tmp_path) -> None:
    array = np.zeros((4, 10), dtype=[("power", "<f4"), ("flag", "|u1")])
    array["power"] = np.arange(40).reshape(4, 10)
    np.save(tmp_path / "array.npy", array)
    receiver = listen()
    done = doorbell.run("send", "-q", *receiver.to, "--source", tmp_path / "array.npy")
    if done.returncode == 0:
        assert_same(array, received_array(receiver.data_heaps(), array.dtype))
    else:
        assert done.returncode == 2
        assert "array.npy" in done.stderr


@pytest.mark.parametrize("heap_size", [1, 7, 1000, 8192, 1 << 20])
def test_raw_file(doorbell, listen, tmp_path, heap_size: int) -> None:
    content = splitmix_bytes(3, heap_size * 11)
    (tmp_path / "samples.bin").write_bytes(content)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "samples.bin", "--heap-size", heap_size)
    heaps = receiver.data_heaps()
    assert b"".join(heap.content(ITEM, heap_size) for heap in heaps) == content
    assert receiver.group[ITEM].dtype == np.uint8
    assert receiver.group[ITEM].name == "data"


def test_raw_file_up_to_a_number_of_heaps(doorbell, listen, tmp_path) -> None:
    content = splitmix_bytes(4, 100 * 512)
    (tmp_path / "samples.bin").write_bytes(content)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "samples.bin", "--heap-size", 512, "--heaps", 23)
    heaps = receiver.data_heaps()
    assert b"".join(heap.content(ITEM, 512) for heap in heaps) == content[: 23 * 512]


@pytest.mark.parametrize("heap_size", [1, 1000, 65536])
def test_standard_input(doorbell, listen, heap_size: int) -> None:
    content = splitmix_bytes(5, heap_size * 13)
    receiver = listen()
    doorbell.send_to(receiver, "--source", "-", "--heap-size", heap_size, stdin=content)
    heaps = receiver.data_heaps()
    assert b"".join(heap.content(ITEM, heap_size) for heap in heaps) == content


@pytest.mark.parametrize("flavour", [40, 48])
def test_pattern_is_the_tutorial_s_stream(doorbell, listen, flavour: int) -> None:
    receiver = listen()
    doorbell.send_to(receiver, "--heap-size", 2000, "--heaps", 300, "--flavour", f"64-{flavour}")
    heaps = receiver.whole_stream()
    assert len(heaps) == 300
    assert heaps[0].descriptors == (0x1600, ITEM)
    assert not any(heap.descriptors for heap in heaps[1:])
    for index, heap in enumerate(heaps):
        assert heap.values[0x1600] == index * 2000
        assert heap.content(ITEM, 2000) == bytes([index % 256]) * 2000
    timestamp, samples = receiver.group["timestamp"], receiver.group["adc_samples"]
    assert (timestamp.id, timestamp.shape, timestamp.format) == (0x1600, (), [("u", flavour)])
    assert timestamp.description == "Index of the first sample"
    assert (samples.id, samples.shape, samples.dtype) == (ITEM, (2000,), np.int8)
    assert samples.description == "ADC converter output"


@pytest.mark.parametrize("seed", [0, 42, (1 << 64) - 1])
def test_random_is_splitmix64(doorbell, listen, seed: int) -> None:
    receiver = listen()
    doorbell.send_to(receiver, "--source", f"random:{seed}", "--heap-size", 3001, "--heaps", 9)
    for index, heap in enumerate(receiver.data_heaps()):
        assert heap.content(ITEM, 3001) == heap_payload(seed, index, 3001)


def test_several_items(doorbell, listen) -> None:
    """Each item is its stretch of the heap's bytes, and its descriptor says how to read it."""
    layout = {
        "adc_x": ("i8[4096]", 0x3300, ">i1", (4096,)),
        "adc_y": ("u16[64x32]", 0x3301, ">u2", (64, 32)),
        "packed": ("u10[32]", 0x3302, None, (32,)),
        "gain": ("f64[3]", 0x3303, ">f8", (3,)),
        "w": ("<f4[16]", 0x3400, "<f4", (16,)),
        "mask": ("|u1[10]", 0x3304, "|u1", (10,)),
        "tick": (">i8[]", 0x3305, ">i8", ()),
    }
    items = ",".join(
        f"{'0x3400=' if id == 0x3400 else ''}{name}:{kind}" for name, (kind, id, _, _) in layout.items()
    )
    sizes = {id: item_bytes(dtype, shape) for _, id, dtype, shape in layout.values()}
    total = sum(sizes.values())
    receiver = listen()
    doorbell.send_to(receiver, "--source", "random:7", "--items", items, "--heaps", 21, "--batch-heaps", 8)
    heaps = receiver.data_heaps()
    assert len(heaps) == 21
    for index, heap in enumerate(heaps):
        content = heap_payload(7, index, total)
        for id, size in sizes.items():
            assert heap.content(id, size) == content[:size], f"heap {index}, item {id:#x}"
            content = content[size:]
    for name, (kind, id, dtype, shape) in layout.items():
        item = receiver.group[name]
        assert (item.id, tuple(item.shape)) == (id, shape)
        if kind[0] in "<>|":
            assert item.dtype == np.dtype(dtype)
        else:
            code, bits = kind[0], int(kind[1 : kind.index("[")])
            assert (item.dtype, item.format) == (None, [(code, bits)])


def item_bytes(dtype: str | None, shape: tuple[int, ...]) -> int:
    if dtype is None:  # 32 values of 10 bits.
        return 40
    return np.dtype(dtype).itemsize * int(np.prod(shape))


ITEM = 0x3300
