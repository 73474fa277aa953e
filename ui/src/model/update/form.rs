use std::path::{Path, PathBuf};

use meav_protocol::{
    Dtype, ExportTarget, JobSpec, Probe, VectorCompress, VectorExtract, VectorImport,
    VectorSeparate,
};

use super::dialog::file_stem;
use crate::action::{KnobId, PathPurpose};
use crate::effect::{Effect, PickKind, PickRequest};
use crate::form::{
    CompressForm, CompressMethod, ExtractForm, Form, FormField, FormFiles, ImportForm,
    SeparateForm, levels_of,
};
use crate::model::jobs::Purpose;
use crate::model::{Dialog, FormDialog, Knob, Model, with_ending};

impl Model {
    pub(super) fn ask_extract(&mut self) {
        self.ask_form(Form::Extract(ExtractForm {
            base: self.weights.model.display().to_string(),
            aligned: String::new(),
            domain: String::new(),
            out: String::new(),
            dtype: None,
            include: String::new(),
            exclude: String::new(),
            levels: String::new(),
        }));
    }

    pub(super) fn ask_import(&mut self) {
        self.ask_form(Form::Import(ImportForm {
            adapter: String::new(),
            base: self.weights.model.display().to_string(),
            domain: String::new(),
            out: String::new(),
            dtype: Dtype::Bf16,
            levels: String::new(),
        }));
    }

    pub(super) fn ask_compress(&mut self, now: f64) {
        let Some(knob) = self.chosen_knob() else {
            self.notices.info("There is no vector to compress: add one first", now);
            return;
        };
        self.ask_form(Form::Compress(CompressForm {
            knob,
            method: CompressMethod::LowRank,
            rank: 16,
            density: 0.1,
            seed: 0,
            out: String::new(),
            measures: false,
            data: String::new(),
            limit: 50,
        }));
    }

    pub(super) fn ask_separate(&mut self, now: f64) {
        let ids: Vec<_> = self.weights.knobs.iter().map(|knob| knob.id).collect();
        let Some(knob) = self.chosen_knob().filter(|_| ids.len() > 1) else {
            self.notices.info("Separating takes two vectors: add another one first", now);
            return;
        };
        self.ask_form(Form::Separate(SeparateForm {
            knob,
            others: ids.into_iter().filter(|id| *id != knob).collect(),
            rank: 4,
            out: String::new(),
            keeps_shared: false,
            shared_out: String::new(),
        }));
    }

    /// The knob that is selected, or else the first.
    fn chosen_knob(&self) -> Option<KnobId> {
        let selected = self.weights.selected.filter(|id| self.weights.knob(*id).is_some());
        selected.or_else(|| self.weights.knobs.first().map(|knob| knob.id))
    }

    fn ask_form(&mut self, mut form: Form) {
        for field in [FormField::Out, FormField::SharedOut] {
            let name = self.suggested(&form, field);
            if let Some(text) = form.field_mut(field) {
                *text = name;
            }
        }
        self.dialog = Some(Dialog::Form(Box::new(FormDialog::new(form))));
    }

    /// Takes what is typed and chosen. Names of files follow it as long as nobody has changed
    /// them.
    pub(super) fn set_form(&mut self, mut new: Form) {
        let Some(Dialog::Form(dialog)) = &self.dialog else { return };
        if dialog.job.is_some() {
            return;
        }
        if let Form::Separate(form) = &mut new {
            form.others.retain(|other| *other != form.knob);
        }
        for field in [FormField::Out, FormField::SharedOut] {
            let (before, after) =
                (self.suggested(&dialog.form, field), self.suggested(&new, field));
            if let Some(text) = new.field_mut(field).filter(|text| **text == before) {
                *text = after;
            }
        }
        if let Some(Dialog::Form(dialog)) = &mut self.dialog {
            (dialog.form, dialog.error) = (new, None);
        }
    }

    /// A path for what a form makes, in the user's documents.
    fn suggested(&self, form: &Form, field: FormField) -> String {
        let source = form.knob().and_then(|id| self.weights.knob(id)).map(Knob::name);
        let source = file_stem(&source.unwrap_or_default(), "vector");
        let stem = match (form, field) {
            (Form::Extract(form), _) => file_stem(&form.domain, "vector"),
            (Form::Import(form), _) => file_stem(&form.domain, "vector"),
            (Form::Compress(form), _) => format!("{source}-{}", form.file_mark()),
            (Form::Separate(_), FormField::SharedOut) => format!("{source}-shared"),
            (Form::Separate(_), _) => format!("{source}-own"),
        };
        self.host.documents.join(format!("{stem}.safetensors")).display().to_string()
    }

    pub(super) fn browse_field(&self, field: FormField, folder: bool) -> Vec<Effect> {
        let Some(Dialog::Form(dialog)) = &self.dialog else { return Vec::new() };
        let kind = match field {
            FormField::Out | FormField::SharedOut => {
                let mut form = dialog.form.clone();
                let text = form.field_mut(field).cloned().unwrap_or_default();
                PickKind::Save { path: self.path_to_write(Path::new(text.trim())) }
            }
            _ if folder => PickKind::Folder,
            FormField::Data => PickKind::Files { filter: ("Preference data", &["jsonl"]) },
            _ => PickKind::Files { filter: ("Models", &["gguf", "safetensors"]) },
        };
        let purpose = PathPurpose::Field(field);
        vec![Effect::Pick(PickRequest { purpose, title: field.label(), kind })]
    }

    /// A path from a dialog of the system.
    pub(super) fn fill_field(&mut self, field: FormField, paths: Vec<PathBuf>) {
        let Some(Dialog::Form(dialog)) = &mut self.dialog else { return };
        let Some(path) = paths.into_iter().next().filter(|_| dialog.job.is_none()) else { return };
        let picked = path.display().to_string();
        if let Some(text) = dialog.form.field_mut(field) {
            text.clone_from(&picked);
            dialog.error = None;
            if field.is_written() {
                dialog.agreed.push(picked);
            }
        }
    }

    /// Begins what the form is for, unless something is missing or it has begun.
    pub(super) fn make(&mut self, replace: bool, now: f64) -> Vec<Effect> {
        let Some(Dialog::Form(dialog)) = &self.dialog else { return Vec::new() };
        if dialog.job.is_some() || self.weights.missing_for(&dialog.form).is_some() {
            return Vec::new();
        }
        let Some((name, files, spec)) = self.spec_of(dialog, replace) else { return Vec::new() };
        let begun = Box::new(FormDialog { job: None, error: None, ..FormDialog::clone(dialog) });
        let purpose = Purpose::Make { dialog: begun, name, files };
        let (job, effect) = self.jobs.start(purpose, spec, now);
        if let Some(Dialog::Form(dialog)) = &mut self.dialog {
            (dialog.job, dialog.error) = (Some(job), None);
        }
        vec![effect]
    }

    /// What the vector will be called, the files, and the job; `None` where a knob has gone.
    fn spec_of(&self, dialog: &FormDialog, replace: bool) -> Option<(String, FormFiles, JobSpec)> {
        let target = |text: &str| {
            let path = self.path_to_write(Path::new(text.trim()));
            let is_agreed = || dialog.agreed.iter().any(|agreed| agreed == text);
            // The system's dialog has asked about the name as it is; not about a longer one.
            if path.extension().is_some_and(|ending| ending == "safetensors") {
                ExportTarget { path, replace: replace || is_agreed() }
            } else {
                ExportTarget { path: with_ending(path, ".safetensors"), replace }
            }
        };
        let read = |text: &str| self.path_to_read(Path::new(text.trim()));
        let file = |id: KnobId| self.weights.knob(id).map(|knob| knob.file.clone());
        let pattern = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let source = dialog.form.knob().and_then(|id| self.weights.knob(id));
        let source = source.map(Knob::name).unwrap_or_default();
        let files = |out: &ExportTarget| FormFiles { out: out.path.clone(), shared_out: None };
        Some(match &dialog.form {
            Form::Extract(form) => {
                let out = target(&form.out);
                let domain = form.domain.trim().to_owned();
                (domain.clone(), files(&out), {
                    JobSpec::ExtractVector(Box::new(VectorExtract {
                        base: read(&form.base),
                        aligned: read(&form.aligned),
                        domain,
                        out,
                        dtype: form.dtype,
                        include: pattern(&form.include),
                        exclude: pattern(&form.exclude),
                        levels: levels_of(&form.levels),
                        training: None,
                    }))
                })
            }
            Form::Import(form) => {
                let out = target(&form.out);
                let domain = form.domain.trim().to_owned();
                (domain.clone(), files(&out), {
                    JobSpec::ImportVector(VectorImport {
                        adapter: read(&form.adapter),
                        base: read(&form.base),
                        domain,
                        out,
                        dtype: form.dtype,
                        levels: levels_of(&form.levels),
                        training: None,
                    })
                })
            }
            Form::Compress(form) => {
                let out = target(&form.out);
                let probe = form.measures.then(|| Probe {
                    model: self.weights.model.clone(),
                    data: vec![read(&form.data)],
                    limit: form.limit,
                });
                let (vector, how) = (file(form.knob)?, form.compression());
                let files = files(&out);
                (source, files, {
                    let base = Some(self.weights.model.clone());
                    JobSpec::CompressVector(VectorCompress { vector, base, how, out, probe })
                })
            }
            Form::Separate(form) => {
                let out = target(&form.out);
                let shared_out = form.keeps_shared.then(|| target(&form.shared_out));
                let files = FormFiles {
                    out: out.path.clone(),
                    shared_out: shared_out.as_ref().map(|it| it.path.clone()),
                };
                let others = form.others.iter().filter_map(|id| file(*id)).collect();
                let (vector, rank) = (file(form.knob)?, form.rank);
                let base = Some(self.weights.model.clone());
                let spec = VectorSeparate { vector, others, base, rank, out, shared_out };
                (source, files, JobSpec::SeparateVector(spec))
            }
        })
    }
}
