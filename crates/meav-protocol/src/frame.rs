use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message: far more than a conversation that fills the longest context.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Why a message could not be carried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum FrameError {
    /// The other side has gone.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The length in front is beyond [`MAX_FRAME_BYTES`].
    #[error("a message of {bytes} bytes is longer than any can be")]
    TooLong { bytes: usize },
    /// The value can't be written.
    #[error("a message could not be written")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The bytes are none of the protocol's values.
    #[error("a message could not be read")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// Writes one value: a little-endian `u32` of its length, then MessagePack; flushes.
///
/// # Errors
///
/// [`FrameError`].
pub fn write_frame<T: Serialize>(writer: &mut impl Write, value: &T) -> Result<(), FrameError> {
    let bytes = rmp_serde::to_vec_named(value)?;
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes: bytes.len() });
    }
    writer.write_all(&(bytes.len() as u32).to_le_bytes())?;
    writer.write_all(&bytes)?;
    Ok(writer.flush()?)
}

/// Reads one value; `None` where the stream ends between two.
///
/// # Errors
///
/// [`FrameError`], also for a stream that ends inside a value.
pub fn read_frame<T: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut len = [0; 4];
    match reader.read(&mut len[..1])? {
        0 => return Ok(None),
        _ => reader.read_exact(&mut len[1..])?,
    }
    let bytes = u32::from_le_bytes(len) as usize;
    if bytes > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes });
    }
    let mut frame = vec![0; bytes];
    reader.read_exact(&mut frame)?;
    Ok(Some(rmp_serde::from_slice(&frame)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Dtype, JobId, JobSpec, Method, Setup, VectorTerm};

    fn prepare(coefficient: f64) -> Command {
        let vectors = vec![VectorTerm::new("medical", coefficient)];
        let spec = JobSpec::Prepare(Setup {
            model: "demo".into(),
            dtype: Dtype::Bf16,
            method: Method::Ties { density: 0.2 },
            vectors,
        });
        Command::Start { job_id: JobId(3), spec }
    }

    #[test]
    fn values_come_back_one_by_one_and_then_the_end() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &prepare(-0.7)).unwrap();
        write_frame(&mut bytes, &Command::Cancel { job_id: JobId(3) }).unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(read_frame(&mut reader).unwrap(), Some(prepare(-0.7)));
        assert_eq!(read_frame(&mut reader).unwrap(), Some(Command::Cancel { job_id: JobId(3) }));
        assert_eq!(read_frame::<Command>(&mut reader).unwrap(), None);
    }

    #[test]
    fn nan_arrives_as_nan_so_that_the_engine_can_refuse_it() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &prepare(f64::NAN)).unwrap();
        let Some(Command::Start { spec: JobSpec::Prepare(setup), .. }) =
            read_frame(&mut bytes.as_slice()).unwrap()
        else {
            panic!("another command arrived");
        };
        assert!(setup.vectors[0].coefficient.is_nan());
    }

    #[test]
    fn torn_and_oversized_frames_are_errors() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &prepare(1.0)).unwrap();
        bytes.pop();
        assert!(matches!(read_frame::<Command>(&mut bytes.as_slice()), Err(FrameError::Io(_))));
        let huge = u32::MAX.to_le_bytes();
        assert!(matches!(
            read_frame::<Command>(&mut huge.as_slice()),
            Err(FrameError::TooLong { .. })
        ));
    }
}
