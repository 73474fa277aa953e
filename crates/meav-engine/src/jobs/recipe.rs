use std::io::Write as _;
use std::path::{Path, PathBuf};

use meav_model::ModelFiles;
use meav_protocol::{ExportTarget, Fact, MissingPart, OpenedRecipe, Setup, StampTerm, VectorTerm};
use meav_vector::{Term, check_settings, count_layers};
use meav_weights::{Fingerprint, write_file_atomically};

use crate::convert::{vector_method, weights_dtype};
use crate::error::EngineError;
use crate::loaded::stamp;
use crate::recipe_file::{RecipeFile, RecipeFileError, parse_fingerprint};
use crate::words::is_cancelled;
use crate::worker::{Running, Worker};
use crate::workspace::{FileStamp, free_path};

/// Writes down what names the merged model of `setup`.
pub(crate) fn save_recipe(
    worker: &Worker,
    setup: &Setup,
    out: &ExportTarget,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    free_path(out)?;
    let path = worker.folders.model(&setup.model)?;
    let files = ModelFiles::open(&path)?;
    let terms = worker.open_terms(&setup.vectors, &files, running)?;
    let (dtype, method) = (weights_dtype(setup.dtype), vector_method(setup.method));
    check_settings(method, &terms, count_layers(files.weight_names()))?;
    let base = worker.fingerprint(&files.checkpoint, &FileStamp::of_model(&path), running)?;
    let active: Vec<Term> = terms.into_iter().filter(Term::is_active).collect();
    let stamp = stamp(base, dtype, &files.name, method, &active);
    let summary = format!("recipe {stamp}");
    let recipe = RecipeFile::new(&path, stamp);
    let text = recipe.to_json().map_err(|err| at(&out.path)(err.into()))?;
    write_file_atomically(&out.path, |file| {
        let failed = |source| EngineError::Write { path: out.path.clone(), source };
        file.write_all(text.as_bytes()).map_err(failed)
    })?;
    worker.record_written("export", &out.path, summary, running);
    Ok(())
}

fn at(path: &Path) -> impl Fn(RecipeFileError) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Recipe { path: path.clone(), source }
}

/// Reads a recipe and looks for its parts.
pub(crate) fn open_recipe(
    worker: &Worker,
    path: &Path,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let recipe = RecipeFile::open(path)?;
    if recipe.is_edited {
        let note = "The recipe was edited since it was saved: it is another one now";
        running.fact(Fact::Note(note.to_owned()));
    }
    let opened = find_parts(worker, recipe, path, running)?;
    running.fact(Fact::Recipe(Box::new(opened)));
    Ok(())
}

/// Looks for the parts of a recipe where they were, beside its file at `path`, among the demo's,
/// and wherever the workspace has seen them.
pub(super) fn find_parts(
    worker: &Worker,
    recipe: RecipeFile,
    path: &Path,
    running: &Running<'_>,
) -> Result<OpenedRecipe, EngineError> {
    let RecipeFile { model_file, stamp, .. } = recipe;
    let parse = |text: &str| parse_fingerprint(text).map_err(at(path));
    let mut missing = Vec::new();
    let base = parse(&stamp.base)?;
    let model = match worker.find_model(base, &model_file, path, running)? {
        Ok(model) => Some(model),
        Err(found) => {
            let (name, fingerprint) = (stamp.model.clone(), stamp.base.clone());
            missing.push(MissingPart {
                name,
                is_model: true,
                file: model_file,
                fingerprint,
                found,
            });
            None
        }
    };
    let mut vectors = Vec::new();
    for StampTerm { domain, file, fingerprint, coefficient, scope } in stamp.vectors {
        match worker.find_vector(parse(&fingerprint)?, &file, path, running)? {
            Ok(file) => vectors.push(VectorTerm { file, coefficient, scope }),
            Err(found) => {
                let part = MissingPart { name: domain, is_model: false, file, fingerprint, found };
                missing.push(part);
            }
        }
    }
    let (dtype, method) = (stamp.dtype, stamp.method);
    Ok(OpenedRecipe { model, dtype, method, vectors, missing })
}

/// Where a part is, or what lies where it was.
type Found = Result<PathBuf, Option<String>>;

impl Worker {
    fn find_model(
        &self,
        wanted: Fingerprint,
        file: &Path,
        recipe: &Path,
        running: &Running<'_>,
    ) -> Result<Found, EngineError> {
        let mut candidates = self.candidates(wanted, file, recipe, FileStamp::of_model);
        candidates.push(self.folders.demo_model());
        find(wanted, file, &candidates, |path| {
            let files = ModelFiles::open(path)?;
            self.fingerprint(&files.checkpoint, &FileStamp::of_model(path), running)
        })
    }

    fn find_vector(
        &self,
        wanted: Fingerprint,
        file: &Path,
        recipe: &Path,
        running: &Running<'_>,
    ) -> Result<Found, EngineError> {
        let mut candidates = self.candidates(wanted, file, recipe, FileStamp::of_vector);
        let name = file.file_name().unwrap_or_default();
        candidates.extend(self.folders.demo_vectors.as_ref().map(|folder| folder.join(name)));
        find(wanted, file, &candidates, |path| Ok(self.open_vector(path, running)?.fingerprint))
    }

    fn candidates(
        &self,
        wanted: Fingerprint,
        file: &Path,
        recipe: &Path,
        stamp_of: impl Fn(&Path) -> FileStamp,
    ) -> Vec<PathBuf> {
        let mut candidates = vec![file.to_owned()];
        candidates.extend(file.file_name().map(|name| recipe.with_file_name(name)));
        if let Ok(workspace) = &self.workspace
            && let Ok(known) = workspace.paths_with(wanted, stamp_of)
        {
            candidates.extend(known);
        }
        candidates
    }
}

fn find(
    wanted: Fingerprint,
    file: &Path,
    candidates: &[PathBuf],
    fingerprint: impl Fn(&Path) -> Result<Fingerprint, EngineError>,
) -> Result<Found, EngineError> {
    let mut found = None;
    for path in candidates.iter().filter(|path| path.exists()) {
        match fingerprint(path) {
            Ok(fingerprint) if fingerprint == wanted => return Ok(Ok(path.clone())),
            Err(err) if is_cancelled(&err) => return Err(err),
            Ok(_) if path == file => {
                found = Some("what lies there has other values".to_owned());
            }
            Err(err) if path == file => found = Some(err.to_string()),
            _ => {}
        }
    }
    Ok(Err(found))
}
