use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meav_job::JobCtx;
use serde::Deserialize;

use crate::gguf::{GgufEntry, GgufFile};
use crate::safetensors_file::{SafetensorsEntry, SafetensorsFile};
use crate::{
    Dtype, Fingerprint, Fingerprinter, IntegerTensor, MalformedReason, Weight, WeightsError,
};

/// The tensors of one model or vector, by Hugging Face name.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<PathBuf>,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    gguf: Option<Arc<GgufFile>>,
}

#[derive(Debug)]
enum Entry {
    Safetensors(SafetensorsEntry),
    Gguf(GgufEntry),
}

/// How the tensors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointFormat {
    /// One or several safetensors files.
    Safetensors,
    /// One GGUF file.
    Gguf,
}

/// What is known of a tensor without reading its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// As the file spells it: `BF16`, `I64`, `Q4_1`, …
    pub stored_dtype: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

impl Checkpoint {
    /// Opens a folder with `model.safetensors` or its shards, a safetensors file, or a GGUF file.
    ///
    /// Reads headers only: values stay in the file until [`Checkpoint::load`].
    ///
    /// # Errors
    ///
    /// [`WeightsError`] that names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let metadata = fs::metadata(path).map_err(WeightsError::read(path))?;
        if metadata.is_dir() {
            return Self::open_folder(path);
        }
        if !metadata.is_file() {
            return Err(WeightsError::UnknownFormat { path: path.to_owned() });
        }
        let mut start = [0; 4];
        let is_gguf = fs::File::open(path)
            .and_then(|mut file| std::io::Read::read(&mut file, &mut start))
            .map_err(WeightsError::read(path))?
            == start.len()
            && start == *b"GGUF";
        if is_gguf {
            return Self::open_gguf(path);
        }
        let is_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        if metadata.len() > 0 && !is_safetensors {
            let is_cut_gguf = path.extension().is_some_and(|extension| extension == "gguf");
            if !is_cut_gguf {
                return Err(WeightsError::UnknownFormat { path: path.to_owned() });
            }
            return Self::open_gguf(path);
        }
        let file = SafetensorsFile::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            files: vec![path.to_owned()],
            entries: wrap(file.entries),
            metadata: file.metadata,
            gguf: None,
        })
    }

    fn open_folder(path: &Path) -> Result<Self, WeightsError> {
        let index_path = path.join(INDEX_FILE);
        if index_path.is_file() {
            return Self::open_shards(path, &index_path);
        }
        let single = path.join(SINGLE_FILE);
        if !single.is_file() {
            return Err(WeightsError::NoWeights { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), ..Self::open(&single)? })
    }

    fn open_shards(path: &Path, index_path: &Path) -> Result<Self, WeightsError> {
        let text = fs::read(index_path).map_err(WeightsError::read(index_path))?;
        let index: ShardIndex = serde_json::from_slice(&text)
            .map_err(|err| MalformedReason::Index(err).at(index_path))?;
        let mut shards: BTreeMap<String, SafetensorsFile> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (name, shard) in index.weight_map {
            if Path::new(&shard).file_name() != Some(shard.as_ref()) {
                return Err(MalformedReason::ShardOutsideFolder { name: shard }.at(index_path));
            }
            if !shards.contains_key(&shard) {
                shards.insert(shard.clone(), SafetensorsFile::open(&path.join(&shard))?);
            }
            match shards[&shard].entries.get(&name) {
                Some(entry) => entries.insert(name, Entry::Safetensors(entry.clone())),
                None => return Err(MalformedReason::NotInShard { name, shard }.at(index_path)),
            };
        }
        let files = shards.keys().map(|shard| path.join(shard)).collect();
        let metadata = shards.into_values().flat_map(|shard| shard.metadata).collect();
        Ok(Self { path: path.to_owned(), files, entries, metadata, gguf: None })
    }

    fn open_gguf(path: &Path) -> Result<Self, WeightsError> {
        let (file, entries) = GgufFile::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            files: vec![path.to_owned()],
            entries: entries.into_iter().map(|(name, entry)| (name, Entry::Gguf(entry))).collect(),
            metadata: BTreeMap::new(),
            gguf: Some(file),
        })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// How the tensors are stored.
    pub fn format(&self) -> CheckpointFormat {
        if self.gguf.is_some() { CheckpointFormat::Gguf } else { CheckpointFormat::Safetensors }
    }

    /// The GGUF's own metadata, where it is one.
    pub fn gguf(&self) -> Option<&GgufFile> {
        self.gguf.as_deref()
    }

    /// The string metadata of the safetensors files, of all shards together.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of the tensors, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What is known of a tensor without reading its values.
    pub fn info(&self, name: &str) -> Option<TensorInfo> {
        Some(match self.entries.get(name)? {
            Entry::Safetensors(entry) => TensorInfo {
                stored_dtype: format!("{:?}", entry.dtype),
                shape: entry.shape.clone(),
            },
            Entry::Gguf(entry) => {
                TensorInfo { stored_dtype: entry.stored.to_string(), shape: entry.shape.clone() }
            }
        })
    }

    /// The number of elements of all tensors together.
    pub fn parameter_count(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| match entry {
                Entry::Safetensors(entry) => &entry.shape,
                Entry::Gguf(entry) => &entry.shape,
            })
            .map(|shape| shape.iter().product::<usize>() as u64)
            .sum()
    }

    /// The type that most elements have after loading: `f32` for a GGUF.
    pub fn dtype(&self) -> Dtype {
        let mut elements = BTreeMap::<Dtype, usize>::new();
        for entry in self.entries.values() {
            if let Entry::Safetensors(SafetensorsEntry { dtype, shape, .. }) = entry
                && let Some(dtype) = Dtype::from_safetensors(*dtype)
            {
                *elements.entry(dtype).or_default() += shape.iter().product::<usize>();
            }
        }
        elements.into_iter().max_by_key(|(_, n)| *n).map_or(Dtype::F32, |(dtype, _)| dtype)
    }

    /// A tensor's values: mapped, or dequantised to `f32`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::MissingTensor`], [`WeightsError::UnsupportedDtype`].
    pub fn load(&self, name: &str) -> Result<Weight, WeightsError> {
        match self.entries.get(name) {
            Some(Entry::Safetensors(entry)) => entry.load(name),
            Some(Entry::Gguf(entry)) => entry.load(name),
            None => {
                Err(WeightsError::MissingTensor { name: name.to_owned(), path: self.path.clone() })
            }
        }
    }

    /// A tensor of unsigned whole numbers, mapped; a GGUF has none.
    ///
    /// # Errors
    ///
    /// [`WeightsError::MissingTensor`], [`WeightsError::NotIntegers`].
    pub fn load_integers(&self, name: &str) -> Result<IntegerTensor, WeightsError> {
        match self.entries.get(name) {
            Some(Entry::Safetensors(entry)) => entry.load_integers(name),
            Some(Entry::Gguf(entry)) => Err(WeightsError::NotIntegers {
                name: name.to_owned(),
                dtype: entry.stored.to_string(),
                path: self.path.clone(),
            }),
            None => {
                Err(WeightsError::MissingTensor { name: name.to_owned(), path: self.path.clone() })
            }
        }
    }

    /// The identity of the values, whatever the files are called; see [`Fingerprinter`].
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::load`]; [`WeightsError::Cancelled`] between two tensors.
    pub fn fingerprint(&self, job: &JobCtx<'_>) -> Result<Fingerprint, WeightsError> {
        let mut fingerprinter = Fingerprinter::default();
        for (index, name) in self.names().enumerate() {
            job.tick(index, self.names().len())?;
            fingerprinter.add(name, &self.load(name)?);
        }
        Ok(fingerprinter.finish())
    }
}

fn wrap(entries: BTreeMap<String, SafetensorsEntry>) -> BTreeMap<String, Entry> {
    entries.into_iter().map(|(name, entry)| (name, Entry::Safetensors(entry))).collect()
}

impl fmt::Display for CheckpointFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "GGUF",
        })
    }
}
