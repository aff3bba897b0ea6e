"""spead2's receiver, in this process: collects a stream heap by heap, and takes no loss for an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spead2
import spead2.recv

from endpoint import Endpoint


@dataclass(frozen=True)
class ReceivedHeap:
    """One heap, whole."""

    cnt: int
    address_bits: int
    is_stop: bool
    descriptors: tuple[int, ...]
    items: dict[int, bytes]
    immediates: frozenset[int]
    values: dict[int, Any]

    def content(self, id: int, size: int) -> bytes:
        """The bytes of item `id`, which must be `size` of them; immediates are padded at the front."""
        data = self.items[id]
        if id in self.immediates:
            assert not any(data[: len(data) - size]), f"heap {self.cnt}: immediate {id:#x} is longer than {size} bytes"
            return data[len(data) - size :]
        assert len(data) == size, f"heap {self.cnt}: item {id:#x} has {len(data)} bytes, not {size}"
        return data


class Receiver:
    """A spead2 stream that listens at an endpoint, or reads a capture file."""

    def __init__(self, source: Endpoint | Path) -> None:
        # The stop heap is to be seen like any other, so spead2 must not end the stream at it.
        config = spead2.recv.StreamConfig(max_heaps=MAX_HEAPS, stop_on_stop_item=False)
        ring = spead2.recv.RingStreamConfig(heaps=MAX_HEAPS, contiguous_only=False)
        self.group = spead2.ItemGroup()
        self._stream = spead2.recv.Stream(spead2.ThreadPool(), config, ring)
        self._source = source
        if isinstance(source, Path):
            self._stream.add_udp_pcap_file_reader(str(source))
        else:
            self._stream.add_udp_reader(source.socket, max_size=LARGEST_PACKET)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.stop()
        if isinstance(self._source, Endpoint):
            self._source.socket.close()

    @property
    def endpoint(self) -> Endpoint:
        assert isinstance(self._source, Endpoint)
        return self._source

    @property
    def to(self) -> list[str]:
        """The flags that make this receiver a destination."""
        return self.endpoint.to

    def next_heap(self) -> ReceivedHeap:
        """The next heap; a failure if it is incomplete, or does not come."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                heap = self._stream.get_nowait()
            except spead2.Empty:
                assert time.monotonic() < deadline, f"no heap in {PATIENCE} s; {self._statistics()}"
                time.sleep(0.002)
            except spead2.Stopped:
                raise AssertionError(f"the stream ended without a stop heap; {self._statistics()}") from None
            else:
                return self._received(heap)

    def until_stop(self) -> list[ReceivedHeap]:
        """All heaps up to and including the stop heap."""
        heaps = [self.next_heap()]
        while not heaps[-1].is_stop:
            heaps.append(self.next_heap())
        return heaps

    def whole_stream(self, cnt_start: int = 1, cnt_step: int = 1) -> list[ReceivedHeap]:
        """The heaps before the stop heap; a failure if any cnt is missing, or out of order."""
        heaps = self.until_stop()
        cnts = [heap.cnt for heap in heaps]
        expected = [cnt_start + i * cnt_step for i in range(len(cnts))]
        assert cnts == expected, f"lost or misplaced heaps: {difference(expected, cnts)}; {self._statistics()}"
        return heaps[:-1]

    def data_heaps(self, cnt_start: int = 1, cnt_step: int = 1) -> list[ReceivedHeap]:
        """As `whole_stream`, without heaps that hold nothing but descriptors."""
        return [heap for heap in self.whole_stream(cnt_start, cnt_step) if heap.items]

    def _received(self, heap: spead2.recv.Heap | spead2.recv.IncompleteHeap) -> ReceivedHeap:
        if isinstance(heap, spead2.recv.IncompleteHeap):
            raise AssertionError(
                f"heap {heap.cnt} is incomplete: {heap.received_length} of {heap.heap_length} bytes; "
                + self._statistics()
            )
        items = [item for item in heap.get_items() if item.id > spead2.STREAM_CTRL_ID]
        descriptors = tuple(descriptor.id for descriptor in heap.get_descriptors())
        updated = self.group.update(heap, new_order="|")
        return ReceivedHeap(
            cnt=heap.cnt,
            address_bits=heap.flavour.heap_address_bits,
            is_stop=heap.is_end_of_stream(),
            descriptors=descriptors,
            items={item.id: bytes(memoryview(item)) for item in items},
            immediates=frozenset(item.id for item in items if item.is_immediate),
            values={item.id: item.value for item in updated.values()},
        )

    def _statistics(self) -> str:
        return "spead2 counted " + ", ".join(f"{name} {count}" for name, count in self._stream.stats.items() if count)


def difference(expected: list[int], found: list[int]) -> str:
    missing = sorted(set(expected) - set(found))
    surplus = sorted(set(found) - set(expected))
    if missing or surplus:
        return f"missing {missing[:20]}, unexpected {surplus[:20]}"
    return f"order {found[:20]}"


MAX_HEAPS = 1 << 14
LARGEST_PACKET = 65535
PATIENCE = 20.0
