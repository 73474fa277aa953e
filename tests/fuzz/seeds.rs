//! Writes the inputs that fuzzing starts from: small valid files of every kind.

use std::fs;
use std::path::Path;

use meav_job::JobCtx;
use meav_test_support::{
    GgufType, TINY, TinyModel, tiny_adapter, tiny_dense_vector, tiny_gguf, tiny_low_rank_vector,
};
use meav_vector::{AlignmentVector, Compression, compress, save};

const SMALL: TinyModel = TinyModel {
    hidden_size: 32,
    intermediate_size: 32,
    n_layers: 1,
    n_heads: 2,
    n_kv_heads: 1,
    head_dim: 16,
    ..TINY
};

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in ["vector_file", "gguf", "adapter"] {
        fs::create_dir_all(seeds.join(target)).expect("the folder is made");
    }
    let mut dense = tiny_dense_vector(&SMALL, "medical", 1);
    dense.tensors.truncate(4);
    let vectors = seeds.join("vector_file");
    let whole = vectors.join("dense");
    fs::write(&whole, dense.bytes()).expect("the seed is written");
    let mut low_rank = tiny_low_rank_vector(&SMALL, "legal", 2);
    low_rank.tensors.truncate(4);
    fs::write(vectors.join("low_rank"), low_rank.bytes()).expect("the seed is written");
    let read = seeds.join("vector_file/dense.safetensors");
    fs::copy(&whole, &read).expect("the seed is copied");
    let vector = AlignmentVector::open(&read, None, &JobCtx::detached()).expect("a valid vector");
    for (name, how) in
        [("sparse", Compression::Trim { density: 0.01 }), ("sign", Compression::Sign)]
    {
        let (smaller, _) =
            compress(&vector, how, None, &JobCtx::detached()).expect("a smaller vector");
        save(&smaller, None, &vectors.join(name), &JobCtx::detached()).expect("a valid file");
    }
    fs::remove_file(read).expect("the copy goes");

    for (name, kind) in [("f32", GgufType::F32), ("q8_0", GgufType::Q8_0)] {
        let path = seeds.join("gguf").join(name);
        tiny_gguf(&SMALL, kind).write(&path);
    }

    let folder = tempfile::tempdir().expect("a folder");
    let mut adapter = tiny_adapter(&SMALL, 3);
    adapter.tensors.truncate(4);
    adapter.write(folder.path());
    let part = |name: &str| fs::read(folder.path().join(name)).expect("it was written");
    let config = part("adapter_config.json");
    let length = u16::try_from(config.len()).expect("a short configuration").to_le_bytes();
    let seed = [&length[..], &config, &part("adapter_model.safetensors")].concat();
    fs::write(seeds.join("adapter/plain"), seed).expect("the seed is written");
}
