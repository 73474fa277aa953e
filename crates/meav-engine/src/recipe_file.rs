//! A recipe as a small JSON file without weights: names, fingerprints and λ.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use meav_protocol::{RecipeStamp, StampTerm};
use meav_vector::{Recipe, RecipeTerm};
use meav_weights::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::convert::{vector_method, vector_scope, weights_dtype};
use crate::error::EngineError;
use crate::workspace::absolute;

/// The newest format, and the only one so far.
const FORMAT: u32 = 1;

/// A larger file is no recipe.
const MAX_BYTES: u64 = 1 << 20;

/// What a recipe file holds.
///
/// The `recipe.json` beside a merged model is one too; those of older versions lack the first two
/// keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecipeFile {
    /// See [`FORMAT`].
    #[serde(rename = "meav.recipe", default = "format")]
    format: u32,
    /// Where the base model was.
    #[serde(default)]
    pub(crate) model_file: PathBuf,
    /// Everything that names the merged model.
    #[serde(flatten)]
    pub(crate) stamp: RecipeStamp,
    /// Whether the file's own fingerprint is not that of what it says. The stamp has the one that
    /// is.
    #[serde(skip)]
    pub(crate) is_edited: bool,
}

/// Why a recipe file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RecipeFileError {
    /// It is missing or unreadable.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is not JSON of the expected form.
    #[error("it is no recipe: {0}")]
    Json(#[from] serde_json::Error),
    /// It is far too large.
    #[error("it has {0} bytes, which no recipe needs")]
    TooLarge(u64),
    /// A newer version of this program wrote it.
    #[error("it has the format {0}, and 1 is the newest known here")]
    Newer(u32),
    /// A fingerprint is not `blake3:` and 64 digits.
    #[error("{0:?} is no fingerprint")]
    Fingerprint(String),
    /// λ is not a finite number.
    #[error("λ of {0:?} is no finite number")]
    Coefficient(String),
}

fn format() -> u32 {
    FORMAT
}

impl RecipeFile {
    /// Paths become absolute, so that the file can be moved away from them.
    pub(crate) fn new(model_file: &Path, mut stamp: RecipeStamp) -> Self {
        for term in &mut stamp.vectors {
            term.file = absolute(&term.file);
        }
        Self { format: FORMAT, model_file: absolute(model_file), stamp, is_edited: false }
    }

    /// Reads and checks a file; paths in it become relative to its folder where they are relative.
    ///
    /// What was edited by hand is another recipe, with a fingerprint of its own.
    ///
    /// # Errors
    ///
    /// [`EngineError::Recipe`].
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let mut recipe =
            read(path).map_err(|source| EngineError::Recipe { path: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = recipe.stamp.vectors.iter_mut().map(|term| &mut term.file);
        for file in files.chain([&mut recipe.model_file]) {
            if !file.as_os_str().is_empty() {
                *file = folder.join(&*file);
            }
        }
        Ok(recipe)
    }

    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

fn read(path: &Path) -> Result<RecipeFile, RecipeFileError> {
    let size = fs::metadata(path)?.len();
    if size > MAX_BYTES {
        return Err(RecipeFileError::TooLarge(size));
    }
    let text = fs::read(path)?;
    // A newer format may have other keys: its number is looked at first.
    let json: serde_json::Value = serde_json::from_slice(&text)?;
    let format = json.get("meav.recipe").and_then(serde_json::Value::as_u64);
    if let Some(newer) = format.filter(|format| *format > u64::from(FORMAT)) {
        return Err(RecipeFileError::Newer(u32::try_from(newer).unwrap_or(u32::MAX)));
    }
    let mut recipe: RecipeFile = serde_json::from_value(json)?;
    for term in &recipe.stamp.vectors {
        if !(term.coefficient as f32).is_finite() {
            return Err(RecipeFileError::Coefficient(term.domain.clone()));
        }
    }
    let fingerprint = identity(&recipe.stamp)?.fingerprint().to_string();
    recipe.is_edited = recipe.stamp.fingerprint != fingerprint;
    recipe.stamp.fingerprint = fingerprint;
    Ok(recipe)
}

/// What a stamp's fingerprint is taken of.
fn identity(stamp: &RecipeStamp) -> Result<Recipe, RecipeFileError> {
    let term = |term: &StampTerm| {
        let (coefficient, scope) = (term.coefficient, vector_scope(&term.scope));
        Ok(RecipeTerm { vector: parse_fingerprint(&term.fingerprint)?, coefficient, scope })
    };
    let is_active = |term: &&StampTerm| term.coefficient as f32 != 0.0;
    Ok(Recipe {
        base: parse_fingerprint(&stamp.base)?,
        dtype: weights_dtype(stamp.dtype),
        method: vector_method(stamp.method),
        terms: stamp
            .vectors
            .iter()
            .filter(is_active)
            .map(term)
            .collect::<Result<_, RecipeFileError>>()?,
    })
}

pub(crate) fn parse_fingerprint(text: &str) -> Result<Fingerprint, RecipeFileError> {
    text.parse().map_err(|_err| RecipeFileError::Fingerprint(text.to_owned()))
}
