use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meav_weights::{
    Checkpoint, DEFAULT_SHARD_BYTES, Dtype, MalformedReason, ShardedWriter, TensorSpec, Weight,
    WeightsError,
};
use serde_json::{Value as Json, json};

fn spec(name: &str, dtype: Dtype, len: usize) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, shape: vec![len] }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes tensors `a`, `b`, … of so many bytes, and gives the tensors of each file.
fn shards(sizes: &[usize], max_shard_bytes: u64) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let name = |index: usize| char::from(b'a' + index as u8).to_string();
    let specs: Vec<_> =
        (0..sizes.len()).map(|index| spec(&name(index), Dtype::Bf16, sizes[index] / 2)).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = ShardedWriter::new(folder.path(), specs, metadata, max_shard_bytes).unwrap();
    for (index, size) in sizes.iter().enumerate() {
        writer.push(&vec![index as u8; *size]).unwrap();
    }
    writer.finish().unwrap();

    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.names().len(), sizes.len());
    assert_eq!(checkpoint.metadata()["format"], "pt");
    for (index, size) in sizes.iter().enumerate() {
        assert_eq!(checkpoint.load(&name(index)).unwrap().bytes(), vec![index as u8; *size]);
    }
    let files: Vec<_> = checkpoint.files().iter().collect();
    let tensors = |path: &&std::path::PathBuf| {
        Checkpoint::open(path).unwrap().names().map(str::to_owned).collect()
    };
    let n_index = usize::from(files.len() > 1);
    assert_eq!(names(folder.path()).len(), files.len() + n_index);
    files.iter().map(tensors).collect()
}

#[test]
fn shards_are_filled_to_the_last_byte_and_not_beyond() {
    let expect = |sizes: &[usize], max: u64, expected: &[&[&str]]| {
        assert_eq!(shards(sizes, max), expected, "{sizes:?} in {max}");
    };
    expect(&[10, 10], 20, &[&["a", "b"]]);
    expect(&[10, 12], 20, &[&["a"], &["b"]]);
    expect(&[10, 10, 2], 20, &[&["a", "b"], &["c"]]);
    expect(&[10, 10, 20, 2], 20, &[&["a", "b"], &["c"], &["d"]]);
    // Larger than the limit: alone.
    expect(&[2, 30, 2, 2], 20, &[&["a"], &["b"], &["c", "d"]]);
    expect(&[30, 2], 20, &[&["a"], &["b"]]);
    expect(&[30], 20, &[&["a"]]);
    expect(&[2, 2, 2], 0, &[&["a"], &["b"], &["c"]]);
    expect(&[2, 2, 2], u64::MAX, &[&["a", "b", "c"]]);
}

#[test]
fn names_and_index_are_those_of_transformers() {
    assert_eq!(DEFAULT_SHARD_BYTES, 5_000_000_000);
    let folder = tempfile::tempdir().unwrap();
    let specs = vec![spec("b", Dtype::F32, 2), spec("a", Dtype::F16, 1)];
    let mut writer = ShardedWriter::new(folder.path(), specs, BTreeMap::new(), 8).unwrap();
    writer.push(&[1; 8]).unwrap();
    writer.push(&[2; 2]).unwrap();
    writer.finish().unwrap();
    let shard = |number| format!("model-0000{number}-of-00002.safetensors");
    assert_eq!(names(folder.path()), [&shard(1), &shard(2), "model.safetensors.index.json"]);
    let index = fs::read(folder.path().join("model.safetensors.index.json")).unwrap();
    let index: Json = serde_json::from_slice(&index).unwrap();
    let expected = json!({
        "metadata": { "total_size": 10 },
        "weight_map": { "a": shard(2), "b": shard(1) },
    });
    assert_eq!(index, expected);
}

#[test]
fn one_file_has_no_index() {
    for specs in [vec![], vec![spec("a", Dtype::F32, 1)]] {
        let folder = tempfile::tempdir().unwrap();
        let n_tensors = specs.len();
        let mut writer = ShardedWriter::new(folder.path(), specs, BTreeMap::new(), 8).unwrap();
        if n_tensors > 0 {
            writer.push(Weight::from_f32(vec![1], vec![0.5]).bytes()).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(names(folder.path()), ["model.safetensors"]);
        assert_eq!(Checkpoint::open(folder.path()).unwrap().names().len(), n_tensors);
    }
}

#[test]
fn values_that_are_wrong_or_missing_are_named() {
    let refusal = |tensors: &[&[u8]]| {
        let folder = tempfile::tempdir().unwrap();
        let specs = ["a", "b", "c"].map(|name| spec(name, Dtype::F32, 1)).into();
        let mut writer = ShardedWriter::new(folder.path(), specs, BTreeMap::new(), 8).unwrap();
        let pushed = tensors.iter().try_for_each(|bytes| writer.push(bytes));
        let err = pushed.and_then(|()| writer.finish()).unwrap_err();
        err.to_string().replace(folder.path().to_str().unwrap(), "")
    };
    let shard = |number| format!("\"/model-0000{number}-of-00002.safetensors\"");
    assert_eq!(refusal(&[]), format!("tensor \"a\" is missing from {}", shard(1)));
    assert_eq!(refusal(&[&[0; 4]]), format!("tensor \"b\" is missing from {}", shard(1)));
    assert_eq!(refusal(&[&[0; 4][..]; 2]), format!("tensor \"c\" is missing from {}", shard(2)));
    assert_eq!(refusal(&[&[0; 5]]), "tensor \"a\" was announced with 4 bytes and came with 5");
    assert_eq!(
        refusal(&[&[0; 4][..]; 4]),
        "tensor \"(none)\" was announced with 0 bytes and came with 4"
    );
}

#[test]
fn names_and_shapes_that_no_file_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let reason = |specs| match ShardedWriter::new(folder.path(), specs, BTreeMap::new(), 8) {
        Err(WeightsError::Malformed { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    // Also where the two would lie in different files.
    let twice = vec![spec("a", Dtype::F32, 2), spec("a", Dtype::F32, 2)];
    assert!(matches!(reason(twice), MalformedReason::DuplicateTensor { name } if name == "a"));
    let endless = vec![spec("a", Dtype::F32, 2), spec("b", Dtype::F32, usize::MAX / 2)];
    assert!(matches!(reason(endless), MalformedReason::Shape { name, .. } if name == "b"));
    assert!(names(folder.path()).is_empty());
}
