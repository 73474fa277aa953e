use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meav_test_support::broken;
use meav_weights::{
    Checkpoint, Dtype, IntegerDtype, IntegerTensor, Integers, SafetensorsWriter, StoredDtype,
    StoredSpec, WeightsError, write_file_atomically,
};
use safetensors::SafeTensors;

fn spec(name: &str, dtype: StoredDtype, shape: &[usize]) -> StoredSpec {
    StoredSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

const U16: StoredDtype = StoredDtype::Integer(IntegerDtype::U16);
const U32: StoredDtype = StoredDtype::Integer(IntegerDtype::U32);
const F32: StoredDtype = StoredDtype::Float(Dtype::F32);

fn metadata(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("meav.extraction".to_owned(), text.to_owned())])
}

/// Announces `specs` and lets `push` do the rest.
fn write(
    path: &Path,
    specs: Vec<StoredSpec>,
    push: impl FnOnce(SafetensorsWriter<&mut std::fs::File>) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    write_file_atomically(path, |file| {
        push(SafetensorsWriter::with_integers(file, path, specs, metadata(&" ".repeat(64)))?)
    })
}

#[test]
fn whole_numbers_are_written_and_read_mapped_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let words = IntegerTensor::from_u32(vec![2, 1], vec![7, u32::MAX]);
    let columns = IntegerTensor::from_u16(vec![3], vec![1, 2, u16::MAX]);
    // Behind three numbers of 16 bits, those of 32 are not aligned.
    for specs in [
        [spec("words", U32, &[2, 1]), spec("columns", U16, &[3])],
        [spec("columns", U16, &[3]), spec("words", U32, &[2, 1])],
    ] {
        write(&path, specs.to_vec(), |mut writer| {
            for spec in &specs {
                writer.push(if spec.name == "words" { words.bytes() } else { columns.bytes() })?;
            }
            writer.finish()
        })
        .unwrap();
        let bytes = fs::read(&path).unwrap();
        let library = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(library.tensor("columns").unwrap().data(), columns.bytes());
        let file = Checkpoint::open(&path).unwrap();
        let (words, columns) =
            (file.load_integers("words").unwrap(), file.load_integers("columns").unwrap());
        assert_eq!((words.shape(), words.dtype()), (&[2, 1][..], IntegerDtype::U32));
        assert!(matches!(words.values(), Integers::U32([7, u32::MAX])));
        assert!(matches!(columns.values(), Integers::U16([1, 2, u16::MAX])));
        let err = file.load("words").unwrap_err();
        assert!(matches!(err, WeightsError::UnsupportedDtype { .. }), "{err:?}");
        let err = file.load_integers("other").unwrap_err();
        assert!(matches!(err, WeightsError::MissingTensor { .. }), "{err:?}");
    }
}

#[test]
fn weights_and_wider_numbers_are_no_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    for (bytes, dtype) in [(broken::integers(), "I64"), (broken::misaligned(), "F32")] {
        fs::write(&path, bytes).unwrap();
        let err = Checkpoint::open(&path).unwrap().load_integers("a").unwrap_err();
        assert_eq!(
            err.to_string(),
            format!("tensor \"a\" has dtype {dtype}, it should hold U16 or U32, in {path:?}")
        );
    }
}

#[test]
fn values_come_in_parts_and_metadata_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let specs = vec![spec("a", F32, &[2]), spec("empty", F32, &[0]), spec("b", F32, &[1])];
    let [a0, a1, b] = [1.0_f32, 2.0, 3.0].map(f32::to_le_bytes);
    write(&path, specs, |mut writer| {
        for part in [&a0[..], &a1, &[], &b[..1], &b[1..]] {
            writer.push_part(part)?;
        }
        writer.finish_with(metadata("known at last"))
    })
    .unwrap();
    let file = Checkpoint::open(&path).unwrap();
    assert_eq!(file.metadata()["meav.extraction"], "known at last");
    assert_eq!(file.load("a").unwrap().to_f32_vec(), [1.0, 2.0]);
    assert_eq!(file.load("b").unwrap().to_f32_vec(), [3.0]);
    assert!(file.load("empty").unwrap().is_empty());
}

#[test]
fn parts_that_are_no_tensor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let check = |push: fn(SafetensorsWriter<&mut std::fs::File>) -> Result<(), WeightsError>,
                 expected: &str| {
        let specs = vec![spec("a", F32, &[2]), spec("b", F32, &[1])];
        assert_eq!(write(&path, specs, push).unwrap_err().to_string(), expected);
        assert!(!path.exists());
    };
    check(
        |mut writer| writer.push_part(&[0; 9]),
        "tensor \"a\" was announced with 8 bytes and came with 9",
    );
    check(
        |mut writer| {
            writer.push_part(&[0; 4])?;
            writer.finish()
        },
        "tensor \"a\" was announced with 8 bytes and came with 4",
    );
    check(
        |mut writer| {
            writer.push_part(&[0; 4])?;
            writer.push(&[0; 4])
        },
        "tensor \"a\" was announced with 8 bytes and came with 4",
    );
    check(
        |mut writer| {
            writer.push(&[0; 8])?;
            writer.push(&[0; 4])?;
            writer.push_part(&[0; 1])
        },
        "tensor \"(none)\" was announced with 0 bytes and came with 1",
    );
    let is_header = |err: WeightsError| err.to_string().starts_with("tensor \"(header)\" was");
    let specs = vec![spec("a", F32, &[0])];
    let long = |writer: SafetensorsWriter<&mut std::fs::File>| {
        writer.finish_with(metadata(&" ".repeat(200)))
    };
    assert!(is_header(write(&path, specs, long).unwrap_err()));
    assert!(!path.exists());
}
