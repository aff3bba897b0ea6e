"""`doorbell send --backend verbs` on the software device, from one end of a wire to sockets at the other."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from endpoint import Endpoint, bind, endpoint, multicast6_endpoint, multicast_endpoint
from namespace import FAR, VETH, Wire
from packets import drain
from program import Doorbell
from receiver import Receiver


@dataclass(frozen=True)
class VerbsSender:
    """The program at the near end of a wire, with a software device on the interface there."""

    doorbell: Doorbell
    wire: Wire
    statistics: Path

    @classmethod
    def on(
        cls,
        wire: Wire,
        doorbell: Doorbell,
        library: Path,
        directory: Path,
        *,
        device: str = f"veth={VETH}",
        **settings: object,
    ) -> VerbsSender:
        """`library` is the device's directory; `device` and `settings` are ``VERBS_DEVICE`` and ``VERBS_DEVICE_...``."""
        statistics = directory / "statistics.jsonl"
        environment = {
            "LD_LIBRARY_PATH": str(library),
            "VERBS_DEVICE": device,
            "VERBS_DEVICE_STATS": str(statistics),
            **{f"VERBS_DEVICE_{name}": str(value) for name, value in settings.items()},
        }
        return cls(Doorbell(doorbell.path, doorbell.launcher, environment), wire, statistics)

    def run(self, *arguments: object) -> CompletedProcess[str]:
        """Runs ``doorbell ARGUMENTS`` to its end, after which the device must have everything back."""
        done = self.wire.near(partial(self.doorbell.run, *arguments))
        self.check_leaks()
        return done

    def send_to(self, receivers: Receiver | Sequence[Receiver], *arguments: object) -> dict[str, Any]:
        """As `Doorbell.send_to`, by verbs."""
        report = self.wire.near(partial(self.doorbell.send_to, receivers, "--backend", "verbs", *arguments))
        assert report["backend"] == "verbs"
        self.check_leaks()
        return report

    def send(self, *arguments: object) -> dict[str, Any]:
        """As `Doorbell.send`, by verbs."""
        report = self.wire.near(partial(self.doorbell.send, "--backend", "verbs", *arguments))
        assert report["backend"] == "verbs"
        self.check_leaks()
        return report

    def opened(self) -> list[dict[str, Any]]:
        """What the device says of each time that it was opened."""
        if not self.statistics.exists():
            return []
        return [json.loads(line) for line in self.statistics.read_text().splitlines()]

    def posts(self) -> dict[str, Any]:
        """What the device says of the one time that it was sent through."""
        (used,) = [line for line in self.opened() if line["posts"]]
        return used

    def check_leaks(self) -> None:
        for line in self.opened():
            left = {name: line[name] for name in LEFT_OVER if line[name]}
            assert line["closed"] and not left, f"not given back: {left or 'the device'}"


@dataclass(frozen=True)
class Attempt:
    """A send that need not succeed, and what arrived."""

    exit_code: int
    report: dict[str, Any]
    errors: str
    datagrams: list[bytes]

    @classmethod
    def to(cls, receiver: Endpoint, sender: VerbsSender, *arguments: object, backend: str = "verbs") -> Attempt:
        done = sender.run("send", "--json", "-q", "--backend", backend, *receiver.to, *arguments)
        assert done.stdout, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        return cls(done.returncode, report, done.stderr, drain(receiver.socket))


def far_endpoint(wire: Wire, kind: str) -> Endpoint:
    """A socket at the far end: `kind` is ``ipv4``, ``ipv6``, ``multicast4`` or ``multicast6``."""
    match kind:
        case "ipv4":
            return wire.far(lambda: endpoint(FAR.ipv4, bind(socket.AF_INET, (FAR.ipv4, 0))))
        case "ipv6":
            return wire.far(lambda: endpoint(f"[{FAR.ipv6}]", bind(socket.AF_INET6, (FAR.ipv6, 0))))
        case "multicast4":
            return wire.far(multicast_endpoint, "239.71.48.1", 0, VETH)
        case "multicast6":
            return wire.far(multicast6_endpoint, "ff15::7148", VETH)
    raise ValueError(f"no such kind of endpoint: {kind}")


# Of what the device counts, that which is 0 once all was given back.
LEFT_OVER = ("channels_alive", "pds_alive", "mrs_alive", "pinned_bytes", "cqs_alive", "qps_alive")
# What the kernel counts when it does not take a datagram that came.
REFUSALS = [
    *("IpInHdrErrors", "IpInAddrErrors", "IpInDiscards", "IpInUnknownProtos", "IpReasmReqds"),
    *("UdpInErrors", "UdpInCsumErrors", "UdpRcvbufErrors"),
    *("Ip6InHdrErrors", "Ip6InTruncatedPkts", "Ip6InDiscards", "Ip6ReasmReqds"),
    *("Udp6InErrors", "Udp6InCsumErrors", "Udp6RcvbufErrors"),
]
