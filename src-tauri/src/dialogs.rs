use std::path::{Path, PathBuf};
use std::{io, thread};

use meav_protocol::UserError;
use meav_ui::{Action, PickKind, PickRequest};
use rfd::FileDialog;

use crate::desktop;
use crate::inbox::Inbox;

/// Opens a dialog of the system on a thread of its own; the answer goes to the inbox.
pub(crate) fn pick(request: PickRequest, frame: &eframe::Frame, inbox: &Inbox) {
    let dialog = FileDialog::new().set_title(request.title).set_parent(frame);
    let (answer, purpose) = (inbox.clone(), request.purpose);
    let ask = move || {
        // The dialogs' library can't tell the lack of a portal from a dialog that was cancelled.
        if desktop::can_pick_files() {
            answer.send(Action::Picked(purpose, run(dialog, request.kind)));
        } else {
            answer.send(Action::Picked(purpose, Vec::new()));
            answer.send(Action::HostFailed(no_dialog()));
        }
    };
    if let Err(err) = thread::Builder::new().name("dialog".to_owned()).spawn(ask) {
        inbox.send(Action::HostFailed(no_thread(&err)));
    }
}

fn run(dialog: FileDialog, kind: PickKind) -> Vec<PathBuf> {
    match kind {
        PickKind::Files { filter: (word, endings) } => {
            dialog.add_filter(word, endings).pick_files().unwrap_or_default()
        }
        PickKind::Folder => dialog.pick_folder().into_iter().collect(),
        PickKind::Save { path } => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let folder = path.parent().unwrap_or(Path::new(""));
            dialog.set_directory(folder).set_file_name(name).save_file().into_iter().collect()
        }
    }
}

fn no_dialog() -> UserError {
    UserError::new(
        "This desktop has no dialog for files",
        "Type or paste the path, or drop the file onto the window",
    )
}

fn no_thread(err: &io::Error) -> UserError {
    UserError { detail: err.to_string(), ..no_dialog() }
}
