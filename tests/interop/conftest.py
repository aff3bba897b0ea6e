"""Fixtures of the interop suite: the program under test, and receivers that nobody here wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from endpoint import Endpoint, bound_endpoint
from program import Doorbell
from receiver import Receiver


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


def pytest_terminal_summary(terminalreporter) -> None:
    """Names what was not tested in the form that ci.sh counts."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"skipped: {report.nodeid}: {reason.removeprefix('Skipped: ')}")


RELEASE = Path(__file__).resolve().parents[2] / "target" / "release" / "doorbell"
