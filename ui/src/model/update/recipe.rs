use std::path::{Path, PathBuf};

use meav_protocol::{Description, ExportTarget, FileKind, JobId, JobSpec, OpenedRecipe, Outcome};

use crate::action::{DialogAction, PathPurpose};
use crate::effect::{Effect, PickKind, PickRequest};
use crate::model::jobs::Purpose;
use crate::model::recipe::{FoundPart, RecipeDialog, SoughtPart};
use crate::model::{Dialog, Knob, Model, with_ending};
use crate::settings::is_recipe;

/// Letters of a file's name that is made from a recipe, without its ending.
const LONGEST_NAME: usize = 80;

impl Model {
    /// Asks where the recipe is to be written, beginning with a name that says what it is.
    pub(super) fn ask_recipe_path(&mut self) {
        let name = format!("{}.meav", self.recipe_name());
        self.ask_export(PathPurpose::SaveRecipe, &name);
    }

    /// `medical-0.7 legal+0.5`.
    fn recipe_name(&self) -> String {
        let side = self.weights.slot.index();
        let is_active = |knob: &&Knob| !knob.bypassed[side] && knob.coefficients[side] != 0.0;
        let active = self.weights.knobs.iter().filter(is_active);
        let term = |knob: &Knob| {
            let hundredths = (knob.coefficients[side] * 100.0).round();
            format!("{}{:+}", knob.name(), hundredths / 100.0)
        };
        let name = active.map(term).collect::<Vec<_>>().join(" ");
        let is_allowed = |letter: &char| !letter.is_control() && !r#"/\:*?"<>|"#.contains(*letter);
        let name: String = name.chars().filter(is_allowed).take(LONGEST_NAME).collect();
        if name.is_empty() { "base".to_owned() } else { name }
    }

    pub(super) fn save_recipe(&self, path: PathBuf, replace: bool) -> (Purpose, JobSpec) {
        // Only by its ending is it known as a recipe again.
        let path = if is_recipe(&path) { path } else { with_ending(path, ".meav") };
        let (setup, _) = self.weights.wanted();
        (Purpose::SaveRecipe, JobSpec::SaveRecipe { setup, out: ExportTarget { path, replace } })
    }

    /// A recipe was read: it is taken where all of it is there, or else asked about.
    pub(in crate::model) fn recipe_read(
        &mut self,
        job: JobId,
        path: PathBuf,
        recipe: OpenedRecipe,
        now: f64,
    ) {
        match &mut self.dialog {
            Some(Dialog::Recipe(dialog)) if dialog.job == Some(job) => dialog.reread(recipe),
            // It is asked about already: what was typed there stays, and nothing is taken without
            // a word.
            Some(Dialog::Recipe(dialog)) if dialog.path == path => {}
            // The dialog that asked for it goes when its job ends.
            _ if recipe.missing.is_empty() => self.take_recipe(path, &recipe, now),
            _ => {
                self.dialog.take_if(|it| matches!(it, Dialog::Path(it) if it.job == Some(job)));
                self.waiting.retain(|it| !matches!(it, Dialog::Recipe(it) if it.path == path));
                self.ask_later(Dialog::Recipe(RecipeDialog::new(path, recipe)));
            }
        }
    }

    /// The engine has read the recipe of the dialog once more, or could not. Gives back whether
    /// it was asked to by the dialog.
    pub(in crate::model) fn end_reread(&mut self, job: JobId, outcome: &Outcome) -> bool {
        let Some(Dialog::Recipe(dialog)) = &mut self.dialog else { return false };
        if dialog.job.take_if(|it| *it == job).is_none() {
            return false;
        }
        match outcome {
            Outcome::Done => {}
            Outcome::Failed(err) => dialog.lose_found(&err.summary),
            Outcome::Cancelled => dialog.lose_found("The recipe was not read again"),
        }
        true
    }

    /// Sets everything to a recipe from a file, at once.
    fn take_recipe(&mut self, path: PathBuf, recipe: &OpenedRecipe, now: f64) {
        self.weights.apply_opened(recipe);
        for term in &recipe.vectors {
            self.tell_if_beyond(&crate::model::file_name(&term.file), term.coefficient, now);
        }
        self.remember_recipe(path);
    }

    pub(in crate::model) fn remember_recipe(&mut self, path: PathBuf) {
        if is_recipe(&path) {
            self.remember(path, FileKind::Vector);
        }
    }

    /// Takes the recipe of the dialog, with what was found by hand.
    pub(super) fn accept_recipe(&mut self, dialog: RecipeDialog, now: f64) {
        let path = dialog.path.clone();
        self.take_recipe(path, &dialog.into_recipe(), now);
    }

    fn sought(&mut self, index: usize) -> Option<&mut SoughtPart> {
        match &mut self.dialog {
            Some(Dialog::Recipe(dialog)) => dialog.parts.get_mut(index),
            _ => None,
        }
    }

    /// What is done with a part that is looked for by hand.
    pub(super) fn seek(&mut self, index: usize, action: DialogAction, now: f64) -> Vec<Effect> {
        let Some(sought) = self.sought(index) else { return Vec::new() };
        match action {
            DialogAction::SetLocation(_, text) => {
                let job = sought.job.take();
                (sought.text, sought.error, sought.found) = (text, None, None);
                job.and_then(|job| self.jobs.cancel(job)).into_iter().collect()
            }
            DialogAction::BrowseLocation { folder, .. } => {
                let kind = match (folder, sought.part.is_model) {
                    (true, _) => PickKind::Folder,
                    (false, true) => {
                        PickKind::Files { filter: ("Models", &["gguf", "safetensors"]) }
                    }
                    (false, false) => PickKind::Files { filter: ("Vectors", &["safetensors"]) },
                };
                let (purpose, title) = (PathPurpose::Locate(index), "Locate a part of the recipe");
                vec![Effect::Pick(PickRequest { purpose, title, kind })]
            }
            _ => {
                let text = sought.text.trim().to_owned();
                if text.is_empty() || sought.job.is_some() {
                    return Vec::new();
                }
                let path = self.path_to_read(Path::new(&text));
                vec![self.look_at(index, path, now)]
            }
        }
    }

    /// A path for a part of a recipe, from a dialog of the system.
    pub(super) fn picked_part(&mut self, index: usize, path: PathBuf, now: f64) -> Vec<Effect> {
        let Some(sought) = self.sought(index) else { return Vec::new() };
        sought.text = path.display().to_string();
        vec![self.look_at(index, path, now)]
    }

    fn look_at(&mut self, index: usize, path: PathBuf, now: f64) -> Effect {
        let purpose = Purpose::Locate { index, path: path.clone() };
        let (job, effect) = self.jobs.start(purpose, JobSpec::Describe { path }, now);
        if let Some(sought) = self.sought(index) {
            (sought.job, sought.error, sought.found) = (Some(job), None, None);
        }
        effect
    }

    /// What lies where a part was looked for. A part that was found is known to the engine by its
    /// values from now on: the recipe is read once more, which gives a vector its λ.
    pub(in crate::model) fn located(
        &mut self,
        job: JobId,
        index: usize,
        path: PathBuf,
        description: &Description,
        now: f64,
    ) -> Vec<Effect> {
        let Some(sought) = self.sought(index).filter(|it| it.job == Some(job)) else {
            return Vec::new();
        };
        let is_model = description.kind == FileKind::Model;
        if is_model != sought.part.is_model
            || matches!(description.kind, FileKind::Recipe | FileKind::Data)
        {
            let found = match description.kind {
                FileKind::Model => "a model",
                FileKind::Vector => "a vector",
                FileKind::Recipe => "a recipe",
                FileKind::Data => "preference data",
            };
            let wanted = if sought.part.is_model { "a model" } else { "a vector" };
            sought.error = Some(format!("That is {found}; the recipe wants {wanted} here"));
            return Vec::new();
        }
        let is_its = |(name, value): &(String, String)| {
            name == "fingerprint" && *value == sought.part.fingerprint
        };
        let is_same = description.rows.iter().any(is_its);
        if !is_same && !is_model {
            let text = "That is another vector: its values are not those that the recipe names";
            sought.error = Some(text.to_owned());
            return Vec::new();
        }
        sought.found = Some(FoundPart { path, is_same });
        if is_model { Vec::new() } else { self.reread(now) }
    }

    /// Has the recipe read once more; what was read before the last part was found says too little.
    fn reread(&mut self, now: f64) -> Vec<Effect> {
        let Some(Dialog::Recipe(dialog)) = &mut self.dialog else { return Vec::new() };
        let older = dialog.job.take().and_then(|job| self.jobs.cancel(job));
        let path = dialog.path.clone();
        let purpose = Purpose::OpenRecipe { path: path.clone() };
        let (job, effect) = self.jobs.start(purpose, JobSpec::OpenRecipe { path }, now);
        dialog.job = Some(job);
        older.into_iter().chain([effect]).collect()
    }

    /// The engine has looked at what was typed for a part.
    pub(in crate::model) fn end_look(&mut self, job: JobId, index: usize, outcome: Outcome) {
        let Some(sought) = self.sought(index).filter(|it| it.job == Some(job)) else { return };
        sought.job = None;
        if let Outcome::Failed(err) = outcome {
            sought.error = Some(err.summary);
        }
    }
}
