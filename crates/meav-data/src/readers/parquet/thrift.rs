/// The compact protocol of Apache Thrift, in which Parquet describes itself, as far as it takes to
/// look at a few numbers and pass over the rest.
///
/// Source: Apache Thrift, `doc/specs/thrift-compact-protocol.md`.
pub(super) struct Thrift<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) position: usize,
}

/// Deeper than any Parquet file describes itself.
const MAX_DEPTH: usize = 32;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: the structure ends.
    Stop,
    True,
    False,
    Byte,
    Integer,
    Double,
    Bytes,
    List,
    Map,
    Struct,
    Uuid,
}

impl Kind {
    fn new(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Stop,
            1 => Self::True,
            2 => Self::False,
            3 => Self::Byte,
            4..=6 => Self::Integer,
            7 => Self::Double,
            8 => Self::Bytes,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return None,
        })
    }
}

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    fn pass(&mut self, len: usize) -> Option<()> {
        self.position = self.position.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next field of a structure whose last one was `id`.
    pub(super) fn field(&mut self, id: &mut i64) -> Option<Kind> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(Kind::Stop);
        }
        *id = match byte >> 4 {
            0 => self.integer()?,
            delta => *id + i64::from(delta),
        };
        Kind::new(byte & 0x0F).filter(|kind| *kind != Kind::Stop)
    }

    /// How many elements a list has, and of what kind.
    pub(super) fn list(&mut self) -> Option<(u64, Kind)> {
        let byte = self.byte()?;
        let len = match byte >> 4 {
            15 => self.varint()?,
            len => u64::from(len),
        };
        Some((len, Kind::new(byte & 0x0F)?))
    }

    pub(super) fn skip(&mut self, kind: Kind) -> Option<()> {
        self.skip_value(kind, 0)
    }

    fn skip_value(&mut self, kind: Kind, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            Kind::Stop => None,
            Kind::True | Kind::False => Some(()),
            Kind::Byte => self.pass(1),
            Kind::Integer => self.varint().map(|_| ()),
            Kind::Double => self.pass(8),
            Kind::Uuid => self.pass(16),
            Kind::Bytes => {
                let len = self.varint()?;
                self.pass(usize::try_from(len).ok()?)
            }
            Kind::List => self.skip_list(depth),
            Kind::Map => self.skip_map(depth),
            Kind::Struct => self.skip_struct(depth),
        }
    }

    fn skip_list(&mut self, depth: usize) -> Option<()> {
        let (len, kind) = self.list()?;
        for _ in 0..len {
            self.skip_element(kind, depth + 1)?;
        }
        Some(())
    }

    /// In lists and maps a truth value takes a byte.
    fn skip_element(&mut self, kind: Kind, depth: usize) -> Option<()> {
        match kind {
            Kind::True | Kind::False => self.pass(1),
            kind => self.skip_value(kind, depth),
        }
    }

    fn skip_map(&mut self, depth: usize) -> Option<()> {
        let len = self.varint()?;
        if len == 0 {
            return Some(());
        }
        let kinds = self.byte()?;
        for _ in 0..len {
            self.skip_element(Kind::new(kinds >> 4)?, depth + 1)?;
            self.skip_element(Kind::new(kinds & 0x0F)?, depth + 1)?;
        }
        Some(())
    }

    fn skip_struct(&mut self, depth: usize) -> Option<()> {
        let mut id = 0;
        loop {
            match self.field(&mut id)? {
                Kind::Stop => return Some(()),
                kind => self.skip_value(kind, depth + 1)?,
            }
        }
    }
}
