use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use meav_protocol::{Command, Event, PROTOCOL_VERSION, read_frame};

use crate::compute::Compute;
use crate::control::{Control, Input};
use crate::folders::Folders;
use crate::outbox::{OUTBOX_LEN, Outbox, write_events};
use crate::worker::Worker;
use crate::workspace::Librarian;

/// Commands that wait while control is busy, which it never is for long.
const INBOX_LEN: usize = 256;

/// Serves one client until its stream ends, then ends the running job and returns.
///
/// # Errors
///
/// An [`io::Error`] if threads can't be started.
pub(crate) fn serve(
    reader: impl Read + Send + 'static,
    mut writer: impl Write + Send + 'static,
    folders: &Folders,
    compute: Compute,
    log: Option<PathBuf>,
) -> io::Result<()> {
    let (outbox, events) = sync_channel(OUTBOX_LEN);
    let outbox = Outbox::new(outbox);
    outbox.send(Event::Hello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: compute.name().to_owned(),
        log: log.clone(),
    });
    let (inbox, inputs) = sync_channel(INBOX_LEN);
    let unheard = inbox.clone();
    let writing = spawn("events", move || {
        if let Err(err) = write_events(&events, &mut writer) {
            tracing::error!("events: {err}");
            // Nobody hears what is found any more. Control may have gone already.
            let _gone = unheard.send(Input::Closed);
        }
    })?;
    // This thread ends with the client's stream; where that never happens, with the process.
    let commands = inbox.clone();
    spawn("commands", move || {
        let mut reader = reader;
        loop {
            let command = match read_frame::<Command>(&mut reader) {
                Ok(Some(command)) => command,
                Ok(None) => break,
                Err(err) => {
                    tracing::error!("commands: {err}");
                    break;
                }
            };
            if commands.send(Input::Command(command)).is_err() {
                return;
            }
        }
        // Control may have gone already.
        let _gone = commands.send(Input::Closed);
    })?;
    let (work, queue) = sync_channel(1);
    let librarian = Librarian::new(folders.clone(), outbox.clone(), log.clone());
    let worker = Worker::new(folders.clone(), compute, outbox.clone(), log);
    let done = inbox.clone();
    let working = spawn("worker", move || worker.run(&queue, &done))?;
    let (requests, asked) = sync_channel(INBOX_LEN);
    let answering = spawn("workspace", move || librarian.run(&asked))?;
    drop(inbox);
    Control::new(work, requests, outbox).run(&inputs);
    for thread in [working, answering, writing] {
        if thread.join().is_err() {
            tracing::error!("a thread panicked");
        }
    }
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
