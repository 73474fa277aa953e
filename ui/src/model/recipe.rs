use std::path::PathBuf;

use meav_protocol::{JobId, MissingPart, OpenedRecipe};

/// The dialog about a recipe some of whose parts were not found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecipeDialog {
    /// The recipe's file.
    pub(crate) path: PathBuf,
    /// What was read.
    pub(crate) recipe: OpenedRecipe,
    /// What was not found at first, and what was found by hand since.
    pub(crate) parts: Vec<SoughtPart>,
    /// The job that reads the recipe again, now that more of it is known.
    pub(crate) job: Option<JobId>,
}

/// A part of a recipe that is looked for by hand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SoughtPart {
    /// What is looked for.
    pub(crate) part: MissingPart,
    /// The path that is typed.
    pub(crate) text: String,
    /// The job that looks at it.
    pub(crate) job: Option<JobId>,
    /// What is wrong with it, in a sentence.
    pub(crate) error: Option<String>,
    /// What was found there.
    pub(crate) found: Option<FoundPart>,
}

/// A file that is a part, or stands in for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FoundPart {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whether it has the fingerprint that the recipe names.
    pub(crate) is_same: bool,
}

impl RecipeDialog {
    pub(crate) fn new(path: PathBuf, recipe: OpenedRecipe) -> Self {
        let sought = |part: &MissingPart| SoughtPart {
            part: part.clone(),
            text: String::new(),
            job: None,
            error: None,
            found: None,
        };
        let parts = recipe.missing.iter().map(sought).collect();
        Self { path, recipe, parts, job: None }
    }

    /// Whether every part was found.
    pub(crate) fn is_complete(&self) -> bool {
        self.parts.iter().all(|sought| sought.found.is_some())
    }

    /// Whether the engine looks at a file.
    pub(crate) fn is_busy(&self) -> bool {
        self.jobs().next().is_some()
    }

    /// The jobs that it waits for.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.parts.iter().filter_map(|sought| sought.job).chain(self.job)
    }

    /// The recipe was read once more: vectors that were found by hand are among its own now, with
    /// their λ.
    pub(super) fn reread(&mut self, recipe: OpenedRecipe) {
        for sought in self.parts.iter_mut().filter(|sought| !sought.part.is_model) {
            let is_missing = recipe.missing.contains(&sought.part);
            if sought.found.take_if(|_| is_missing).is_some() {
                sought.error = Some(
                    "It is the one, but the recipe does not find it there; move it to where it was"
                        .to_owned(),
                );
            }
        }
        self.recipe = recipe;
    }

    /// The recipe could not be read once more: vectors that were found since are in none.
    pub(super) fn lose_found(&mut self, reason: &str) {
        for sought in self.parts.iter_mut().filter(|sought| !sought.part.is_model) {
            let is_missing = self.recipe.missing.contains(&sought.part);
            if sought.found.take_if(|_| is_missing).is_some() {
                sought.error = Some(reason.to_owned());
            }
        }
    }

    /// What it has come to.
    pub(super) fn into_recipe(self) -> OpenedRecipe {
        let mut recipe = self.recipe;
        let models = self.parts.into_iter().filter(|sought| sought.part.is_model);
        if let Some(found) = models.filter_map(|sought| sought.found).next_back() {
            recipe.model = Some(found.path);
        }
        recipe
    }
}
