use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use meav_weights::{
    Checkpoint, Dtype, MalformedReason, SafetensorsWriter, TensorSpec, Weight, WeightsError,
    write_file_atomically,
};
use safetensors::SafeTensors;

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

/// Announces `specs`, pushes `tensors` and ends.
fn write(path: &Path, specs: Vec<TensorSpec>, tensors: &[&[u8]]) -> Result<(), WeightsError> {
    let metadata = BTreeMap::from([("meav.domain".to_owned(), "médical \"x\"".to_owned())]);
    write_file_atomically(path, |file| {
        let mut writer = SafetensorsWriter::new(file, path, specs, metadata)?;
        for bytes in tensors {
            writer.push(bytes)?;
        }
        writer.finish()
    })
}

#[test]
fn what_is_written_is_read_by_the_library_and_by_us() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("vector.safetensors");
    let values: Vec<f32> = (0..6).map(|i| i as f32 - 2.5).collect();
    let dtypes = [("a", Dtype::Bf16), ("c", Dtype::F16), ("b", Dtype::F32)];
    let weights: Vec<_> = dtypes
        .iter()
        .map(|(_, dtype)| Weight::from_f32(vec![2, 3], values.clone()).to_dtype(*dtype))
        .collect();
    let specs = dtypes.iter().map(|(name, dtype)| spec(name, *dtype, &[2, 3])).collect();
    let bytes: Vec<_> = weights.iter().map(Weight::bytes).collect();
    write(&path, specs, &bytes).unwrap();

    let file = fs::read(&path).unwrap();
    let (header_len, header) = SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(header_len % 8, 0);
    assert_eq!(header.metadata().as_ref().unwrap()["meav.domain"], "médical \"x\"");
    let library = SafeTensors::deserialize(&file).unwrap();
    let ours = Checkpoint::open(&path).unwrap();
    for ((name, dtype), weight) in dtypes.iter().zip(&weights) {
        assert_eq!(library.tensor(name).unwrap().data(), weight.bytes());
        assert_eq!(library.tensor(name).unwrap().shape(), [2, 3]);
        let read = ours.load(name).unwrap();
        assert_eq!((read.dtype(), read.bytes()), (*dtype, weight.bytes()));
    }
    assert_eq!(ours.metadata()["meav.domain"], "médical \"x\"");
}

#[test]
fn file_may_be_read_by_whoever_may_read_any_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write(&ours, vec![], &[]).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ours), mode(&plain));
    assert_ne!(mode(&ours), 0o600);
}

#[test]
fn values_of_another_size_than_announced_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let announced = || vec![spec("a", Dtype::F32, &[2]), spec("b", Dtype::F16, &[3])];
    let check = |tensors: &[&[u8]], expected: &str| {
        let err = write(&path, announced(), tensors).unwrap_err();
        assert_eq!(err.to_string(), expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left");
    };
    check(&[&[0; 7]], "tensor \"a\" was announced with 8 bytes and came with 7");
    check(&[&[0; 8], &[0; 8]], "tensor \"b\" was announced with 6 bytes and came with 8");
    check(
        &[&[0; 8], &[0; 6], &[0; 1]],
        "tensor \"(none)\" was announced with 0 bytes and came with 1",
    );
    check(&[&[0; 8]], &format!("tensor \"b\" is missing from {path:?}"));
}

#[test]
fn names_and_shapes_that_no_file_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let reason = |specs| match write(&path, specs, &[]).unwrap_err() {
        WeightsError::Malformed { path: named, source } => {
            assert_eq!(named, path);
            source
        }
        err => panic!("{err:?}"),
    };
    let twice = vec![spec("a", Dtype::F32, &[1]), spec("a", Dtype::F32, &[1])];
    assert!(matches!(reason(twice), MalformedReason::DuplicateTensor { name } if name == "a"));
    for shape in [vec![1 << 40, 1 << 40], vec![usize::MAX / 2]] {
        let specs = vec![spec("a", Dtype::F32, &[1]), spec("b", Dtype::F32, &shape)];
        assert!(matches!(reason(specs), MalformedReason::Shape { name, .. } if name == "b"));
    }
}

#[test]
fn full_disk_is_reported_with_the_files_name() {
    let mut file = File::options().write(true).open("/dev/full").unwrap();
    let path = Path::new("vector.safetensors");
    let err = SafetensorsWriter::new(&mut file, path, vec![], BTreeMap::new()).unwrap_err();
    let WeightsError::Write { path: named, source } = &err else { panic!("{err:?}") };
    assert_eq!(named, path);
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
}
