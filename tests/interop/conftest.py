"""Fixtures of the interop suite: the program under test, and receivers that nobody here wrote."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from endpoint import Endpoint, bound_endpoint
from namespace import Wire, joined_networks
from program import Doorbell
from receiver import Receiver
from verbs import REFUSALS, VerbsSender, far_endpoint


@pytest.fixture(scope="session")
def doorbell() -> Doorbell:
    """The release binary, or the one that the environment variable DOORBELL names."""
    path = Path(os.environ.get("DOORBELL", RELEASE)).resolve()
    if not path.is_file():
        pytest.fail(f"{path} does not exist: run `cargo build --release` first, or set DOORBELL")
    return Doorbell(path)


@pytest.fixture(scope="session")
def verbs_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for LD_LIBRARY_PATH with the software device, or what VERBS_DEVICE_LIBRARY names, in it."""
    library = Path(os.environ.get("VERBS_DEVICE_LIBRARY", RELEASE.parent / "libverbs_device.so")).resolve()
    if not library.is_file():
        pytest.fail(f"{library} does not exist: run `cargo build --release -p verbs-device` first")
    directory = tmp_path_factory.mktemp("verbs-device")
    (directory / "libibverbs.so.1").symlink_to(library)
    return directory


@pytest.fixture
def listen() -> Iterator[Callable[..., Receiver]]:
    """Opens receivers that close with the test: ``listen()``, ``listen("ipv6")``, ``listen(endpoint)``."""
    with ExitStack() as stack:

        def open_receiver(where: str | Endpoint = "ipv4") -> Receiver:
            endpoint = bound_endpoint(where) if isinstance(where, str) else where
            return stack.enter_context(Receiver(endpoint))

        yield open_receiver


@pytest.fixture(scope="session")
def joined() -> Iterator[Wire]:
    with joined_networks() as wire:
        yield wire


@pytest.fixture
def wire(joined: Wire) -> Iterator[Wire]:
    """The wire; the kernel at its far end must take every datagram that comes while the test runs."""
    before = joined.far.counters()
    yield joined
    after = joined.far.counters()
    refused = {name: after[name] - before[name] for name in REFUSALS if after[name] != before[name]}
    assert not refused, f"the far end's kernel refused datagrams: {refused}"


@pytest.fixture
def sender(wire: Wire, doorbell: Doorbell, verbs_device: Path, tmp_path: Path) -> Callable[..., VerbsSender]:
    """The program on a software device that is set up so: ``sender(MAX_QP_WR=16)``."""
    return partial(VerbsSender.on, wire, doorbell, verbs_device, tmp_path)


@pytest.fixture
def listen_far(wire: Wire, listen: Callable[..., Receiver]) -> Callable[[str], Receiver]:
    """Opens spead2's receivers at the far end."""
    return lambda kind="ipv4": listen(far_endpoint(wire, kind))


@pytest.fixture
def bind_far(wire: Wire) -> Iterator[Callable[[str], Endpoint]]:
    """Opens plain sockets at the far end."""
    with ExitStack() as stack:

        def open_endpoint(kind: str = "ipv4") -> Endpoint:
            endpoint = far_endpoint(wire, kind)
            stack.enter_context(endpoint.socket)
            return endpoint

        yield open_endpoint


def pytest_terminal_summary(terminalreporter) -> None:
    """Names what was not tested in the form that ci.sh counts, once for each file and reason."""
    skipped: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped[report.nodeid.partition("::")[0], reason.removeprefix("Skipped: ")] += 1
    for (file, reason), tests in skipped.items():
        terminalreporter.write_line(f"skipped: {file}, {tests} test(s): {reason}")


RELEASE = Path(__file__).resolve().parents[2] / "target" / "release" / "doorbell"
