//! Which crate may depend on which, held against what cargo says.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// What each crate may use of the others.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("meav-cuda", &[]),
    ("meav-job", &[]),
    ("meav-weights", &["meav-job"]),
    ("meav-vector", &["meav-cuda", "meav-job", "meav-weights"]),
    ("meav-model", &["meav-cuda", "meav-job", "meav-weights", "meav-vector"]),
    ("meav-data", &["meav-job"]),
    ("meav-protocol", &[]),
    (
        "meav-train",
        &["meav-cuda", "meav-job", "meav-weights", "meav-model", "meav-data", "meav-protocol"],
    ),
    ("meav-eval", &["meav-job", "meav-model", "meav-data", "meav-protocol"]),
    (
        "meav-engine",
        &[
            "meav-cuda",
            "meav-job",
            "meav-weights",
            "meav-vector",
            "meav-model",
            "meav-data",
            "meav-eval",
            "meav-train",
            "meav-protocol",
        ],
    ),
    ("meav-client", &["meav-protocol"]),
    ("meav-cli", &["meav-client", "meav-protocol"]),
    ("meav-ui", &["meav-protocol"]),
    ("meav-studio", &["meav-client", "meav-protocol", "meav-ui"]),
    ("meav-test-support", &[]),
    ("xtask", &[]),
    ("meav-tests", &[]),
];

/// Only what computes may know candle.
const CANDLE: [&str; 6] =
    ["meav-cuda", "meav-weights", "meav-vector", "meav-model", "meav-train", "meav-engine"];

/// Only the window, its contents and what drives it in tests may know what draws it.
const EGUI: [&str; 3] = ["meav-ui", "meav-studio", "meav-tests"];

/// Only formats on disk and the protocol are serialised; engine, command, app, test support and
/// set-up write or read them.
const SERDE: [&str; 13] = [
    "meav-train",
    "meav-data",
    "meav-eval",
    "meav-weights",
    "meav-vector",
    "meav-model",
    "meav-protocol",
    "meav-engine",
    "meav-cli",
    "meav-ui",
    "meav-studio",
    "meav-test-support",
    "xtask",
];

fn normal_dependencies(package: &Package) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.clone())
        .collect()
}

fn workspace() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    metadata
        .packages
        .iter()
        .map(|package| (package.name.to_string(), normal_dependencies(package)))
        .collect()
}

#[test]
fn crates_use_only_those_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let workspace = workspace();
    for (name, dependencies) in &workspace {
        let allowed = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no place in the layering yet"));
        let own: Vec<_> = dependencies
            .iter()
            .filter(|dependency| workspace.contains_key(*dependency))
            .filter(|dependency| !allowed.contains(&dependency.as_str()))
            .collect();
        assert!(own.is_empty(), "{name} must not use {own:?}");
    }
}

#[test]
fn outside_libraries_stay_on_their_side_of_the_process_boundary() {
    for (name, dependencies) in workspace() {
        let uses = |prefix: &str| dependencies.iter().any(|it| it.starts_with(prefix));
        assert!(!uses("candle") || CANDLE.contains(&name.as_str()), "{name} must not use candle");
        assert!(!uses("tauri") || name == "meav-studio", "{name} must not use tauri");
        let draws = uses("egui") || uses("eframe");
        assert!(!draws || EGUI.contains(&name.as_str()), "{name} must not use egui");
        assert!(!uses("serde") || SERDE.contains(&name.as_str()), "{name} must not use serde");
        assert!(!uses("anyhow") || name == "xtask", "{name} must have errors of its own");
    }
}
