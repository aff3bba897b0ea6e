//! Whatever comes from the socket, nothing panics.

use proptest::prelude::*;

use super::super::arbitrary_reply;

/// A netlink message of a type that replies have, with attributes that are well formed, but mean
/// anything.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let attribute = (0..70u16, prop::collection::vec(any::<u8>(), 0..40));
    let body = (
        prop::collection::vec(any::<u8>(), 0..20),
        prop::sample::select(vec![0, 1, 2, 7, 10, 17]),
        prop::collection::vec(attribute, 0..6),
    );
    let kind = prop::sample::select(vec![1, 2, 3, 4, 16, 24, 28u16]);
    (kind, body).prop_map(|(kind, (mut header, family, attributes))| {
        // Those of routes and neighbours take 12 bytes, those of interfaces 16.
        header.resize(if kind == 16 { 16 } else { header.len().max(12) & !3 }, 0);
        header[0] = family;
        for (kind, value) in attributes {
            header.extend((4 + value.len() as u16).to_ne_bytes());
            header.extend(kind.to_ne_bytes());
            header.extend(&value);
            header.resize(header.len().next_multiple_of(4), 0);
        }
        let mut message = (16 + header.len() as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(SEQUENCE.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(header);
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_reply_panics(message in message()) {
        arbitrary_reply(&message);
    }

    #[test]
    fn no_cut_or_changed_reply_panics(
        mut message in message(),
        length: prop::sample::Index,
        changed: prop::sample::Index,
        byte: u8,
    ) {
        *changed.get_mut(&mut message) = byte;
        arbitrary_reply(&message[..length.index(message.len() + 1)]);
    }
}

const SEQUENCE: u32 = 7;
