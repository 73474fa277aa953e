use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use meav_weights::{AtomicDir, WeightsError, write_file_atomically};

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().strip_prefix(folder).unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn write(path: &Path) -> Result<(), WeightsError> {
    write_file_atomically(path, |file| {
        file.write_all(b"new")
            .map_err(|source| WeightsError::Write { path: path.to_owned(), source })
    })
}

#[test]
fn file_is_replaced_and_folders_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/vector.safetensors");
    write(&path).unwrap();
    fs::write(&path, "something longer").unwrap();
    write(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(&folder.path().join("a/b")), [Path::new("vector.safetensors")]);
}

/// Permissions don't stop root, who may run the tests: these places can't be written by anybody.
#[test]
fn place_that_cannot_be_written_is_named_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "old").unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("kept"), "").unwrap();

    let named = |err: WeightsError| match err {
        WeightsError::Write { path, .. } => path,
        err => panic!("{err:?}"),
    };
    assert_eq!(named(write(&file.join("vector")).unwrap_err()), file);
    assert_eq!(named(write(&file.join("a").join("vector")).unwrap_err()), file.join("a"));
    assert_eq!(named(write(&full).unwrap_err()), full);
    assert_eq!(named(AtomicDir::create(&file.join("model")).unwrap_err()), file);

    assert_eq!(names(folder.path()), [Path::new("file"), Path::new("full")]);
    assert_eq!(names(&full), [Path::new("kept")]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
}

#[test]
fn folder_takes_the_place_of_an_empty_one_only() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    fs::create_dir(&target).unwrap();
    let dir = AtomicDir::create(&target).unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    // Somebody else was quicker.
    fs::write(target.join("theirs"), "").unwrap();
    let err = dir.commit().unwrap_err();
    assert!(matches!(&err, WeightsError::Write { path, .. } if *path == target), "{err:?}");
    assert_eq!(names(folder.path()), [Path::new("model")]);
    assert_eq!(names(&target), [Path::new("theirs")]);

    fs::remove_file(target.join("theirs")).unwrap();
    AtomicDir::create(&target).unwrap().commit().unwrap();
    assert!(names(&target).is_empty());
}
