//! The value of an item in one heap, as a numpy array.

use super::scalar::Scalar;

/// The value of an item in one heap: an array in C order, as numpy stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The element type as a Python literal, quotes included: `'<u2'`, or a list of fields.
    pub descr: String,
    /// Dimensions; none for a single element.
    pub shape: Vec<u64>,
    /// The elements.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The elements as numbers; `None` if they are none: text, complex numbers, structures.
    pub fn values(&self) -> Option<impl ExactSizeIterator<Item = f64>> {
        let scalar = Scalar::parse(&self.descr)?;
        Some(self.bytes.chunks_exact(scalar.size()).map(move |bytes| scalar.value(bytes)))
    }

    /// The number, if it is a single one.
    pub fn value(&self) -> Option<f64> {
        self.values().filter(|values| values.len() == 1)?.next()
    }

    /// The frame with each element `x` as the 32-bit float `x * scale + offset`; `None` if elements
    /// are no numbers.
    pub fn scaled(&self, scale: f64, offset: f64) -> Option<Self> {
        let values = self.values()?;
        let mut bytes = Vec::with_capacity(values.len() * size_of::<f32>());
        for value in values {
            bytes.extend(((value * scale + offset) as f32).to_le_bytes());
        }
        Some(Self { descr: "'<f4'".into(), shape: self.shape.clone(), bytes })
    }

    /// Whether the elements are bytes to be shown as they are.
    pub fn is_bytes(&self) -> bool {
        Scalar::parse(&self.descr).is_some_and(Scalar::is_byte)
    }
}
