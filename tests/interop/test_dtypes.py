"""Types and headers of arrays: what numpy reads, `doorbell` sends as numpy writes it; what numpy refuses, it refuses."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

USAGE = 2
TO = ("--to", "127.0.0.1:9", "--backend", "udp")

ORDERS = ["", "<", ">", "|", "="]
LETTERS = "?bBhHiIlLqQpPnNefdgFDGSaUVOmMc"
SIZES = [0, 1, 2, 3, 4, 8, 12, 16, 32, 64]
NAMES = """
    bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 float128 complex64 complex128
    complex256 half single double longdouble csingle cdouble clongdouble byte ubyte short ushort intc uintc long ulong
    longlong ulonglong int int_ uint intp uintp float complex str bytes object void datetime64 timedelta64
    datetime64[ns] timedelta64[25us] Float32 float_ string int4 float24 bool8 <float32 =int8
""".split()
TIMES = """
    M8[ns] <M8[25us] >m8[D] |M8[s] M8[generic] M8[] M8[foo] M8[10] M4[ns] M8[ns]x M[ns] M8[Y] M8[M] M8[W] M8[h] M8[m]
    M8[ms] M8[ps] M8[fs] M8[as] M8[-1s]
""".split()
STRINGS = ["<f04", "S03", "S-1", "f4 ", " f4", "<", "", "i4x", "V8192", "U300", "S2147483648", "U536870912", "é"]
PLAIN = [
    *(order + letter for order in ORDERS for letter in LETTERS),
    *(order + kind + str(size) for order in ORDERS for kind in "bBiufcSUVaMmO" for size in SIZES),
    *NAMES, *TIMES, *STRINGS,
]  # fmt: skip
STRUCTURES = [
    [("a", "<f4"), ("b", "|u1")],
    [("a", "float32"), ("b", "f")],
    [("a", "<i2", (2, 3)), ("", "|V3"), ("c", "<c8")],
    [("a", "<i2", 3)],
    [(("a title", "a"), ">f8"), ("nested", [("i", "<i2"), ("q", "<i2", (2,))])],
    [("it's", "|u1"), ('"', "|u1"), ("\\", "|u1")],
    [("a", "<f4"), ("a", "<f4")],
    [("a", "<f3")],
    [("a", "|O")],
    [("a",)],
    ["a"],
    [],
]


def numpys(descr: object) -> np.dtype | None:
    """What numpy makes of the `descr` of a header, if it is anything that can be sent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dtype = np.lib.format.descr_to_dtype(descr)
    except (TypeError, ValueError, IndexError):
        return None
    return None if dtype.hasobject or dtype.itemsize == 0 else dtype


def npy(header: str, content: bytes, version: int = 1) -> bytes:
    text = header.encode("latin1" if version < 3 else "utf8") + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def header(descr: str, shape: str = "(2, 3)", order: bool = False) -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def sent(doorbell, directory: Path, content: bytes, *flags: object) -> tuple[dict | None, bytes]:
    """The report of a file that is sent, `None` if it is refused, and the bytes that went out."""
    source, capture = directory / "a.npy", directory / "a.pcap"
    source.write_bytes(content)
    flags = ("--backend", "pcap", "--pcap", capture, "--force", "--to", "127.0.0.1:9", *flags)
    done = doorbell.run("send", "-q", "--json", "--source", source, *flags)
    if done.returncode == USAGE:
        assert "a.npy" in done.stderr, done.stderr
        return None, b""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), capture.read_bytes()


def assert_as_numpy(doorbell, directory: Path, descr: object, written: str, shape: tuple[int, ...] = (2, 3)) -> bool:
    dtype = numpys(descr)
    content = bytes(range(48)) * (0 if dtype is None else dtype.itemsize)
    report, packets = sent(doorbell, directory, npy(header(written, str(shape)), content or bytes(1000)), "--heaps", 2)
    assert (report is None) == (dtype is None), f"{written}: numpy makes {dtype} of it"
    if dtype is not None:
        assert report["payload_bytes"] == 6 * dtype.itemsize, written
        told = np.lib.format.dtype_to_descr(dtype)
        assert f"'descr': {told!r}, ".encode() in packets, f"{written}: receivers are not told {told!r}"
    return dtype is not None


def test_type_strings(doorbell, tmp_path) -> None:
    read = [assert_as_numpy(doorbell, tmp_path, text, repr(text)) for text in PLAIN]
    assert 200 < sum(read) < len(read) - 200, "both kinds are tried"


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_structures(doorbell, tmp_path, structure: list) -> None:
    assert_as_numpy(doorbell, tmp_path, structure, repr(structure))


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("text", ["u'<f4'", '"<f4"', "'float32'", "'f'"])
def test_headers_of_each_version(doorbell, tmp_path, version: int, text: str) -> None:
    """As Python 2 wrote them, too, with `L` after numbers."""
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    shape = "(2L, 3L)" if version < 3 else "(2, 3)"
    content = npy(header(text, shape), array.tobytes(), version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(np.load(io.BytesIO(content)), array)
    report, packets = sent(doorbell, tmp_path, content)
    assert report["payload_bytes"] == array.nbytes
    assert b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}" in packets


@pytest.mark.parametrize("shape", [(6,), (1, 6), (6, 1), (1, 6, 1), (2, 3), (3, 1, 2)], ids=str)
def test_fortran_order(doorbell, tmp_path, shape: tuple[int, ...]) -> None:
    """Where its bytes are those of C order, it is sent."""
    array = np.arange(6, dtype="<i8").reshape(shape, order="F")
    content = npy(header("'<i8'", str(shape), True), array.tobytes("F"))
    assert np.array_equal(np.load(io.BytesIO(content)), array)
    report, packets = sent(doorbell, tmp_path, content)
    assert (report is not None) == (array.tobytes() == array.tobytes("F"))
    assert report is None or b"'fortran_order': False" in packets


def saved(directory: Path, array: np.ndarray) -> Path:
    np.save(directory / "array.npy", array)
    return directory / "array.npy"


@pytest.mark.parametrize(
    "flags, shape, warned",
    [
        ((), (9, 1), "each element is sent as a heap of 2 bytes, 9 heaps in all"),
        (("--shape", "1"), (9, 1), None),
        (("--shape", "9"), (1, 9), None),
        (("--shape", "3"), (3, 3), None),
        (("--heap-size", "6"), (3, 3), None),
        (("--shape", "2x2"), (2, 2, 2), "the last 1 elements fill no heap of 8 bytes"),
        (("--heap-size", "8"), (2, 4), "the last 1 elements fill no heap of 8 bytes"),
    ],
    ids=str,
)
def test_one_axis(doorbell, listen, tmp_path, flags: tuple[str, ...], shape: tuple[int, ...], warned: str | None) -> None:
    array = np.arange(9, dtype=">i2")
    receiver = listen()
    command = ("send", "-q", *receiver.endpoint.to, "--source", saved(tmp_path, array), *flags)
    done = doorbell.run(*command)
    assert done.returncode == 0
    assert warned in done.stderr if warned else done.stderr == "", done.stderr
    heaps = np.array([heap.values[0x3300] for heap in receiver.data_heaps()])
    assert np.array_equal(heaps.reshape(shape), array[: np.prod(shape)].reshape(shape))


def test_records_of_one_axis_are_heaps(doorbell, tmp_path) -> None:
    records = np.zeros(5, [("samples", "<f4", (1000,)), ("time", "<f8")])
    flags = ("--backend", "pcap", "--pcap", tmp_path / "a.pcap", "--to", "127.0.0.1:9")
    done = doorbell.run("send", "-q", "--json", *flags, "--source", saved(tmp_path, records))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["heaps"] == 5


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--shape", "10"), ["18 bytes", "20"]),
        (("--heap-size", "20"), ["18 bytes", "20"]),
        (("--heap-size", "5"), ["no multiple of 2"]),
        (("--heap-size", "2", "--shape", "1"), ["--shape", "--heap-size"]),
    ],
    ids=str,
)
def test_one_axis_that_cannot_be_cut(doorbell, tmp_path, flags: tuple[str, ...], words: list[str]) -> None:
    done = doorbell.run("send", *TO, "--source", saved(tmp_path, np.arange(9, dtype=">i2")), *flags)
    assert done.returncode == USAGE
    assert all(word in done.stderr for word in words), done.stderr


def test_capital_letters(doorbell, listen, tmp_path) -> None:
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    os.rename(saved(tmp_path, array), tmp_path / "A.NPY")
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "A.NPY")
    assert np.array_equal([heap.values[0x3300] for heap in receiver.data_heaps()], array)


@pytest.mark.parametrize("name", ["a.raw", "a", "a.npz", "a.NPZ"])
def test_what_numpy_saved_is_not_sent_raw(doorbell, tmp_path, name: str) -> None:
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    with (tmp_path / name).open("wb") as file:
        (np.savez if name.lower().endswith("z") else np.save)(file, array)
    for flags in ((), ("--dtype", "<f4", "--shape", "4")):
        done = doorbell.run("send", *TO, "--source", tmp_path / name, *flags, "--heap-size=8" if not flags else "-q")
        assert done.returncode == USAGE
        assert name in done.stderr and ".npy" in done.stderr, done.stderr


@pytest.mark.parametrize("flags", [("--heap-size", 4), ("--dtype", "<f4", "--shape", "4")], ids=str)
def test_an_array_through_a_pipe_is_not_sent_raw(doorbell, tmp_path, flags: tuple) -> None:
    content = saved(tmp_path, np.arange(1200, dtype="<f4")).read_bytes()
    done = doorbell.run("send", *TO, "--source", "-", *flags, stdin=content)
    assert done.returncode == USAGE
    assert "header of a numpy array" in done.stderr and ".npy" in done.stderr, done.stderr
    start = len(content) - 4800
    assert doorbell.run("send", "-q", *TO, "--source", "-", *flags, stdin=content[start:]).returncode in (0, 1)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "b1"])
def test_numpy_means_something_else(doorbell, tmp_path, dtype: str) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(800))
    done = doorbell.run("plan", *TO, "--source", tmp_path / "a.raw", "--dtype", dtype, "--shape", "100x8")
    assert done.returncode == 0
    kind = np.dtype(dtype)
    bits = f"{dtype[1]} bit"
    assert all(word in done.stderr for word in (dtype, bits, f"{kind.itemsize} byte", kind.str)), done.stderr
    done = doorbell.run("plan", *TO, "--source", tmp_path / "a.raw", "--dtype", kind.str, "--shape", "100")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["float32", "uint8", "int16", "complex64", "double", "half"])
def test_numpys_names_get_a_hint(doorbell, tmp_path, name: str) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(800))
    done = doorbell.run("plan", *TO, "--source", tmp_path / "a.raw", "--dtype", name, "--shape", "10")
    assert done.returncode == USAGE
    assert name in done.stderr and f"is written {np.dtype(name).str}" in done.stderr, done.stderr


@pytest.mark.parametrize("dtype", ["<f3", "<c4", "<i16", "<u3", "|S0", "<M8"])
def test_types_that_do_not_exist(doorbell, tmp_path, dtype: str) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(800))
    for flags in (("--dtype", dtype, "--shape", "10"), ("--items", f"a:{dtype}[10]")):
        done = doorbell.run("send", *TO, "--source", tmp_path / "a.raw", *flags)
        assert done.returncode == USAGE and dtype in done.stderr, done.stderr
