//! Disks that are full or can only be read, as small file systems in a namespace of their own.

use std::path::Path;
use std::process::{Command, Output};

use meav_test_support::{TINY, tiny_adapter, tiny_model};

use crate::support::{Home, demo_model, describe, programs, str};
use crate::train::short_records;

/// Runs a shell script with `$MEAV` where `$DISK` is a file system of `size`.
fn on_small_disk(size: &str, disk: &Path, script: &str) -> Output {
    let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$DISK\" && {script}");
    Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &mount])
        .env("MEAV", programs().join("meav"))
        .env("DISK", disk)
        .env("DEMO", demo_model())
        .output()
        .unwrap()
}

#[test]
fn full_disk_is_named_and_keeps_nothing_half_written() {
    let home = Home::with_demo();
    let disk = home.path().join("disk");
    let adapter = home.path().join("adapter");
    std::fs::create_dir(&disk).unwrap();
    tiny_adapter(&TINY, 1).write(&adapter);
    tiny_model(&TINY).write(&home.path().join("model"));
    let home_variable = format!("export MEAV_HOME=\"{}\"; cd \"{0}\";", home.path().display());
    for (size, command) in [
        // Fills up in the middle of the file.
        (
            "16k",
            "vector import adapter --base model --domain legal --out \"$DISK/legal.safetensors\"",
        ),
        // Is seen to be too small before the first byte.
        ("1m", "merge --model demo --out \"$DISK/merged\""),
    ] {
        let script =
            format!("{home_variable} \"$MEAV\" {command}; code=$?; ls -A \"$DISK\"; exit $code");
        let output = on_small_disk(size, &disk, &script);
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains("The disk is full") || error.contains("Not enough disk space"),
            "{error}"
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "something was left");
    }
}

/// A disk that fills up while a run trains, and one that can only be read from the start.
#[test]
fn run_folder_on_a_full_or_read_only_disk_is_named() {
    let home = Home::empty();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    tiny_model(&TINY).write(&home.path().join("model"));
    let data = short_records(&home, 6);
    let train = format!(
        "export MEAV_HOME=\"{0}\"; cd \"{0}\"; train() {{ \"$MEAV\" train --model model --data {1} \
         --out \"$DISK/run\" --batch 1 --epochs 500 --checkpoint-every 1; }};",
        home.path().display(),
        str(&data)
    );
    let full = format!(
        "{train} train & until ls \"$DISK\"/run/checkpoints/step-* > /dev/null 2>&1 || \
         ! kill -0 $!; do sleep 0.02; done; cat /dev/zero > \"$DISK/fill\" 2>/dev/null; wait $!; \
         echo \"code $?\"; ls -A \"$DISK/run\" \"$DISK/run/checkpoints\""
    );
    let output = on_small_disk("64m", &disk, &full);
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.starts_with("code 1\n"), "{}", describe(&output));
    assert!(error.contains("The disk is full"), "{error}");
    assert!(out.contains("step-0") && !out.contains(".meav-"), "{out}");
    assert!(!out.contains("vector.safetensors"), "{out}");

    let read_only = format!("{train} mount -o remount,ro \"$DISK\"; train");
    let output = on_small_disk("64m", &disk, &read_only);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert!(error.contains("is on a disk that can only be read"), "{error}");
}

#[test]
fn store_that_can_only_be_read_refuses_downloads_and_still_chats() {
    let home = Home::with_demo();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -o remount,ro \"$DISK\" && export MEAV_HOME=\"$DISK\" && \
                  \"$MEAV\" model fetch demo; echo \"code $?\"; \
                  \"$MEAV\" chat --model \"$DEMO\" --prompt 'What is the capital of France?' \
                  --temperature 0";
    let output = on_small_disk("1m", &disk, script);
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "code 1\nThe capital of France is Paris.\n", "{}", describe(&output));
    assert!(error.contains("is on a disk that can only be read"), "{error}");
    assert!(error.contains("note: nothing is kept"), "{error}");
    assert!(error.contains(str(&disk)), "{error}");
}
