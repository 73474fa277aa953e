//! Checks `tauri.conf.json` and what it refers to.

fn main() {
    tauri_build::build();
}
