//! The head of a numpy file, up to the first element: NEP 1, *A Simple File Format for NumPy Arrays*.

use doorbell::wire::NumpyHeader;

/// The head of an array.
pub fn head(descr: &str, shape: &[u64]) -> Vec<u8> {
    padded(descr, shape, None)
}

/// The head of `frames` arrays in one, as long as for any other number of them.
pub fn stack_head(descr: &str, shape: &[u64], frames: u64) -> Vec<u8> {
    let stacked = |frames| [&[frames], shape].concat();
    let longest = padded(descr, &stacked(u64::MAX), None).len();
    padded(descr, &stacked(frames), Some(longest))
}

fn padded(descr: &str, shape: &[u64], len: Option<usize>) -> Vec<u8> {
    let header = NumpyHeader { descr: descr.into(), fortran_order: false, shape: shape.to_vec() };
    let text = header.to_string();
    // Version 1.0 has two bytes for the length of the header, 2.0 has four.
    let long = text.len() + ALIGNMENT > usize::from(u16::MAX);
    let before = MAGIC.len() + if long { 6 } else { 4 };
    let len = len.unwrap_or((before + text.len() + 1).next_multiple_of(ALIGNMENT));
    let header_len = len - before;
    let mut head = MAGIC.to_vec();
    match long {
        true => head.extend([&[2, 0][..], &(header_len as u32).to_le_bytes()].concat()),
        false => head.extend([&[1, 0][..], &(header_len as u16).to_le_bytes()].concat()),
    }
    head.extend_from_slice(text.as_bytes());
    head.resize(len - 1, b' ');
    head.push(b'\n');
    head
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// What numpy aligns elements to, for those who map the file.
const ALIGNMENT: usize = 64;
