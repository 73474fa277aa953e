use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use meav_test_support::{GgufType, TINY, TinyModel, tiny_gguf, tiny_model};
use meav_weights::Checkpoint;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Whatever the bytes are, this returns.
fn open_and_load(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["hostile.safetensors", "hostile.gguf"] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        load_all(&path);
    }
}

fn load_all(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    for name in checkpoint.names() {
        if let Ok(weight) = checkpoint.load(name) {
            assert_eq!(weight.to_f32_vec().len(), weight.len());
        }
    }
    checkpoint.parameter_count();
    checkpoint.dtype();
}

const SMALL: TinyModel =
    TinyModel { hidden_size: 32, intermediate_size: 32, n_layers: 1, n_heads: 2, ..TINY };

static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut model = tiny_model(&SMALL);
    model.tensors.retain(|tensor| tensor.name.contains("layers"));
    let folder = model.in_temp_dir();
    fs::read(folder.path().join("model.safetensors")).unwrap()
});

static GGUF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut gguf = tiny_gguf(&SMALL, GgufType::Q8_0);
    gguf.metadata.retain(|key, _| !key.starts_with("tokenizer"));
    gguf.tensors.retain(|tensor| tensor.name.contains("blk"));
    gguf.bytes()
});

/// Most changes hit the header, which is where harm could be done.
fn mutated(file: &'static LazyLock<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..6);
    (changes, any::<bool>(), any::<Index>()).prop_map(|(changes, is_cut, end)| {
        let mut bytes = file.to_vec();
        for (at, is_in_header, value) in changes {
            let len = if is_in_header { bytes.len().min(1500) } else { bytes.len() };
            bytes[at.index(len)] = value;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

#[test]
fn unchanged_files_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("a.safetensors", &*SAFETENSORS), ("a.gguf", &*GGUF)] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().names().len(), 9);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_opened_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        open_and_load(&bytes);
    }

    #[test]
    fn any_header_is_opened_or_refused(header in "[\\[\\]{}\":,a-c0-9 FIB]{0,80}", len in 0..200_u64) {
        let bytes = [&len.to_le_bytes(), header.as_bytes()].concat();
        open_and_load(&bytes);
    }

    #[test]
    fn any_bytes_behind_the_magic_number_are_opened_or_refused(
        version in 0..5_u32,
        bytes in vec(prop_oneof![Just(0_u8), 0..16_u8, any::<u8>()], 0..400),
    ) {
        open_and_load(&[b"GGUF", &version.to_le_bytes()[..], &bytes].concat());
    }

    #[test]
    fn changed_safetensors_files_are_opened_or_refused(bytes in mutated(&SAFETENSORS)) {
        open_and_load(&bytes);
    }

    #[test]
    fn changed_gguf_files_are_opened_or_refused(bytes in mutated(&GGUF)) {
        open_and_load(&bytes);
    }
}
