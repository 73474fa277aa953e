use std::path::{Path, PathBuf};

use meav_protocol::{ExportTarget, FileKind, JobSpec, MergeFormat, MergeSpec};
use uuid::Uuid;

use crate::action::{DialogAction, KnobId, PathPurpose};
use crate::effect::{Effect, PickKind, PickRequest};
use crate::model::jobs::Purpose;
use crate::model::{Dialog, Focus, Model, NoticeBody, PathDialog, ScopeDialog, ScopeDraft};
use crate::settings::{DATA, is_recipe};

/// What the files of llama.cpp end in.
const GGUF_ENDING: &str = ".gguf";

/// What exported sweeps end in.
const SWEEP_ENDINGS: &[&str] = &["csv", "json", "md", "svg", "png"];

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
            let name = format!("{}.md", file_stem(&self.conversation.chat.title, "chat"));
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
            DialogAction::SetForm(form) => self.set_form(*form),
            DialogAction::BrowseField { field, folder } => return self.browse_field(field, folder),
            DialogAction::UseAs(kind) => return self.use_as(kind, now),
            DialogAction::SetFormat(format) => self.set_format(format),
            DialogAction::SetScope(draft) => {
                if let Some(Dialog::Scope(dialog)) = &mut self.dialog {
                    dialog.draft = draft;
                }
            }
            DialogAction::SetLocation(index, _)
            | DialogAction::Locate(index)
            | DialogAction::BrowseLocation { index, .. } => return self.seek(index, action, now),
            DialogAction::TakeWayOut(change) => return self.take_way_out(change, now),
            DialogAction::Browse { folder } => return self.browse(folder),
            DialogAction::Accept => return self.accept(now),
            DialogAction::Replace if matches!(self.dialog, Some(Dialog::Form(_))) => {
                return self.make(true, now);
            }
            DialogAction::Replace if matches!(self.dialog, Some(Dialog::Split(_))) => {
                return self.split(true, now);
            }
            DialogAction::Replace => return self.take_typed(true, now),
            DialogAction::Close => return self.close_dialog(),
            DialogAction::StopAndQuit => {
                // Training that loses its window is kept as it is, for the next start to go on.
                let ending = self.jobs.iter().filter(|job| !job.is_training());
                let jobs: Vec<_> = ending.map(|job| job.id).collect();
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

    /// Opens a dialog that nobody has just asked for, once nothing else is asked.
    pub(in crate::model) fn ask_later(&mut self, dialog: Dialog) {
        self.waiting.push_back(dialog);
        self.ask_waiting();
    }

    pub(in crate::model) fn ask_waiting(&mut self) {
        if self.dialog.is_none() {
            self.dialog = self.waiting.pop_front();
        }
    }

    /// Opens the dialog again whose job a message tells of.
    pub(super) fn show_again(&mut self, notice: u64) {
        if let Some(NoticeBody::Failed { dialog, .. }) = self.notices.take(notice).map(|it| it.body)
        {
            self.waiting.push_front(*dialog);
            self.ask_waiting();
        }
    }

    pub(super) fn close_dialog(&mut self) -> Vec<Effect> {
        let Some(closed) = self.dialog.take() else { return Vec::new() };
        // Whoever has the hands on the keyboard goes on somewhere.
        self.focus.get_or_insert(Focus::of(self.settings.screen));
        let jobs = match closed {
            Dialog::Path(dialog) => Vec::from_iter(dialog.job),
            Dialog::Plan(dialog) => Vec::from_iter(dialog.job),
            Dialog::Recipe(dialog) => dialog.jobs().collect(),
            _ => Vec::new(),
        };
        jobs.into_iter().filter_map(|job| self.jobs.cancel(job)).collect()
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
            PathPurpose::ConvertModel => ("Convert the model", ("Models", &[][..])),
            PathPurpose::OpenRecipe => ("Open a recipe", ("Recipes", &["meav", "json"][..])),
            PathPurpose::SaveRecipe => ("Save the recipe", ("Recipes", &["meav", "json"][..])),
            PathPurpose::ExportComparison => {
                ("Export the comparison", ("Comparisons", &["csv", "json", "svg", "png"][..]))
            }
            PathPurpose::ExportSweeps => ("Export the sweep", ("Sweeps", SWEEP_ENDINGS)),
            PathPurpose::ExportMatrix => ("Export the matrix", ("Matrices", SWEEP_ENDINGS)),
            PathPurpose::OpenData => ("Open data", ("Preference data", DATA)),
            PathPurpose::TrainingData => ("Compare with", ("Preference data", DATA)),
            PathPurpose::ExportJudgement => {
                ("Export the judgement", ("Judgements", &["csv", "json", "md"][..]))
            }
            PathPurpose::Field(_)
            | PathPurpose::Locate(_)
            | PathPurpose::SweepData
            | PathPurpose::TrainData
            | PathPurpose::TrainFolder
            | PathPurpose::SplitFolder
            | PathPurpose::Judge(_) => return Vec::new(),
        };
        let kind = match purpose {
            PathPurpose::OpenModel | PathPurpose::AddVector if folder => PickKind::Folder,
            PathPurpose::OpenModel
            | PathPurpose::AddVector
            | PathPurpose::OpenRecipe
            | PathPurpose::OpenData
            | PathPurpose::TrainingData => PickKind::Files { filter },
            _ => PickKind::Save { path: PathBuf::from(&dialog.text) },
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
            Some(Dialog::Form(form)) => {
                self.dialog = Some(Dialog::Form(form));
                self.make(false, now)
            }
            Some(Dialog::Split(dialog)) => {
                self.dialog = Some(Dialog::Split(dialog));
                self.split(false, now)
            }
            Some(Dialog::Scope(dialog)) => {
                self.accept_scope(dialog);
                Vec::new()
            }
            Some(Dialog::Sweep(dialog)) => self.accept_sweep(&dialog, now),
            Some(Dialog::ForgetTraining(run)) => self.forget_training(run, now),
            Some(Dialog::Recipe(dialog)) if dialog.is_busy() => {
                self.dialog = Some(Dialog::Recipe(dialog));
                Vec::new()
            }
            Some(Dialog::Recipe(dialog)) => {
                self.accept_recipe(dialog, now);
                Vec::new()
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
        if let PathPurpose::Field(field) = purpose {
            self.fill_field(field, paths);
            return Vec::new();
        }
        if purpose == PathPurpose::SweepData {
            return self.picked_sweep_data(paths, now);
        }
        if matches!(purpose, PathPurpose::TrainData | PathPurpose::TrainFolder) {
            return self.picked_for_training(purpose, paths, now);
        }
        match purpose {
            PathPurpose::SplitFolder => self.picked_folder(paths.clone()),
            PathPurpose::Judge(path) => self.picked_for_judge(path, paths.clone()),
            _ => {}
        }
        if let PathPurpose::Locate(index) = purpose {
            let first = paths.into_iter().next();
            return first.map_or_else(Vec::new, |path| self.picked_part(index, path, now));
        }
        let is_asked = matches!(&self.dialog, Some(Dialog::Path(it)) if it.purpose == purpose);
        let Some(first) = paths.first().filter(|_| is_asked) else { return Vec::new() };
        if let Some(Dialog::Path(dialog)) = &mut self.dialog {
            dialog.text = first.display().to_string();
        }
        let first = first.clone();
        // The system's dialog has asked about a file that is there, unless the name gets longer.
        let is_agreed = purpose != PathPurpose::SaveRecipe || is_recipe(&first);
        let mut effects = self.take_path(first, is_agreed, now);
        effects.extend(paths.into_iter().skip(1).map(|path| self.open(path, None, now)));
        effects
    }

    /// The path that was typed into the dialog, meant as people mean paths.
    fn take_typed(&mut self, replace: bool, now: f64) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let typed = Path::new(dialog.text.trim());
        let is_read = matches!(
            dialog.purpose,
            PathPurpose::OpenModel
                | PathPurpose::AddVector
                | PathPurpose::OpenRecipe
                | PathPurpose::OpenData
                | PathPurpose::TrainingData
        );
        let path = if is_read { self.path_to_read(typed) } else { self.path_to_write(typed) };
        self.take_path(path, replace, now)
    }

    /// A typed path to something that is there.
    pub(super) fn path_to_read(&self, typed: &Path) -> PathBuf {
        match typed.strip_prefix("~") {
            Ok(below) => self.host.user_home.join(below),
            // The engine knows names of its own.
            Err(_) if is_bare(typed) => typed.to_owned(),
            // From where the app was started, as in a terminal.
            Err(_) => self.host.current_folder.join(typed),
        }
    }

    /// A typed path to something that will be there.
    pub(super) fn path_to_write(&self, typed: &Path) -> PathBuf {
        match typed.strip_prefix("~") {
            Ok(below) => self.host.user_home.join(below),
            Err(_) => self.host.documents.join(typed),
        }
    }

    /// The path that the dialog asked for.
    fn take_path(&mut self, path: PathBuf, replace: bool, now: f64) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let format = dialog.format;
        let (purpose, spec) = match dialog.purpose {
            PathPurpose::OpenModel | PathPurpose::AddVector if is_recipe(&path) => {
                (Purpose::OpenRecipe { path: path.clone() }, JobSpec::OpenRecipe { path })
            }
            PathPurpose::OpenRecipe => {
                (Purpose::OpenRecipe { path: path.clone() }, JobSpec::OpenRecipe { path })
            }
            PathPurpose::SaveRecipe => self.save_recipe(path, replace),
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
            PathPurpose::ExportComparison => {
                let Some(comparison) = self.vectors.comparison.clone() else { return Vec::new() };
                let out = ExportTarget { path, replace };
                (Purpose::Export, JobSpec::ExportComparison { comparison, out })
            }
            PathPurpose::ExportSweeps | PathPurpose::ExportMatrix => {
                let out = ExportTarget { path, replace };
                let Some(spec) = self.sweep_export(dialog.purpose, out) else { return Vec::new() };
                (Purpose::Export, spec)
            }
            PathPurpose::OpenData => {
                self.dialog = None;
                return self.open_data(path, now);
            }
            PathPurpose::TrainingData => match self.find_leakage(path) {
                Some(begun) => begun,
                None => return Vec::new(),
            },
            PathPurpose::ExportJudgement => match self.export_judgement(path, replace) {
                Some(begun) => begun,
                None => return Vec::new(),
            },
            PathPurpose::Field(_)
            | PathPurpose::Locate(_)
            | PathPurpose::SweepData
            | PathPurpose::TrainData
            | PathPurpose::TrainFolder
            | PathPurpose::SplitFolder
            | PathPurpose::Judge(_) => return Vec::new(),
            PathPurpose::ExportMerged | PathPurpose::ConvertModel => {
                let (setup, _) = self.weights.wanted();
                let is_bare = dialog.purpose == PathPurpose::ConvertModel;
                let spec = MergeSpec {
                    model: setup.model,
                    method: setup.method,
                    vectors: if is_bare { Vec::new() } else { setup.vectors },
                    // That of the window, so that it is the recipe that the window names; a model
                    // that is only converted keeps every bit.
                    dtype: (!is_bare).then_some(setup.dtype),
                    format,
                    out: ExportTarget { path, replace },
                };
                let begun = Box::new(PathDialog { job: None, error: None, ..dialog.clone() });
                let purpose = if is_bare { Purpose::Convert } else { Purpose::Merge };
                let purpose = purpose(begun);
                (purpose, JobSpec::Merge(spec))
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
        if is_recipe(&path) {
            let purpose = Purpose::OpenRecipe { path: path.clone() };
            return self.start(purpose, JobSpec::OpenRecipe { path }, now);
        }
        let purpose = Purpose::Open { expected, path: path.clone() };
        self.start(purpose, JobSpec::Describe { path }, now)
    }

    /// What an export writes; the path's ending follows it.
    fn set_format(&mut self, format: MergeFormat) {
        let Some(Dialog::Path(dialog)) = &mut self.dialog else { return };
        let bare = dialog.text.strip_suffix(GGUF_ENDING);
        match (format, bare) {
            (MergeFormat::Gguf(_), None) => dialog.text.push_str(GGUF_ENDING),
            (MergeFormat::Folder { .. }, Some(bare)) => dialog.text = bare.to_owned(),
            (MergeFormat::Gguf(_), Some(_)) | (MergeFormat::Folder { .. }, None) => {}
        }
        (dialog.format, dialog.error) = (format, None);
    }

    /// Asks where in the model the vector of a knob is added.
    pub(super) fn ask_scope(&mut self, knob: KnobId) {
        if let Some(found) = self.weights.knob(knob) {
            let draft = ScopeDraft::new(self.weights.scope(found));
            self.dialog = Some(Dialog::Scope(ScopeDialog { knob, draft }));
        }
    }

    /// Takes what was typed where it is a scope; otherwise the dialog stays and says why not.
    fn accept_scope(&mut self, dialog: ScopeDialog) {
        match dialog.draft.scope(self.weights.n_layers()) {
            Ok(scope) => self.weights.set_scope(dialog.knob, scope),
            Err(_) => self.dialog = Some(Dialog::Scope(dialog)),
        }
    }
}

/// Whether it may be the name of something that comes with the demo.
fn is_bare(path: &Path) -> bool {
    path.components().count() == 1 && path.extension().is_none()
}

/// Words of a title that a file can be named by.
pub(super) fn file_stem(title: &str, otherwise: &str) -> String {
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
    if stem.is_empty() { otherwise.to_owned() } else { stem }
}
