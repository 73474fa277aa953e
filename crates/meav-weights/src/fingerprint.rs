use std::fmt;
use std::str::FromStr;

use crate::{Dtype, Weight};

/// The identity of a set of tensors or of a vocabulary: `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of one run of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: {0:?}")]
pub struct ParseFingerprintError(String);

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("blake3:")
            .and_then(|hex| blake3::Hash::from_hex(hex).ok())
            .map(|hash| Self(*hash.as_bytes()))
            .ok_or_else(|| ParseFingerprintError(text.to_owned()))
    }
}

/// Takes tensors in name order and gives their common fingerprint.
///
/// BLAKE3 over, for each tensor: its name, its dtype as a safetensors header spells it, its
/// dimensions as little-endian `u64`, and the BLAKE3 of its little-endian values.
#[derive(Default)]
pub struct Fingerprinter(blake3::Hasher);

impl Fingerprinter {
    /// Adds the next tensor.
    pub fn add(&mut self, name: &str, weight: &Weight) {
        let mut values = blake3::Hasher::new();
        values.update_rayon(weight.bytes());
        self.add_hashed(name, weight.dtype(), weight.shape(), values.finalize().as_bytes());
    }

    fn add_hashed(&mut self, name: &str, dtype: Dtype, shape: &[usize], hash: &[u8; 32]) {
        self.0.update(name.as_bytes()).update(dtype.safetensors_name().as_bytes());
        for dim in shape {
            self.0.update(&(*dim as u64).to_le_bytes());
        }
        self.0.update(hash);
    }

    /// Adds bytes that belong to the identity without being a tensor.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The fingerprint of everything added.
    pub fn finish(&self) -> Fingerprint {
        Fingerprint(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_back() {
        let fingerprint = Fingerprint::of_bytes(b"weights");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert!("blake3:12".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn shape_and_name_count_beside_the_values() {
        let of = |name: &str, shape: &[usize]| {
            let mut fingerprinter = Fingerprinter::default();
            fingerprinter.add(name, &Weight::from_f32(shape.to_vec(), vec![1.0, 2.0]));
            fingerprinter.finish()
        };
        assert_ne!(of("a", &[2]), of("b", &[2]));
        assert_ne!(of("a", &[2]), of("a", &[2, 1]));
        assert_eq!(of("a", &[2]), of("a", &[2]));
    }
}
