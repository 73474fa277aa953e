use std::io;
use std::path::{Path, PathBuf};

use meav_job::Cancelled;

use crate::GgufHeaderError;

/// Why a tensor file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum WeightsError {
    /// The file is missing, unreadable, or on a failing disk.
    #[error("cannot read {path:?}")]
    Read { path: PathBuf, source: io::Error },

    /// The disk is full, read-only, or the folder may not be written.
    #[error("cannot write {path:?}")]
    Write { path: PathBuf, source: io::Error },

    /// There is something at the place that the result should go to.
    #[error("there is already something at {path:?}")]
    AlreadyExists { path: PathBuf },

    /// A folder without any file of weights.
    #[error("no model.safetensors or model.safetensors.index.json in {path:?}")]
    NoWeights { path: PathBuf },

    /// Neither a folder, nor a file that starts like safetensors or GGUF.
    #[error("not a folder, safetensors or GGUF file: {path:?}")]
    UnknownFormat { path: PathBuf },

    /// The file is not what its name says, or is damaged.
    #[error("malformed file {path:?}")]
    Malformed { path: PathBuf, source: MalformedReason },

    /// A GGUF of a model that is put together in a way that is not known here.
    #[error(
        "architecture {architecture:?} is not supported, only llama, qwen2, qwen3, gemma2, gemma3 \
         and phi3 are, in {path:?}"
    )]
    UnsupportedArchitecture { architecture: String, path: PathBuf },

    /// A GGUF that is one of several, none of which is a model by itself.
    #[error(
        "the model is in {parts} files, of which {path:?} is one: join them with llama.cpp's \
         llama-gguf-split --merge"
    )]
    SplitGguf { parts: usize, path: PathBuf },

    /// The file's values are of a kind that cannot be computed with.
    #[error("tensor {name:?} has dtype {dtype}, only F32, F16 and BF16 are supported, in {path:?}")]
    UnsupportedDtype { name: String, dtype: String, path: PathBuf },

    /// Values where there should be whole numbers.
    #[error("tensor {name:?} has dtype {dtype}, it should hold U16 or U32, in {path:?}")]
    NotIntegers { name: String, dtype: String, path: PathBuf },

    /// A GGUF's values are packed in a way that cannot be undone here.
    #[error("tensor {name:?} is stored as {dtype}, which cannot be read, in {path:?}")]
    UnsupportedGgufType { name: String, dtype: String, path: PathBuf },

    /// llama.cpp's kind of the model has no such tensor.
    #[error("tensor {name:?} has no place in a GGUF of architecture {architecture:?}")]
    NotInGguf { name: String, architecture: String },

    /// A tensor that should be there is not.
    #[error("tensor {name:?} is missing from {path:?}")]
    MissingTensor { name: String, path: PathBuf },

    /// A tensor to be written does not have the size that the header announced.
    #[error("tensor {name:?} was announced with {expected} bytes and came with {found}")]
    WrongSize { name: String, expected: usize, found: usize },

    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// What is wrong inside a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum MalformedReason {
    /// A file of no bytes.
    #[error("the file is empty")]
    Empty,

    /// The file ends before its contents do, e.g. after an interrupted download.
    #[error("the file is cut short: {what} ends at byte {needed}, the file at byte {size}")]
    CutShort { what: String, needed: u64, size: u64 },

    /// The safetensors header breaks a rule of the format.
    #[error("the safetensors header is invalid")]
    Safetensors(#[source] safetensors::SafeTensorError),

    /// The GGUF header breaks a rule of the format.
    #[error("the GGUF header is invalid")]
    Gguf(#[from] GgufHeaderError),

    /// A GGUF key is missing or of another type.
    #[error("the GGUF metadata has no usable {key:?}")]
    GgufKey { key: String },

    /// A GGUF tensor that the architecture does not have.
    #[error("tensor {name:?} is unknown in a model of this architecture")]
    GgufTensor { name: String },

    /// A tensor's dimensions don't fit its values.
    #[error("tensor {name:?} has the impossible shape {shape:?}")]
    Shape { name: String, shape: Vec<usize> },

    /// A GGUF tensor whose values begin where no program would put them.
    #[error("tensor {name:?} begins at byte {start}, which is not aligned")]
    Misaligned { name: String, start: u64 },

    /// A GGUF tensor that shares bytes with another.
    #[error("tensor {name:?} overlaps another one")]
    Overlap { name: String },

    /// A name that stands for more than one tensor.
    #[error("there is more than one tensor {name:?}")]
    DuplicateTensor { name: String },

    /// The index of a sharded checkpoint is not JSON of the expected form.
    #[error("the shard index is invalid")]
    Index(#[source] serde_json::Error),

    /// The index points outside its own folder.
    #[error("the shard index names {name:?}, which is not a file in the same folder")]
    ShardOutsideFolder { name: String },

    /// The index and the shard disagree.
    #[error("the shard index promises tensor {name:?} in {shard:?}, where it is not")]
    NotInShard { name: String, shard: String },
}

impl MalformedReason {
    pub(crate) fn at(self, path: &Path) -> WeightsError {
        WeightsError::Malformed { path: path.to_owned(), source: self }
    }
}

impl WeightsError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn unsupported_dtype(name: &str, dtype: &str, path: &Path) -> Self {
        Self::UnsupportedDtype {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            path: path.to_owned(),
        }
    }

    pub(crate) fn wrong_size(name: &str, expected: usize, found: usize) -> Self {
        Self::WrongSize { name: name.to_owned(), expected, found }
    }
}
