use std::path::{Path, PathBuf};

use meav_protocol::{ExportTarget, FileKind, JobSpec, MergeFormat, MergeSpec};
use uuid::Uuid;

use crate::action::{DialogAction, PathPurpose};
use crate::effect::{Effect, PickKind, PickRequest};
use crate::model::jobs::Purpose;
use crate::model::{Dialog, Focus, Model, PathDialog};

/// Bytes of a file's name that is made from a title.
const LONGEST_STEM: usize = 40;

impl Model {
    pub(super) fn ask_path(&mut self, purpose: PathPurpose, text: &str) {
        self.dialog = Some(Dialog::Path(PathDialog::new(purpose, text)));
    }

    /// Asks for a path, beginning with a name in the user's documents.
    pub(super) fn ask_export(&mut self, purpose: PathPurpose, name: &str) {
        let path = self.host.documents.join(name);
        self.ask_path(purpose, &path.display().to_string());
    }

    pub(super) fn ask_chat_path(&mut self, chat: Uuid, now: f64) {
        if self.conversation.branch().is_empty() {
            self.notices.info("There is nothing to export in an empty chat", now);
        } else {
            let name = format!("{}.md", file_stem(&self.conversation.chat.title));
            self.ask_export(PathPurpose::ExportChat(chat), &name);
        }
    }

    pub(super) fn dialog(&mut self, action: DialogAction, now: f64) -> Vec<Effect> {
        match action {
            DialogAction::SetText(new) => match &mut self.dialog {
                Some(Dialog::Palette { text } | Dialog::PresetName { text }) => *text = new,
                Some(Dialog::Path(path)) => (path.text, path.error) = (new, None),
                _ => {}
            },
            DialogAction::Browse { folder } => return self.browse(folder),
            DialogAction::Accept => return self.accept(now),
            DialogAction::Replace => return self.take_typed(true, now),
            DialogAction::Close => return self.close_dialog().into_iter().collect(),
            DialogAction::StopAndQuit => {
                let jobs: Vec<_> = self.jobs.iter().map(|job| job.id).collect();
                let mut effects: Vec<_> =
                    jobs.into_iter().filter_map(|job| self.jobs.cancel(job)).collect();
                self.collect_settings();
                effects.extend([self.keep_settings(now), Effect::Quit]);
                return effects;
            }
            DialogAction::KeepRunning => {
                self.dialog = None;
                self.is_hidden = true;
                return vec![Effect::HideWindow];
            }
        }
        Vec::new()
    }

    pub(super) fn close_dialog(&mut self) -> Option<Effect> {
        let closed = self.dialog.take()?;
        // Whoever has the hands on the keyboard goes on somewhere.
        self.focus.get_or_insert(Focus::Composer);
        match closed {
            Dialog::Path(dialog) => self.jobs.cancel(dialog.job?),
            _ => None,
        }
    }

    pub(super) fn browse(&mut self, folder: bool) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let purpose = dialog.purpose;
        let (title, filter) = match purpose {
            PathPurpose::OpenModel => ("Open a model", ("Models", &["gguf", "safetensors"][..])),
            PathPurpose::AddVector => ("Add vectors", ("Vectors", &["safetensors"][..])),
            PathPurpose::ExportChat(_) => ("Export the chat", ("Chats", &["md", "json"][..])),
            PathPurpose::ExportAudit => ("Export the audit log", ("Tables", &["csv", "json"][..])),
            PathPurpose::ExportMerged => ("Export the merged model", ("Models", &[][..])),
        };
        let kind = match purpose {
            PathPurpose::OpenModel | PathPurpose::AddVector if folder => PickKind::Folder,
            PathPurpose::OpenModel | PathPurpose::AddVector => PickKind::Files { filter },
            PathPurpose::ExportChat(_) | PathPurpose::ExportAudit | PathPurpose::ExportMerged => {
                PickKind::Save { path: PathBuf::from(&dialog.text) }
            }
        };
        vec![Effect::Pick(PickRequest { purpose, title, kind })]
    }

    pub(super) fn accept(&mut self, now: f64) -> Vec<Effect> {
        match self.dialog.take() {
            Some(Dialog::Path(dialog)) => {
                let can_take = !dialog.text.trim().is_empty() && !dialog.is_busy();
                self.dialog = Some(Dialog::Path(dialog));
                if can_take { self.take_typed(false, now) } else { Vec::new() }
            }
            Some(Dialog::PresetName { text }) => {
                let name = text.trim().to_owned();
                if name.is_empty() {
                    self.dialog = Some(Dialog::PresetName { text });
                } else {
                    self.settings.presets.retain(|preset| preset.name != name);
                    self.settings.presets.push(self.weights.preset(name));
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Paths from a dialog of the system, for the path dialog that asked for them.
    pub(super) fn picked(
        &mut self,
        purpose: PathPurpose,
        paths: Vec<PathBuf>,
        now: f64,
    ) -> Vec<Effect> {
        let is_asked = matches!(&self.dialog, Some(Dialog::Path(it)) if it.purpose == purpose);
        let Some(first) = paths.first().filter(|_| is_asked) else { return Vec::new() };
        if let Some(Dialog::Path(dialog)) = &mut self.dialog {
            dialog.text = first.display().to_string();
        }
        let first = first.clone();
        // The system's dialog has asked about a file that is there.
        let mut effects = self.take_path(first, true, now);
        effects.extend(paths.into_iter().skip(1).map(|path| self.open(path, None, now)));
        effects
    }

    /// The path that was typed into the dialog, meant as people mean paths.
    fn take_typed(&mut self, replace: bool, now: f64) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let typed = Path::new(dialog.text.trim());
        let path = match (typed.strip_prefix("~"), dialog.purpose) {
            (Ok(below), _) => self.host.user_home.join(below),
            // The engine knows names of its own.
            (Err(_), PathPurpose::OpenModel | PathPurpose::AddVector) if is_bare(typed) => {
                typed.to_owned()
            }
            // From where the app was started, as in a terminal.
            (Err(_), PathPurpose::OpenModel | PathPurpose::AddVector) => {
                self.host.current_folder.join(typed)
            }
            (Err(_), _) => self.host.documents.join(typed),
        };
        self.take_path(path, replace, now)
    }

    /// The path that the dialog asked for.
    fn take_path(&mut self, path: PathBuf, replace: bool, now: f64) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let (purpose, spec) = match dialog.purpose {
            PathPurpose::OpenModel | PathPurpose::AddVector => {
                let is_model = dialog.purpose == PathPurpose::OpenModel;
                let kind = if is_model { FileKind::Model } else { FileKind::Vector };
                (
                    Purpose::Open { expected: Some(kind), path: path.clone() },
                    JobSpec::Describe { path },
                )
            }
            PathPurpose::ExportChat(id) => {
                let out = ExportTarget { path, replace };
                (Purpose::Export, JobSpec::ExportChat { id: Some(id), out })
            }
            PathPurpose::ExportAudit => {
                (Purpose::Export, JobSpec::ExportAudit { out: ExportTarget { path, replace } })
            }
            PathPurpose::ExportMerged => {
                let (setup, _) = self.weights.wanted();
                let spec = MergeSpec {
                    model: setup.model,
                    method: setup.method,
                    vectors: setup.vectors,
                    // Then it is the recipe that the window names.
                    dtype: Some(setup.dtype),
                    format: MergeFormat::Folder { max_shard_bytes: 5_000_000_000 },
                    out: ExportTarget { path, replace },
                };
                (Purpose::Merge, JobSpec::Merge(spec))
            }
        };
        let (job, effect) = self.jobs.start(purpose, spec, now);
        if let Some(Dialog::Path(dialog)) = &mut self.dialog {
            dialog.job = Some(job);
            dialog.error = None;
        }
        vec![effect]
    }

    pub(super) fn open_paths(&mut self, paths: Vec<PathBuf>, now: f64) -> Vec<Effect> {
        paths.into_iter().map(|path| self.open(path, None, now)).collect()
    }

    pub(super) fn open(&mut self, path: PathBuf, expected: Option<FileKind>, now: f64) -> Effect {
        let purpose = Purpose::Open { expected, path: path.clone() };
        self.start(purpose, JobSpec::Describe { path }, now)
    }
}

/// Whether it may be the name of something that comes with the demo.
fn is_bare(path: &Path) -> bool {
    path.components().count() == 1 && path.extension().is_none()
}

/// Words of a title that a file can be named by.
fn file_stem(title: &str) -> String {
    let words =
        title.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut stem = String::new();
    for word in words {
        if stem.len() + word.len() > LONGEST_STEM {
            break;
        }
        if !stem.is_empty() {
            stem.push('-');
        }
        stem.push_str(&word.to_lowercase());
    }
    if stem.is_empty() { "chat".to_owned() } else { stem }
}
