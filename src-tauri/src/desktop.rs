//! What this desktop offers, looked up before it is used.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use std::{env, thread};

use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::blocking::fdo::{DBusProxy, PropertiesProxy};

/// How long anyone on the bus may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a window may wait for all of this; it takes some ten milliseconds, beside others.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(500);

const PORTAL: &str = "org.freedesktop.portal.Desktop";
const TRAY_HOST: &str = "org.kde.StatusNotifierWatcher";

/// The libraries that draw a tray entry, the one to prefer first.
const INDICATORS: [&str; 2] = ["libayatana-appindicator3.so.1", "libappindicator3.so.1"];

/// What this desktop offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desktop {
    /// Whether there are dialogs that pick files; otherwise why not.
    pub(crate) dialogs: Result<(), String>,
    /// Whether a tray entry can be made: there is a bus to offer it on, and the library, without
    /// which trying ends the program.
    pub(crate) has_indicator: bool,
    /// Whether a tray entry would be seen.
    pub(crate) has_tray_host: bool,
}

impl Desktop {
    /// What is assumed where the desktop takes too long to tell.
    fn unknown() -> Self {
        Self { dialogs: Ok(()), has_indicator: false, has_tray_host: false }
    }

    fn look() -> Self {
        let names = names_on_the_bus().inspect_err(|err| tracing::info!("session bus: {err}"));
        let has = |name: &str| names.as_ref().is_ok_and(|names| names.iter().any(|it| it == name));
        let dialogs = if has(PORTAL) || has_zenity() {
            Ok(())
        } else if names.is_ok() {
            Err("This desktop has no portal for file dialogs, and zenity is not installed".into())
        } else {
            Err("There is no session bus for file dialogs, and zenity is not installed".into())
        };
        let has_indicator = names.is_ok() && has_indicator();
        Self { dialogs, has_indicator, has_tray_host: has(TRAY_HOST) }
    }

    /// Whether a window can be taken off the screen and got back from the tray.
    pub(crate) fn can_hide_into_tray(&self) -> bool {
        self.has_indicator && self.has_tray_host && !is_wayland()
    }
}

/// A look at the desktop on a thread of its own.
#[derive(Debug)]
pub(crate) struct Lookup(Receiver<Desktop>);

impl Lookup {
    /// Begins to look.
    pub(crate) fn start() -> Self {
        let (found, result) = sync_channel(1);
        // Who waited too long listens no more.
        let look = move || drop(found.send(Desktop::look()));
        if let Err(err) = thread::Builder::new().name("desktop".to_owned()).spawn(look) {
            tracing::warn!("cannot look at the desktop: {err}");
        }
        Self(result)
    }

    /// What was found; waits for it, but not for long.
    pub(crate) fn wait(&self) -> Desktop {
        self.0.recv_timeout(LOOKUP_PATIENCE).unwrap_or_else(|err| {
            tracing::warn!("looking at the desktop: {err}");
            Desktop::unknown()
        })
    }
}

/// Whether the window is on Wayland, which lets no program hide and show windows.
fn is_wayland() -> bool {
    ["WAYLAND_DISPLAY", "WAYLAND_SOCKET"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn session_bus() -> zbus::Result<Connection> {
    Builder::session()?.method_timeout(PATIENCE).build()
}

/// Those that run and those that start when they are needed.
fn names_on_the_bus() -> zbus::Result<Vec<String>> {
    let connection = session_bus()?;
    let bus = DBusProxy::new(&connection)?;
    let running = bus.list_names()?;
    let startable = bus.list_activatable_names()?;
    Ok(running.into_iter().chain(startable).map(|name| name.to_string()).collect())
}

/// Whether files can be picked now; starts the portal if it doesn't run yet, so it may take long.
pub(crate) fn can_pick_files() -> bool {
    has_zenity() || has_file_chooser().unwrap_or(false)
}

/// A portal may be there without the part that picks files.
fn has_file_chooser() -> zbus::Result<bool> {
    let connection = session_bus()?;
    let portal = PropertiesProxy::builder(&connection)
        .destination(PORTAL)?
        .path("/org/freedesktop/portal/desktop")?
        .build()?;
    let chooser = "org.freedesktop.portal.FileChooser".try_into()?;
    Ok(portal.get(chooser, "version").is_ok())
}

fn has_zenity() -> bool {
    folders_in("PATH").iter().any(|folder| folder.join("zenity").is_file())
}

fn has_indicator() -> bool {
    let cache = library_cache();
    let is_in = |folder: &Path, name: &&str| folder.join(name).is_file();
    let overrides = folders_in("LD_LIBRARY_PATH");
    INDICATORS.iter().any(|name| {
        lists_library(&cache, name) || overrides.iter().any(|folder| is_in(folder, name))
    })
}

/// What the dynamic linker knows; empty where it can't be asked.
fn library_cache() -> String {
    // Not on the path of everyone who isn't root.
    let output = Command::new("/sbin/ldconfig").arg("-p").output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(err) => {
            tracing::info!("ldconfig: {err}");
            String::new()
        }
    }
}

/// Each line is `name (kind) => path`.
fn lists_library(cache: &str, name: &str) -> bool {
    cache.lines().any(|line| line.split_whitespace().next() == Some(name))
}

fn folders_in(variable: &str) -> Vec<PathBuf> {
    env::var_os(variable).map(|value| env::split_paths(&value).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_is_found_by_its_whole_name() {
        let cache = "2 libs found in cache `/etc/ld.so.cache'\n\
            \tlibayatana-appindicator3.so.1 (libc6,x86-64) => /lib/libayatana-appindicator3.so.1\n\
            \tlibc.so.6 (libc6,x86-64) => /lib/libc.so.6\n";
        assert!(lists_library(cache, INDICATORS[0]));
        assert!(!lists_library(cache, INDICATORS[1]));
        assert!(!lists_library(cache, "libayatana-appindicator3.so"));
        assert!(!lists_library("", INDICATORS[0]));
    }
}
