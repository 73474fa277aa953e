//! What fuzzing starts from, and what it found worth keeping, answered with a sentence.

use std::fs;
use std::path::Path;

use crate::support::{Home, describe};

#[test]
fn every_seed_is_answered_with_a_sentence() {
    let home = Home::empty();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, name) in
        [("vector_file", "vector.safetensors"), ("gguf", "model.gguf"), ("adapter", "adapter")]
    {
        let mut n_read = 0;
        let mut n_seeds = 0;
        for seed in fs::read_dir(seeds.join(target)).unwrap().map(Result::unwrap) {
            let bytes = fs::read(seed.path()).unwrap();
            let path = home.path().join(name);
            if target == "adapter" {
                write_adapter(&path, &bytes);
            } else {
                fs::write(&path, &bytes).unwrap();
            }
            let output = home.meav(&["info", path.to_str().unwrap()]);
            let words = String::from_utf8_lossy(&output.stderr);
            let is_sentence = words.contains("error: ") && !words.contains("Internal error");
            match output.status.code() {
                Some(0) => n_read += 1,
                Some(1) if is_sentence => {}
                _ => panic!("{}: {}", seed.path().display(), describe(&output)),
            }
            n_seeds += 1;
        }
        assert!(n_read > 0, "no seed of {target} is valid");
        assert!(n_read < n_seeds || target != "gguf", "no seed of {target} is damaged");
    }
}

/// The length of the configuration in two bytes, the configuration, the weights.
fn write_adapter(folder: &Path, bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let at = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("adapter_config.json"), &rest[..at]).unwrap();
    fs::write(folder.join("adapter_model.safetensors"), &rest[at..]).unwrap();
}
