//! A backend of a stranger's, which has memory of its own, bytes of its own before each run, and slots for runs as
//! the kernel's packet rings have them. What it finds in its memory is what the kernel's UDP stack delivers of the
//! same heaps.

use std::net::UdpSocket;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use doorbell::backend::udp::{Udp, UdpConfig};
use doorbell::backend::{Backend, Caps, Counters, Done, OpenError, SendError, wait::Wait};
use doorbell::pacer::Rate;
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan, RunLimits};
use doorbell::region::{
    Arrangement, Batch, InFlight, Layout, Memory, Placement, Region, RegionError, Slots,
};
use doorbell::sender::Sender;
use doorbell::sender::admission::Admission;
use doorbell::wire::Flavour;
use memmap2::{MmapMut, MmapRaw};
use proptest::prelude::*;

/// What was found in the ring: where it was to go, and the run, cut into packets.
type Messages = Arc<Mutex<Vec<(u32, Vec<Vec<u8>>)>>>;

struct Ring {
    caps: Caps,
    memory: Option<Arc<MmapRaw>>,
    /// Runs that one post takes at most.
    most: usize,
    messages: Messages,
    done: Vec<Done>,
}

impl Ring {
    fn new(run: RunLimits, flows: u32, most: usize) -> (Self, Messages) {
        let slots = Some(Slots { multiple: 64, block: 1 << 16 });
        let placement = Placement { headroom: HEADROOM, run, slots };
        let messages = Messages::default();
        let caps = Caps { placement, flows, ..Caps::new("ring") };
        let ring = Self { caps, memory: None, most, messages: messages.clone(), done: Vec::new() };
        (ring, messages)
    }
}

#[expect(unsafe_code, reason = "the contract of the trait, and memory of its own")]
// SAFETY: memory is read within `post` alone.
unsafe impl Backend for Ring {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        let grid = arrangement.slots().unwrap();
        assert_eq!((grid.len % 64, arrangement.batch_len() % grid.block), (0, 0));
        let len = arrangement.batch_len() * batches as usize;
        let map = Arc::new(MmapRaw::from(MmapMut::map_anon(len).unwrap()));
        self.memory = Some(map.clone());
        // SAFETY: the mapping is of this size, can be written, and is read in `post` alone.
        Ok(unsafe { Memory::foreign(map.as_mut_ptr(), len, Box::new(map)) })
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.caps.check(region)?;
        for batch in batches {
            for run in region.arrangement().runs() {
                let room = batch.headroom(run.packets.start);
                assert_eq!(room.len(), HEADROOM);
                room.copy_from_slice(&[run.flow, run.segment].map(u32::to_le_bytes).concat());
            }
        }
        Ok(())
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let region = batch.region().clone();
        let (plan, arrangement) = (region.plan(), region.arrangement());
        let (grid, memory) = (arrangement.slots().unwrap(), self.memory.as_ref().unwrap());
        let mut end = packets.start;
        for (index, run) in arrangement.runs().iter().enumerate() {
            if run.packets.end <= packets.start || run.packets.start >= packets.end {
                continue;
            }
            assert!(run.packets.start >= packets.start, "{packets:?} start in {run:?}");
            let part = run.packets.start..run.packets.end.min(packets.end);
            let is_sent = |packet: u32| plan.packets()[packet as usize].heap < batch.heaps();
            assert!(!(part.end..run.packets.end).any(is_sent), "{packets:?} leave some of {run:?}");
            if end > packets.start && index % self.most == 0 {
                break;
            }
            let packets = &plan.packets()[part.start as usize..part.end as usize];
            let len = HEADROOM + packets.iter().map(|packet| packet.len()).sum::<usize>();
            let at = batch.slot().batch as usize * arrangement.batch_len() + grid.slot(index);
            assert!(grid.slot(index) % grid.block + len <= grid.block, "across two blocks");
            // SAFETY: within the mapping, and the batch is in flight, so that nobody writes it.
            let bytes =
                unsafe { std::slice::from_raw_parts(memory.as_mut_ptr().add(at), len) }.to_vec();
            let (own, run_bytes) = bytes.split_at(HEADROOM);
            let [flow, segment] =
                [0, 4].map(|at| u32::from_le_bytes(own[at..at + 4].try_into().unwrap()));
            assert_eq!((flow, segment), (run.flow, run.segment));
            let packets = run_bytes.chunks(segment as usize).map(<[u8]>::to_vec).collect();
            self.messages.lock().unwrap().push((flow, packets));
            end = part.end;
        }
        self.done.push(Done { slot: batch.slot(), packets: packets.start..end, error: None });
        Ok(end - packets.start)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        done.append(&mut self.done);
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        wait.not_at_all();
        Ok(())
    }

    fn pace(&mut self, _: Rate) -> Result<bool, SendError> {
        Ok(false)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// Admits a packet at a time.
struct Drip;

impl Admission for Drip {
    fn admit(&mut self, _: &InFlight, _: Range<u32>) -> u32 {
        1
    }

    fn prepare_wait(&mut self, wait: &mut Wait) {
        wait.not_at_all();
    }
}

/// Sends batches, the first `counts` heaps of each, until all came back.
fn send(sender: &mut Sender, plan: &Arc<Plan>, counts: &[u32], mut receive: impl FnMut()) {
    let mut idle = sender.allocate(plan, Layout::Packed, 2, Vec::new()).unwrap();
    let mut sent = 0;
    for (round, &heaps) in counts.iter().enumerate() {
        let mut batch = idle.remove(0);
        for heap in 0..heaps {
            let len = batch.payload(heap).len();
            let bytes: Vec<u8> =
                (0..len).map(|at| (at * 7 + heap as usize * 31 + round * 101) as u8).collect();
            assert_eq!(batch.fill(heap, &bytes), len);
        }
        sender.submit_first(batch, heaps).unwrap();
        let completion = sender.wait().unwrap();
        assert!(completion.failures.is_empty());
        sent += completion.heaps;
        idle.push(completion.batch);
        receive();
    }
    assert_eq!(sent, counts.iter().sum());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_ring_holds_what_udp_delivers(
        size in 1_usize..1500,
        packet_size in 200_usize..1500,
        segments in 1_u32..12,
        (flows, heaps) in (1_u32..4, 1_u32..4).prop_map(|(flows, times)| (flows, flows * times)),
        is_round_robin in any::<bool>(),
        parts in proptest::collection::vec(1_u32..12, 1..5),
        (most, is_dripping, burst) in (1_usize..4, any::<bool>(), 1_u32..20_000),
    ) {
        let order = if is_round_robin { Order::RoundRobin } else { Order::Serial };
        let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, size);
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit: packet_size })
            .heaps(&heap, heaps as usize)
            .flows(flows)
            .order(order);
        let plan = Arc::new(plan.build().unwrap());
        let counts: Vec<u32> = parts.iter().map(|part| part.min(&heaps)).copied().collect();

        let (ring, messages) = Ring::new(RunLimits { segments, bytes: 9000 }, flows, most);
        let mut sender = Sender::new(Box::new(ring));
        if is_dripping {
            sender.admit_by(Box::new(Drip));
        }
        // Far faster than this machine, but cut into bursts.
        sender.pace(Some(Rate::new(1_000_000_000_000, burst)));
        send(&mut sender, &plan, &counts, || {});

        let receivers: Vec<UdpSocket> =
            (0..flows).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        receivers.iter().for_each(|receiver| receiver.set_nonblocking(true).unwrap());
        let to = receivers.iter().map(|receiver| receiver.local_addr().unwrap()).collect();
        let mut sender = Sender::new(Box::new(Udp::open(&UdpConfig::new(to)).unwrap()));
        let mut delivered = vec![Vec::new(); receivers.len()];
        // Whatever is in the sockets is taken out between batches: none is lost for want of room.
        send(&mut sender, &plan, &counts, || {
            for (receiver, delivered) in receivers.iter().zip(&mut delivered) {
                let mut bytes = [0; 2000];
                while let Ok(len) = receiver.recv(&mut bytes) {
                    delivered.push(bytes[..len].to_vec());
                }
            }
        });

        let messages = messages.lock().unwrap();
        for (flow, delivered) in (0..).zip(delivered) {
            let of_flow = messages.iter().filter(|(to, _)| *to == flow);
            let found: Vec<Vec<u8>> = of_flow.flat_map(|(_, packets)| packets.clone()).collect();
            prop_assert_eq!(found, delivered);
        }
    }
}

#[test]
fn memory_that_cannot_hold_the_batches_is_refused() {
    let heap = HeapSpec::new().payload(0x3300, 10_000);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1000)).heaps(&heap, 4);
    let plan = Arc::new(plan.build().unwrap());
    let arrangement = || Arrangement::new(&plan, Layout::Packed, Placement::ADJACENT).unwrap();
    let small = Memory::anonymous(arrangement().batch_len()).unwrap();
    let error = Region::in_memory(arrangement(), small, 2, Vec::new()).unwrap_err();
    assert!(matches!(error, RegionError::Unsuitable { .. }), "{error}");

    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let file = Memory::file(file.path()).unwrap();
    let error = Region::in_memory(arrangement(), file, 2, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("that can be written") && error.contains("of a mapped file"), "{error}");
}

#[test]
fn runs_in_slots_hold_all_that_is_sent() {
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1000));
    let plan = Arc::new(plan.heaps(&HeapSpec::new().payload(0x3300, 10), 1).build().unwrap());
    let slots = Some(Slots { multiple: 16, block: 4096 });
    let ring = Placement { slots, ..Placement::ADJACENT };
    for layout in [Layout::Split, Layout::Attached] {
        let error = Arrangement::new(&plan, layout, ring).unwrap_err();
        assert!(matches!(error, RegionError::Slots { layout: asked } if asked == layout));
    }
}

/// Where a run goes, and how long its packets are.
const HEADROOM: usize = 8;
