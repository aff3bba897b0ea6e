"""What a user asks of UDP beside the stream itself: how far packets go, and what came back about them."""

from __future__ import annotations

import json
import re
import socket

import pytest

from endpoint import bound_endpoint
from namespace import FAR, NEAR, VETH, VETH_SETUP, in_new_network
from test_stream import assert_random_stream


@pytest.mark.parametrize("group", ["239.255.80.1", "ff15::80"])
@pytest.mark.parametrize("joined", [False, True], ids=["nobody joined", "joined here"])
def test_multicast_of_ttl_0_stays_on_this_host(doorbell, group: str, joined: bool) -> None:
    """A kernel sends it to others all the same where nobody on this host has joined; here, nothing may arrive."""
    is_ipv4 = ":" not in group
    to = f"{group}:7148" if is_ipv4 else f"[{group}]:7148"
    flags = ("--to", to, "--interface", VETH, "--heaps", 100, "--heap-size", 1000, "--gso", "off")
    veth = [*VETH_SETUP, f"addr add {NEAR.ipv4}/24 dev {VETH}"]

    def leave(ttl: int) -> int:
        before = frames_out(VETH)
        doorbell.send(*flags, "--ttl", ttl)
        return frames_out(VETH) - before

    def send_and_receive() -> None:
        assert leave(1) > 100, "with a TTL of 1 they do leave"
        if joined:
            with socket.socket(socket.AF_INET if is_ipv4 else socket.AF_INET6, socket.SOCK_DGRAM) as member:
                join(member, group, VETH)
                member.settimeout(10)
                # Reports of membership leave.
                assert leave(0) < 20
                assert len(member.recv(65536)) > 1000
        else:
            assert leave(0) < 20

    in_new_network(veth, send_and_receive)


def frames_out(interface: str) -> int:
    """What an interface of this thread's network has sent."""
    with open("/proc/thread-self/net/dev") as file:
        [row] = [line.split(":")[1].split() for line in file if line.strip().startswith(f"{interface}:")]
    return int(row[9])


def join(member: socket.socket, group: str, interface: str) -> None:
    index = socket.if_nametoindex(interface).to_bytes(4, "little")
    if ":" in group:
        member.bind(("::", 7148))
        member.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group) + index
        )
    else:
        member.bind(("", 7148))
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4) + index)


@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
@pytest.mark.parametrize("destinations", [1, 2])
@pytest.mark.parametrize("heaps", [2, 2000])
def test_that_nobody_listens_is_in_the_report(doorbell, kind: str, destinations: int, heaps: int) -> None:
    """Of the last packets, too, which no other follows that would be told."""
    closed = bound_endpoint(kind)
    to = ["--to", closed.destination]
    with bound_endpoint(kind).socket as listening:
        if destinations == 2:
            host = closed.destination.rpartition(":")[0]
            to += ["--to", f"{host}:{listening.getsockname()[1]}"]
        closed.socket.close()
        flags = (*to, "--heaps", heaps, "--source", "random:22")
        counted, done = doorbell.run("send", "--json", *flags), doorbell.run("send", *flags)
    assert counted.returncode == 0 and json.loads(counted.stdout)["icmp_errors"] > 0, counted.stderr
    assert re.search(r"^lost +[1-9][0-9,]* errors? came back by ICMP", done.stdout, re.MULTILINE), done.stdout
    assert done.stderr.count(f"nobody listens at {closed.destination}") == 1


def test_where_somebody_listens_nothing_came_back(doorbell, listen) -> None:
    receiver = listen()
    assert doorbell.send_to(receiver, "--source", "random:23", "--heaps", 20)["icmp_errors"] == 0
    assert_random_stream(receiver.data_heaps(), 23, 8192, 20)


@pytest.mark.parametrize("backend", ["auto", "udp", "tcp"])
@pytest.mark.parametrize("to", ["255.255.255.255", "127.255.255.255", NEAR.ipv4.rsplit(".", 1)[0] + ".255"])
def test_broadcast_is_refused_in_words(doorbell, backend: str, to: str) -> None:
    veth = [*VETH_SETUP, f"addr add {NEAR.ipv4}/24 dev {VETH}", f"route add default via {FAR.ipv4}"]

    def send() -> None:
        done = doorbell.run("send", "--to", f"{to}:7148", "--backend", backend)
        assert done.returncode == 3
        assert f"({to}:7148): it is a broadcast address" in done.stderr
        assert "multicast group, such as 239.1.0.0" in done.stderr

    in_new_network(veth, send)


def test_a_route_that_is_forbidden_is_not_broadcast(doorbell) -> None:
    """EACCES as well, of another cause."""

    def send() -> None:
        done = doorbell.run("send", "--to", "192.0.2.7:7148", "--backend", "udp")
        assert done.returncode == 3 and "Permission denied" in done.stderr and "broadcast" not in done.stderr

    in_new_network(["link set lo up", "route add prohibit 192.0.2.0/24"], send)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--to", "localhost:9"], ["set the time to live (0)", "no multicast group, and needs 1 or more"]),
        (["--to", "127.0.0.1:9"], ["stream.ttl (--ttl) = 0", "need 1 or more"]),
        (["--to", "239.1.0.0:9", "--backend", "verbs"], ["stream.ttl (--ttl)", "backend.kind", "stay on this host"]),
        (["--to", "239.1.0.0+30:9"], ["join the group", "net.ipv4.igmp_max_memberships"]),
    ],
)
def test_what_ttl_0_cannot_do(doorbell, flags: list[str], words: list[str]) -> None:
    done = doorbell.run("send", *flags, "--ttl", 0)
    assert done.returncode in (2, 3)
    assert all(word in done.stderr for word in words), done.stderr
