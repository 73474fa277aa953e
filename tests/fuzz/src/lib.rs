//! What a target does with bytes from anywhere: as the product does, to the end.

use std::fs;
use std::path::Path;

use meav_job::{CancelToken, JobCtx, Progress};
use meav_model::ModelFiles;
use meav_vector::{AlignmentVector, Delta, compare};
use meav_weights::Checkpoint;
use tempfile::TempDir;

/// Runs with a job that nobody cancels.
fn with_job<T>(run: impl FnOnce(&JobCtx<'_>) -> T) -> T {
    run(&JobCtx::new(CancelToken::default(), &|_: Progress| ()))
}

/// A folder in memory, where there is one.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder for the input")
}

/// Reads a vector and looks at everything in it.
fn read_vector(path: &Path) {
    let Ok(vector) = with_job(|job| AlignmentVector::open(path, None, job)) else { return };
    for delta in vector.deltas.values() {
        let bytes = delta.size_bytes();
        assert!(bytes < 1 << 30, "a small file became {bytes} bytes");
        if let Delta::LowRank(factors) = delta {
            assert_eq!(factors.a.len(), factors.rank * factors.shape[1]);
            assert_eq!(factors.b.len(), factors.rank * factors.shape[0]);
        }
    }
    // A few bytes can stand for more elements than there is time for.
    let elements = |delta: &Delta| {
        delta.shape().iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim)).unwrap_or(usize::MAX)
    };
    if vector.deltas.values().all(|delta| elements(delta) <= MAX_ELEMENTS) {
        let again = with_job(|job| AlignmentVector::open(path, Some(vector.fingerprint), job));
        let again = again.expect("a file that was read can be read again");
        let found = with_job(|job| compare(&[&vector, &again], None, job));
        let norms = found.expect("a vector can be compared with itself").norms;
        assert_eq!(norms[0].to_bits(), norms[1].to_bits());
    }
}

/// Elements of a tensor that are looked at one by one.
const MAX_ELEMENTS: usize = 1 << 16;

/// The bytes of a vector file.
pub fn vector_file(bytes: &[u8]) {
    let folder = folder();
    let path = folder.path().join("vector.safetensors");
    fs::write(&path, bytes).expect("the input is written");
    read_vector(&path);
}

/// The bytes of a GGUF file: as a model, tokenizer included, and each of its tensors.
pub fn gguf(bytes: &[u8]) {
    let folder = folder();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("the input is written");
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        for name in checkpoint.names() {
            if let Ok(weight) = checkpoint.load(name) {
                assert_eq!(weight.len(), weight.shape().iter().product::<usize>());
            }
        }
    }
    if let Ok(files) = ModelFiles::open(&path) {
        // Whatever the vocabulary is, text goes through it.
        let _anything = files.tokenizer.encode("Two words, 3 digits.\n", true);
    }
}

/// An adapter: the length of the configuration in two bytes, the configuration, the weights.
pub fn adapter(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let at = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (config, weights) = rest.split_at(at);
    let folder = folder();
    fs::write(folder.path().join("adapter_config.json"), config).expect("the input is written");
    let path = folder.path().join("adapter_model.safetensors");
    fs::write(path, weights).expect("the input is written");
    read_vector(folder.path());
}
