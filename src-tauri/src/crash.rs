//! Panics: a report on this machine, a sentence at the terminal, and a word at the next start.

use std::any::Any;
use std::backtrace::Backtrace;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::thread;

use jiff::Timestamp;
use meav_protocol::UserError;

/// The exit code of a program that panicked, as Rust has it.
pub(crate) const EXIT_CODE: u8 = 101;

/// The name of a report that has been told of ends in this.
const SEEN: &str = "seen.txt";

/// From now on, each panic writes a report into `folder` and says where it is.
pub(crate) fn report_panics_to(folder: PathBuf) {
    panic::set_hook(Box::new(move |info| tell(info, &folder)));
}

fn tell(info: &PanicHookInfo<'_>, folder: &Path) {
    let sentence = match write_report(folder, &report(info)) {
        Ok(path) => {
            format!("MEAV Studio had an internal error; a report is in {}", path.display())
        }
        Err(err) => format!("MEAV Studio had an internal error: {info} (no report: {err})"),
    };
    tracing::error!("{sentence}");
    // With standard error gone there is nobody left to tell.
    let _gone = writeln!(io::stderr(), "{sentence}");
}

fn report(info: &PanicHookInfo<'_>) -> String {
    let location = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    format!(
        "time: {}\nversion: {}\nsystem: {} {}\nthread: {}\nmessage: {}\nlocation: {location}\n\n{}\n",
        Timestamp::now(),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        thread::current().name().unwrap_or("unnamed"),
        without_quotations(message(info.payload())),
        Backtrace::force_capture(),
    )
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("none")
}

/// What a message quotes may be the user's: `str` shows the text that was sliced wrongly.
fn without_quotations(message: &str) -> String {
    let mut kept = message.to_owned();
    for quote in ['`', '"'] {
        if let Some(start) = kept.find(quote) {
            let end = kept.rfind(quote).filter(|end| *end > start).unwrap_or(kept.len() - 1);
            kept.replace_range(start..=end, "[…]");
        }
    }
    kept
}

fn write_report(folder: &Path, text: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    // Neither colons nor spaces, for the sake of other file systems.
    let name = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S.%6fZ.txt").to_string();
    let path = folder.join(name);
    OpenOptions::new().create_new(true).write(true).open(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}

/// What to say of reports that nobody has been told of yet; from now on somebody has.
pub(crate) fn take_unseen(folder: &Path) -> Option<UserError> {
    let mut unseen: Vec<_> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_unseen(path))
        .collect();
    unseen.sort();
    let seen: Vec<_> = unseen.iter().filter_map(|path| mark_as_seen(path)).collect();
    let newest = seen.last()?;
    let text = fs::read_to_string(newest).unwrap_or_default();
    let head = text.split("\n\n").next().unwrap_or_default();
    Some(UserError {
        detail: format!("{}\n{head}", newest.display()),
        ..UserError::new(
            "MEAV Studio had an internal error the last time",
            "Chats are kept up to that moment. Please report it, with the file named in the details",
        )
    })
}

fn is_unseen(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".txt") && !name.ends_with(SEEN)
}

fn mark_as_seen(path: &Path) -> Option<PathBuf> {
    let seen = path.with_extension(SEEN);
    let marked = fs::rename(path, &seen);
    marked.inspect_err(|err| tracing::warn!("{path:?}: {err}")).ok()?;
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests may panic at the same time; that is theirs.
    fn tell_of_panics_in(thread: &'static str, folder: PathBuf) {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() == Some(thread) {
                tell(info, &folder);
            } else {
                usual(info);
            }
        }));
    }

    #[test]
    fn panic_leaves_a_report_that_is_told_once() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("crashes");
        assert_eq!(take_unseen(&folder), None);

        tell_of_panics_in("victim", folder.clone());
        let victim = thread::Builder::new().name("victim".to_owned());
        let ended = victim.spawn(|| panic!("no place in `a secret` for {}", 3)).unwrap().join();
        assert!(ended.is_err());

        let problem = take_unseen(&folder).unwrap();
        for part in ["thread: victim", "message: no place in […] for 3", "location: ", file!()] {
            assert!(problem.detail.contains(part), "{part:?} in {:?}", problem.detail);
        }
        assert!(!problem.detail.contains("secret"));
        assert_eq!(take_unseen(&folder), None);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the report is kept");
    }

    #[test]
    fn quotations_are_left_out() {
        assert_eq!(without_quotations("plain"), "plain");
        assert_eq!(without_quotations("byte 3 of `a `b` c`, 4"), "byte 3 of […], 4");
        assert_eq!(without_quotations("Err(\"/home/ada\") `"), "Err([…]) […]");
    }
}
