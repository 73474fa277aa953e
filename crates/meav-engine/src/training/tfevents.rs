//! `TensorBoard`'s event files: records of `TFRecord`, each an `Event` of protocol buffers.
//!
//! ```text
//! record = length u64 · masked CRC of the length u32 · event · masked CRC of the event u32
//! ```
//!
//! Source: `tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`. All numbers are little-endian.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use meav_weights::write_file_atomically;

use crate::error::EngineError;

/// What the names of event files begin with; TensorBoard looks for it.
const PREFIX: &str = "events.out.tfevents.";

/// One event file that grows.
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Starts a file in `folder`, beside those that are there.
    pub(crate) fn create(folder: &Path, now: Timestamp) -> Result<Self, EngineError> {
        // TensorBoard reads the files of a folder in the order of these seconds.
        let mut seconds = now.as_second();
        let (file, path) = loop {
            let path = folder.join(format!("{PREFIX}{seconds}.meav"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => seconds += 1,
                Err(source) => return Err(EngineError::Write { path, source }),
            }
        };
        let mut events = Self { file, path };
        let mut event = Vec::new();
        put_wall_time(&mut event, seconds_of(now));
        put_bytes(&mut event, 3, b"brain.Event:2");
        events.append(&event)?;
        Ok(events)
    }

    /// Adds values of one step.
    pub(crate) fn add(
        &mut self,
        now: Timestamp,
        step: usize,
        scalars: &[(String, f64)],
    ) -> Result<(), EngineError> {
        self.append(&scalar_event(seconds_of(now), step, scalars))
    }

    fn append(&mut self, event: &[u8]) -> Result<(), EngineError> {
        let written = self.file.write_all(&record(event));
        written.map_err(|source| EngineError::Write { path: self.path.clone(), source })
    }
}

/// Forgets in all event files of a folder what came after a step: those steps are taken again, from
/// 0 everything.
/// What a killed engine has left half-written goes too.
pub(crate) fn cut_back(folder: &Path, step: usize) -> Result<(), EngineError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::Read { path: path.clone(), source }
    };
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let bytes = fs::read(&path).map_err(at(&path))?;
        let kept: Vec<u8> = records(&bytes)
            .filter(|record| step_of(record).is_none_or(|it| step > 0 && it <= step as u64))
            .flatten()
            .copied()
            .collect();
        if kept.len() < bytes.len() {
            write_file_atomically(&path, |file| {
                let failed = |source| EngineError::Write { path: path.clone(), source };
                file.write_all(&kept).map_err(failed)
            })?;
        }
    }
    Ok(())
}

fn seconds_of(time: Timestamp) -> f64 {
    time.as_nanosecond() as f64 / 1e9
}

/// Bytes around an event: its length with a checksum in front, another checksum behind.
const HEAD: usize = 12;
const TAIL: usize = 4;

fn record(event: &[u8]) -> Vec<u8> {
    let len = (event.len() as u64).to_le_bytes();
    let mut bytes = len.to_vec();
    bytes.extend(masked_crc(&len).to_le_bytes());
    bytes.extend(event);
    bytes.extend(masked_crc(event).to_le_bytes());
    bytes
}

/// The whole records that a file begins with.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
        let (record, rest) = bytes.split_at_checked(len.checked_add(HEAD + TAIL)?)?;
        bytes = rest;
        Some(record)
    })
}

/// The step of one of our own records: it stands behind the time. The one with the version has
/// none.
fn step_of(record: &[u8]) -> Option<u64> {
    let event = record.get(HEAD..record.len() - TAIL)?;
    let varint = event.get(9..)?.strip_prefix(&[tag(2, VARINT)])?;
    let mut step = 0;
    for (place, byte) in varint.iter().take(10).enumerate() {
        step |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(step);
        }
    }
    None
}

/// `Event { wall_time = 1, step = 2, summary = 5 }` with
/// `Summary { repeated Value { tag = 1, simple_value = 2 } value = 1 }`.
fn scalar_event(wall_time: f64, step: usize, scalars: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, scalar) in scalars {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, name.as_bytes());
        value.push(tag(2, FIXED32));
        value.extend((*scalar as f32).to_le_bytes());
        put_bytes(&mut summary, 1, &value);
    }
    let mut event = Vec::new();
    put_wall_time(&mut event, wall_time);
    event.push(tag(2, VARINT));
    put_varint(&mut event, step as u64);
    put_bytes(&mut event, 5, &summary);
    event
}

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

const fn tag(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

fn put_wall_time(event: &mut Vec<u8>, seconds: f64) {
    event.push(tag(1, FIXED64));
    event.extend(seconds.to_le_bytes());
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(tag(field, LENGTH));
    put_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// Checksums of texts that hold checksums are masked, so that they are not all alike.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, Castagnoli's polynomial with its bits reversed.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _bit| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        let mut text = String::new();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    }

    /// RFC 3720, appendix B.4, and the check value of the catalogues.
    #[test]
    fn checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// Written by TensorBoard 2.21 itself.
    #[test]
    fn records_are_those_that_tensorboard_writes() {
        let mut version = Vec::new();
        put_wall_time(&mut version, 1_700_000_000.5);
        put_bytes(&mut version, 3, b"brain.Event:2");
        assert_eq!(
            hex(&record(&version)),
            "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110"
        );
        let scalars = [("train/loss".to_owned(), 24.5), ("train/rewards/margins".to_owned(), -0.1)];
        assert_eq!(
            hex(&record(&scalar_event(1_700_000_001.25, 300, &scalars))),
            "3f00000000000000516576610900005040fc54d94110ac022a310a110a0a747261696e2f6c6f7373\
             150000c4410a1c0a15747261696e2f726577617264732f6d617267696e7315cdccccbde0a36276"
        );
    }

    #[test]
    fn steps_behind_a_checkpoint_and_torn_records_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut first = EventFile::create(folder.path(), now).unwrap();
        let mut second = EventFile::create(folder.path(), now).unwrap();
        assert_ne!(first.path, second.path);
        for step in [0, 1, 200, 201] {
            first.add(now, step, &[("train/loss".to_owned(), 1.0)]).unwrap();
        }
        second.add(now, 300, &[("train/loss".to_owned(), 1.0)]).unwrap();
        let torn = record(&scalar_event(0.0, 2, &[]));
        first.file.write_all(&torn[..torn.len() - 1]).unwrap();
        cut_back(folder.path(), 200).unwrap();
        let steps = |events: &EventFile| -> Vec<Option<u64>> {
            let bytes = fs::read(&events.path).unwrap();
            assert_eq!(records(&bytes).map(<[u8]>::len).sum::<usize>(), bytes.len());
            records(&bytes).map(step_of).collect()
        };
        assert_eq!(steps(&first), [None, Some(0), Some(1), Some(200)]);
        assert_eq!(steps(&second), [None]);
        cut_back(folder.path(), 0).unwrap();
        assert_eq!(steps(&first), [None]);
    }
}
