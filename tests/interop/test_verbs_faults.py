"""`--backend verbs` on a software device that goes wrong: what is reported lost is lost, all else arrives."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from endpoint import Endpoint
from namespace import FAR, VETH
from packets import parse_packet, whole_heaps
from splitmix import heap_payload
from verbs import Attempt, VerbsSender

# 4 packets a heap; with descriptors and stop heap 60 + 2 heaps in 10 batches.
STREAM = ("--source", "random:71", "--descriptors", "own", "--packet-size", 1400)
STREAM += ("--heap-size", 5000, "--heaps", 60, "--batch-heaps", 8)
FIRST_DATA_CNT = 2

Send = Callable[..., Attempt]


@pytest.fixture
def attempt(sender: Callable[..., VerbsSender], bind_far: Callable[[], Endpoint]) -> Send:
    """Sends `STREAM` through a device that is set up so."""
    return lambda *arguments, **settings: Attempt.to(bind_far(), sender(**settings), *STREAM, *arguments)


@pytest.fixture
def order(attempt: Send) -> list[int]:
    """The heap cnt of each packet, in the order in which they are posted."""
    clean = attempt()
    assert (clean.exit_code, clean.report["heaps_failed"]) == (0, 0)
    return [parse_packet(datagram).cnt for datagram in clean.datagrams]


def lost_heaps(attempt: Attempt) -> list[int]:
    """The cnts of data heaps that did not arrive whole; all others are as they were sent."""
    heaps = whole_heaps(map(parse_packet, attempt.datagrams))
    cnts = range(FIRST_DATA_CNT, FIRST_DATA_CNT + 60)
    for cnt in set(cnts) & heaps.keys():
        assert heaps[cnt] == heap_payload(71, cnt - FIRST_DATA_CNT, 5000), f"heap {cnt} is corrupt"
    return [cnt for cnt in cnts if cnt not in heaps]


def first_failures(attempt: Attempt) -> list[int]:
    """For each batch that did not go out whole, the first heap that the program names."""
    return [int(cnt) for cnt in re.findall(r"the first with cnt (\d+)", attempt.errors)]


# The descriptors, the first, a middle and the last (signalled) packet of a batch, a partial batch.
@pytest.mark.parametrize("number", [1, 2, 50, 129, 233, 241])
@pytest.mark.parametrize("state", ["err", "sqe"])
@pytest.mark.parametrize("completion", ["poll", "event"])
def test_a_packet_that_fails(attempt, order, number: int, state: str, completion: str) -> None:
    """What was queued behind it comes back, and is sent after all."""
    failing = attempt("--completion", completion, FAULT=f"wc@{number}=general", ERROR_STATE=state)
    victim = order[number - 1]
    assert first_failures(failing) == [victim]
    data = [victim] if victim >= FIRST_DATA_CNT else []
    assert lost_heaps(failing) == data
    assert failing.report["heaps_failed"] == len(data)
    assert failing.report["heaps"] == 60
    assert failing.exit_code == 1
    assert parse_packet(failing.datagrams[-1]).is_stop


@pytest.mark.parametrize("status", ["loc_len", "loc_qp_op", "loc_prot", "loc_access", "retry_exc", "fatal", "general", 99])
def test_every_status_is_an_error_with_a_name(attempt, order, status: str | int) -> None:
    failing = attempt(FAULT=f"wc@100={status}")
    assert lost_heaps(failing) == first_failures(failing) == [order[99]]
    assert failing.exit_code == 1
    assert "did not go out" in failing.errors


@pytest.mark.parametrize("layout", ["packed", "split"])
def test_packets_that_fail_all_over_the_stream(attempt, layout: str) -> None:
    faults = ",".join(f"wc@{number}=general" for number in range(20, 300, 31))
    failing = attempt("--layout", layout, FAULT=faults)
    lost = lost_heaps(failing)
    # Not one for each fault: those meant for requests that are flushed have no effect.
    assert len(lost) == failing.report["heaps_failed"] > 1
    assert failing.report["heaps"] == 60
    assert set(first_failures(failing)) <= set(lost)
    assert failing.exit_code == 1


def test_a_device_that_fails_for_good(attempt) -> None:
    """The program ends; what it reports as submitted is a prefix of the stream."""
    broken = attempt(FAULT=",".join(f"wc@{number}=general" for number in range(100, 2000)))
    lost = lost_heaps(broken)
    submitted = range(FIRST_DATA_CNT, FIRST_DATA_CNT + broken.report["heaps"])
    assert [cnt for cnt in lost if cnt in submitted] == lost[: broken.report["heaps_failed"]]
    assert broken.exit_code == 1
    assert "the backend has failed" in broken.errors


@pytest.mark.parametrize("depth", [4, 16])
def test_a_packet_that_fails_in_a_short_queue(attempt, order, depth: int) -> None:
    failing = attempt(FAULT="wc@77=general", MAX_QP_WR=depth)
    assert lost_heaps(failing) == first_failures(failing) == [order[76]]
    assert failing.exit_code == 1


def test_a_file_s_heap_that_fails(sender, bind_far, tmp_path) -> None:
    """As for payload that the program wrote itself."""
    (tmp_path / "samples.bin").write_bytes(b"".join(heap_payload(71, index, 5000) for index in range(60)))
    failing = Attempt.to(
        *(bind_far(), sender(FAULT="wc@100=general", ERROR_STATE="sqe"), "--packet-size", 1400, "--batch-heaps", 8),
        *("--descriptors", "own", "--source", tmp_path / "samples.bin", "--heap-size", 5000),
    )
    assert lost_heaps(failing) == first_failures(failing)
    assert failing.report["heaps_failed"] == 1


@pytest.mark.parametrize("completion", ["poll", "event"])
@pytest.mark.parametrize("number", [1, 2, 33, 241])
def test_a_completion_that_is_late(attempt, number: int, completion: str) -> None:
    slow = attempt("--completion", completion, FAULT=f"delay@{number}=150000")
    assert not lost_heaps(slow)
    assert (slow.exit_code, slow.report["heaps_failed"]) == (0, 0)


@pytest.mark.parametrize("completion", ["poll", "event"])
def test_a_device_that_hangs(attempt, completion: str) -> None:
    """The program gives up what is queued, says so, and ends."""
    hanging = attempt("--completion", completion, FAULT="delay@100=20000000")
    lost = lost_heaps(hanging)
    assert len(lost) <= hanging.report["heaps_failed"] < 60
    assert set(first_failures(hanging)) and hanging.exit_code == 1


@pytest.mark.parametrize("completion", ["poll", "event"])
@pytest.mark.parametrize("number", [1, 2, 5, 10])
def test_a_post_that_finds_no_room(attempt, number: int, completion: str) -> None:
    """The batch is posted again."""
    crowded = attempt("--completion", completion, FAULT=f"enomem@{number}")
    assert not lost_heaps(crowded)
    assert (crowded.exit_code, crowded.report["heaps_failed"]) == (0, 0)


@pytest.mark.parametrize("completion", ["poll", "event"])
@pytest.mark.parametrize("number", [1, 100])
def test_a_port_that_goes_down(attempt, number: int, completion: str) -> None:
    """A device reports success for what it drops then."""
    dark = attempt("--completion", completion, FAULT=f"port-down@{number}")
    lost = lost_heaps(dark)
    assert lost[-1] == FIRST_DATA_CNT + 59
    assert dark.report["heaps_failed"] >= len(lost)
    assert dark.exit_code == 1
    assert "link" in dark.errors


@pytest.mark.parametrize("microseconds", [1, 300, 20_000])
@pytest.mark.parametrize("number", [40, 100])
@pytest.mark.parametrize("completion", ["poll", "event"])
def test_a_port_that_is_down_for_a_while(attempt, completion: str, number: int, microseconds: int) -> None:
    """The stream goes on; every heap that was dropped is among those that are reported."""
    flaky = attempt(
        *("--completion", completion, "--rate", "30Mb/s", "--in-flight", 3),
        FAULT=f"port-down@{number}={microseconds}",
    )
    lost = lost_heaps(flaky)
    assert lost, "nothing was dropped"
    assert len(lost) <= flaky.report["heaps_failed"] < 60
    assert flaky.exit_code == 1
    assert parse_packet(flaky.datagrams[-1]).is_stop


def test_hardware_pacing_outlives_a_restart(attempt) -> None:
    """A queue pair that was in error has no rate any more."""
    paced = attempt(
        *("--rate", "20Mb/s", "--pacing", "hardware"),
        **{"FAULT": "wc@3=general", "RATE_LIMIT": "1000..100000000"},
    )
    assert (paced.exit_code, paced.report["heaps_failed"]) == (1, 1)
    # The device cannot be faster; what was sent before the rate was lost and regained does not count.
    assert paced.report["seconds"] > 0.5 * paced.report["wire_bytes"] * 8 / 20e6


def test_relaxed_ordering_that_is_refused(attempt) -> None:
    assert not lost_heaps(attempt(FAULT="relaxed=reject"))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"FAULT": "no-cap-net-raw"}, ["CAP_NET_RAW", "setcap"]),
        ({"FAULT": "memlock"}, ["RLIMIT_MEMLOCK", "ulimit -l"]),
        ({"device": "enosys"}, ["ib_uverbs"]),
        ({"device": ""}, ["no RDMA device", "modprobe"]),
    ],
    ids=["no CAP_NET_RAW", "memlock", "no ib_uverbs", "no device"],
)
def test_what_stops_verbs_is_said(sender, bind_far, settings: dict[str, str], words: list[str]) -> None:
    stopped = sender(**settings)
    stopped = replace(stopped, doorbell=replace(stopped.doorbell, launcher=("prlimit", "--memlock=65536")))
    done = stopped.run("send", "-q", "--backend", "verbs", *bind_far().to, *STREAM)
    assert done.returncode == 3
    assert all(word in done.stderr for word in words), done.stderr


def test_a_device_that_is_not_there(sender, bind_far) -> None:
    """The ones that are there are named."""
    done = sender().run("send", "-q", "--backend", "verbs", "--device", "nosuch_0", *bind_far().to, *STREAM)
    assert done.returncode == 3
    assert "nosuch_0" in done.stderr and "soft0" in done.stderr


def test_auto_falls_back_and_says_why(sender, bind_far) -> None:
    receiver = bind_far()
    automatic = Attempt.to(receiver, sender(FAULT="no-cap-net-raw"), *STREAM, backend="auto")
    assert (automatic.exit_code, automatic.report["backend"]) == (0, "udp")
    assert "CAP_NET_RAW" in automatic.report["reason"]
    assert not lost_heaps(automatic)


@pytest.mark.parametrize("faults", ["", "wc@100=general"], ids=["clean", "restarted"])
def test_valgrind_finds_nothing(sender, faults: str) -> None:
    """Neither leaks nor reads of memory that nobody wrote; the device is in the same process."""
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind")
    watched = sender(device=f"count={VETH},checksum", FAULT=faults)
    options = ("--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=77")
    watched = replace(watched, doorbell=replace(watched.doorbell, launcher=("valgrind", *options)))
    done = watched.run("send", "-q", "--backend", "verbs", "--to", f"{FAR.ipv4}:7148", *STREAM)
    assert done.returncode == (1 if faults else 0), done.stderr
