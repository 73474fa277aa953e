use std::collections::BTreeMap;

use crate::MalformedReason;
use crate::gguf::GgufValue;

/// Everything in front of a GGUF's tensors, read but not yet compared with the file's size.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, GgufValue>,
    pub(crate) tensors: BTreeMap<String, HeaderTensor>,
    /// Where the tensors begin in the file.
    pub(crate) data_start: u64,
}

/// A tensor as the header has it.
#[derive(Debug)]
pub(crate) struct HeaderTensor {
    /// Dimensions, outermost first.
    pub(crate) shape: Vec<u64>,
    /// ggml's number of the type.
    pub(crate) type_id: u32,
    /// Bytes from the beginning of the tensors.
    pub(crate) offset: u64,
}

/// Which rule of the format a GGUF header breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum GgufHeaderError {
    /// It does not begin with `GGUF`.
    #[error("the file does not begin with \"GGUF\"")]
    Magic,
    /// Of the future, of 2023, or of the other byte order.
    #[error("version {version} is not supported, only 2 and 3 are")]
    Version { version: u32 },
    /// A value of a type that the format does not have.
    #[error("value {key:?} has the unknown type {kind}")]
    ValueType { key: String, kind: u32 },
    /// A list whose elements are lists, which nobody writes.
    #[error("value {key:?} is a list of lists")]
    NestedList { key: String },
    /// A truth value other than 0 and 1.
    #[error("value {key:?} is neither true nor false")]
    Bool { key: String },
    /// A name whose bytes are no text.
    #[error("the name {name:?} is not UTF-8")]
    Name { name: String },
    /// One name for two values.
    #[error("value {key:?} is there twice")]
    DuplicateValue { key: String },
    /// More elements than any vocabulary needs, which would fill the memory.
    #[error("the lists have more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    /// More dimensions than ggml has.
    #[error("tensor {name:?} has {n_dims} dimensions")]
    Dimensions { name: String, n_dims: u32 },
    /// An alignment of the tensors that is none.
    #[error("\"general.alignment\" is not a power of two")]
    Alignment,
}

/// Ten times the lists of a vocabulary of 262,144 tokens. In memory an element takes more room
/// than in the file, by up to 32 times.
const MAX_ELEMENTS: u64 = 1 << 23;

/// As many as ggml has.
const MAX_DIMENSIONS: u32 = 4;

/// Of tensors in the file, unless it says otherwise.
pub(crate) const ALIGNMENT: u64 = 32;

impl Header {
    /// Reads a header of version 2 or 3. No length in it is believed before the bytes are there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, MalformedReason> {
        let mut reader = Reader { bytes, position: 0, n_elements: 0 };
        if reader.take(4)? != b"GGUF" {
            return Err(GgufHeaderError::Magic.into());
        }
        let version = reader.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(GgufHeaderError::Version { version }.into());
        }
        let (n_tensors, n_values) = (reader.u64()?, reader.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..n_values {
            let key = reader.name()?;
            let kind = reader.u32()?;
            let value = reader.value(&key, kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(GgufHeaderError::DuplicateValue { key }.into());
            }
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..n_tensors {
            let name = reader.name()?;
            let tensor = reader.tensor(&name)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(MalformedReason::DuplicateTensor { name });
            }
        }
        let alignment = alignment(&metadata)?;
        let data_start = (reader.position as u64)
            .checked_next_multiple_of(alignment)
            .ok_or(GgufHeaderError::Alignment)?;
        Ok(Self { metadata, tensors, data_start })
    }
}

fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Result<u64, GgufHeaderError> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(ALIGNMENT) };
    let alignment = value.to_u64().map_err(|_source| GgufHeaderError::Alignment)?;
    alignment.is_power_of_two().then_some(alignment).ok_or(GgufHeaderError::Alignment)
}

/// A place in the file, and how many list elements have been read up to there.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    n_elements: u64,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], MalformedReason> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let taken = taken.ok_or_else(|| MalformedReason::CutShort {
            what: "the header".to_owned(),
            needed: (self.position as u64).saturating_add(len),
            size: self.bytes.len() as u64,
        })?;
        self.position += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedReason> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, MalformedReason> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, MalformedReason> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a [u8], MalformedReason> {
        let len = self.u64()?;
        self.take(len)
    }

    fn name(&mut self) -> Result<String, MalformedReason> {
        let bytes = self.text()?;
        let name = str::from_utf8(bytes).map_err(|_source| GgufHeaderError::Name {
            name: String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned(),
        })?;
        Ok(name.to_owned())
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<GgufValue, MalformedReason> {
        const LIST: u32 = 9;
        if kind != LIST {
            return self.single(key, kind);
        }
        let (kind, len) = (self.u32()?, self.u64()?);
        if kind == LIST {
            return Err(GgufHeaderError::NestedList { key: key.to_owned() }.into());
        }
        self.n_elements = self.n_elements.saturating_add(len);
        if self.n_elements > MAX_ELEMENTS {
            return Err(GgufHeaderError::TooManyElements.into());
        }
        let values = (0..len).map(|_| self.single(key, kind)).collect::<Result<_, _>>()?;
        Ok(GgufValue::Array(values))
    }

    fn single(&mut self, key: &str, kind: u32) -> Result<GgufValue, MalformedReason> {
        Ok(match kind {
            0 => GgufValue::U8(u8::from_le_bytes(self.array()?)),
            1 => GgufValue::I8(i8::from_le_bytes(self.array()?)),
            2 => GgufValue::U16(u16::from_le_bytes(self.array()?)),
            3 => GgufValue::I16(i16::from_le_bytes(self.array()?)),
            4 => GgufValue::U32(self.u32()?),
            5 => GgufValue::I32(i32::from_le_bytes(self.array()?)),
            6 => GgufValue::F32(f32::from_le_bytes(self.array()?)),
            7 => match self.array()? {
                [0] => GgufValue::Bool(false),
                [1] => GgufValue::Bool(true),
                [_] => return Err(GgufHeaderError::Bool { key: key.to_owned() }.into()),
            },
            // Some vocabularies hold pieces that are no text, some programs end texts with zeros.
            8 => {
                let text = String::from_utf8_lossy(self.text()?);
                GgufValue::String(text.trim_end_matches('\0').to_owned())
            }
            10 => GgufValue::U64(self.u64()?),
            11 => GgufValue::I64(i64::from_le_bytes(self.array()?)),
            12 => GgufValue::F64(f64::from_le_bytes(self.array()?)),
            kind => return Err(GgufHeaderError::ValueType { key: key.to_owned(), kind }.into()),
        })
    }

    fn tensor(&mut self, name: &str) -> Result<HeaderTensor, MalformedReason> {
        let n_dims = self.u32()?;
        if n_dims > MAX_DIMENSIONS {
            return Err(GgufHeaderError::Dimensions { name: name.to_owned(), n_dims }.into());
        }
        let mut shape = (0..n_dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        // The innermost dimension comes first in the file.
        shape.reverse();
        Ok(HeaderTensor { shape, type_id: self.u32()?, offset: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// What a header of `values` and `tensors` is refused with.
    fn refusal(counts: [u64; 2], rest: &[u8]) -> String {
        let [n_tensors, n_values] = counts.map(u64::to_le_bytes);
        let bytes = [b"GGUF", &3_u32.to_le_bytes()[..], &n_tensors, &n_values, rest].concat();
        match Header::read(&bytes).unwrap_err() {
            MalformedReason::Gguf(reason) => reason.to_string(),
            reason => reason.to_string(),
        }
    }

    fn value(key: &str, kind: u32, rest: &[u8]) -> Vec<u8> {
        [text(key), kind.to_le_bytes().to_vec(), rest.to_vec()].concat()
    }

    fn list(kind: u32, len: u64) -> Vec<u8> {
        value("a", 9, &[&kind.to_le_bytes()[..], &len.to_le_bytes()].concat())
    }

    #[test]
    fn lengths_beyond_the_file_are_refused_before_any_memory_is_taken() {
        let huge = u64::MAX;
        let cut = "the file is cut short: the header ends at byte";
        assert!(refusal([0, huge], &[]).starts_with(cut));
        assert!(refusal([huge, 0], &[]).starts_with(cut));
        assert!(refusal([0, 1], &huge.to_le_bytes()).starts_with(cut));
        assert!(refusal([0, 1], &value("a", 8, &huge.to_le_bytes())).starts_with(cut));
        assert!(refusal([0, 1], &list(8, MAX_ELEMENTS)).starts_with(cut));
        assert_eq!(
            refusal([0, 1], &list(0, MAX_ELEMENTS + 1)),
            "the lists have more than 8388608 elements"
        );
        assert_eq!(refusal([0, 1], &list(0, huge)), "the lists have more than 8388608 elements");
        // No one list is too long, but all together are.
        let half = MAX_ELEMENTS as usize / 2;
        let lists = [list(0, half as u64), vec![0; half], list(0, half as u64 + 1)].concat();
        assert_eq!(refusal([0, 2], &lists), "the lists have more than 8388608 elements");
    }

    #[test]
    fn values_against_the_format_are_refused_by_name() {
        let nested = list(9, 1);
        assert_eq!(refusal([0, 1], &nested), "value \"a\" is a list of lists");
        assert_eq!(refusal([0, 1], &value("a", 13, &[])), "value \"a\" has the unknown type 13");
        assert_eq!(refusal([0, 1], &value("a", 7, &[2])), "value \"a\" is neither true nor false");
        let twice = [value("a", 7, &[1]), value("a", 7, &[1])].concat();
        assert_eq!(refusal([0, 2], &twice), "value \"a\" is there twice");
        let no_text = [&1_u64.to_le_bytes()[..], &[0xFF]].concat();
        assert_eq!(refusal([0, 1], &no_text), "the name \"\u{FFFD}\" is not UTF-8");
        let five = [text("t"), 5_u32.to_le_bytes().to_vec()].concat();
        assert_eq!(refusal([1, 0], &five), "tensor \"t\" has 5 dimensions");
        let tensor = [text("t"), vec![0; 16]].concat();
        let twice = [tensor.clone(), tensor].concat();
        assert_eq!(refusal([2, 0], &twice), "there is more than one tensor \"t\"");
        for alignment in [0_u32, 3, u32::MAX] {
            let alignment = value("general.alignment", 4, &alignment.to_le_bytes());
            assert_eq!(refusal([0, 1], &alignment), "\"general.alignment\" is not a power of two");
        }
    }

    #[test]
    fn every_type_of_value_is_read() {
        let single: [(u32, &[u8], &str); 13] = [
            (0, &[200], "U8(200)"),
            (1, &[0xFF], "I8(-1)"),
            (2, &[0, 1], "U16(256)"),
            (3, &[0xFE, 0xFF], "I16(-2)"),
            (4, &[0, 0, 1, 0], "U32(65536)"),
            (5, &[0xFD, 0xFF, 0xFF, 0xFF], "I32(-3)"),
            (6, &[0, 0, 0xC0, 0x3F], "F32(1.5)"),
            (7, &[1], "Bool(true)"),
            (8, &[2, 0, 0, 0, 0, 0, 0, 0, b'x', 0], "String(\"x\")"),
            (9, &[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2], "Array([U8(1), U8(2)])"),
            (10, &[0, 0, 0, 0, 1, 0, 0, 0], "U64(4294967296)"),
            (11, &[0xFF; 8], "I64(-1)"),
            (12, &[0, 0, 0, 0, 0, 0, 0xF8, 0x3F], "F64(1.5)"),
        ];
        for (kind, bytes, expected) in single {
            let head = [b"GGUF", &2_u32.to_le_bytes()[..], &[0; 8], &1_u64.to_le_bytes()].concat();
            let header = Header::read(&[head, value("key", kind, bytes)].concat()).unwrap();
            assert_eq!(format!("{:?}", header.metadata["key"]), expected);
            assert_eq!(header.data_start % ALIGNMENT, 0);
        }
    }
}
