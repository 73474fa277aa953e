use std::fs;

use meav_job::{CancelToken, JobCtx};
use meav_test_support::broken;
use meav_weights::{Checkpoint, WeightsError, set_metadata};

const HEADER: &str =
    r#"{"__metadata__":{"a":"1"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

#[test]
fn entry_is_set_and_everything_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    let data = [1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat();
    for header in [HEADER, &HEADER.replace(r#""__metadata__":{"a":"1"},"#, "")] {
        fs::write(&path, broken::with_header(header, &data)).unwrap();
        let before = Checkpoint::open(&path).unwrap().fingerprint(&JobCtx::detached()).unwrap();
        for value in ["first \"quoted\" λ", "second, which is much longer than the first one was"]
        {
            set_metadata(&path, "meav.calibration", value, &JobCtx::detached()).unwrap();
            let checkpoint = Checkpoint::open(&path).unwrap();
            assert_eq!(checkpoint.metadata()["meav.calibration"], value);
            let a = checkpoint.metadata().get("a").map(String::as_str);
            assert_eq!(a, header.contains("metadata").then_some("1"));
            assert_eq!(checkpoint.fingerprint(&JobCtx::detached()).unwrap(), before);
            let bytes = fs::read(&path).unwrap();
            assert!(bytes.ends_with(&data) && (bytes.len() - data.len()).is_multiple_of(8));
        }
    }
}

#[test]
fn broken_and_cancelled_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vector.safetensors");
    for (name, bytes) in broken::all() {
        fs::write(&path, &bytes).unwrap();
        assert!(set_metadata(&path, "k", "v", &JobCtx::detached()).is_err(), "{name}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
    }
    let bytes = broken::with_header(HEADER, &[0; 8]);
    fs::write(&path, &bytes).unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    let result = set_metadata(&path, "k", "v", &JobCtx::new(cancel, &|_| {}));
    assert!(matches!(result, Err(WeightsError::Cancelled(_))));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(set_metadata(folder.path(), "k", "v", &JobCtx::detached()).is_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
