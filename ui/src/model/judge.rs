use std::path::Path;

use meav_protocol::{InstructionTurn, JobId, JudgeReport, JudgedAnswer, Rubric, Secret, UserError};

use super::Weights;
use crate::KnobId;
use crate::judge_form::{AnswerFilter, JudgeChoice, JudgeForm, JudgeLevel, JudgeRow, JudgeTab};

/// What the Judge screen knows.
#[derive(Debug)]
pub(crate) struct Judging {
    /// What is typed and chosen.
    pub(crate) form: JudgeForm,
    /// What is shown.
    pub(crate) tab: JudgeTab,
    /// The job that has answers judged.
    pub(crate) job: Option<JobId>,
    /// Why it failed.
    pub(crate) error: Option<UserError>,
    /// What the judge said last.
    pub(crate) report: Option<JudgeReport>,
    /// Whether that judge was the demo model.
    pub(crate) is_by_demo: bool,
    /// Which answers are listed.
    pub(crate) filter: AnswerFilter,
    /// The place of the shown answer among them.
    pub(crate) selected: usize,
    /// The address that a key was last asked about, and whether there is one, once that is known.
    pub(crate) key: Option<(String, Option<bool>)>,
    /// The job that asks or tells the secret store.
    pub(crate) key_job: Option<JobId>,
    /// What the secret store could not do.
    pub(crate) key_error: Option<UserError>,
}

impl Default for Judging {
    fn default() -> Self {
        Self {
            form: default_form(),
            tab: JudgeTab::default(),
            job: None,
            error: None,
            report: None,
            is_by_demo: false,
            filter: AnswerFilter::default(),
            selected: 0,
            key: None,
            key_job: None,
            key_error: None,
        }
    }
}

/// The form to begin with: the base model and the knobs as they are, judged by the same model.
pub(crate) fn default_form() -> JudgeForm {
    let rubric = Rubric::of(["expert", "generic", "avoidance"]);
    JudgeForm {
        data: String::new(),
        sample: 20,
        seed: 0,
        max_tokens: 200,
        temperature: 0.0,
        recipes: vec![JudgeRow::default(), JudgeRow { follows_knobs: true, ..JudgeRow::default() }],
        prompts: false,
        turn: InstructionTurn::default(),
        judge: JudgeChoice::SameModel,
        model: String::new(),
        address: String::new(),
        endpoint_model: String::new(),
        key: Secret(String::new()),
        instructions: rubric.instructions,
        levels: rubric.levels.into_iter().map(JudgeLevel::new).collect(),
        compares: false,
    }
}

/// Whether a model is the one of the demo.
pub(crate) fn is_demo_model(model: &Path) -> bool {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    model == Path::new("demo") || name.starts_with("SmolLM2-135M")
}

impl JudgeRow {
    /// λ of a knob.
    pub(crate) fn coefficient(&self, knob: KnobId, weights: &Weights) -> f64 {
        if self.follows_knobs {
            return present(knob, weights);
        }
        self.coefficients.get(&knob).copied().unwrap_or_default()
    }
}

/// λ of a knob as it is; 0 where it is left out.
fn present(knob: KnobId, weights: &Weights) -> f64 {
    let side = weights.slot.index();
    let knob = weights.knob(knob).filter(|knob| !knob.bypassed[side]);
    knob.map_or(0.0, |knob| knob.coefficients[side])
}

impl Judging {
    /// λ of each of these knobs, one list for each recipe; each recipe once.
    pub(crate) fn recipes(&self, knobs: &[KnobId], weights: &Weights) -> Vec<Vec<f64>> {
        let mut recipes: Vec<Vec<f64>> = Vec::new();
        for row in &self.form.recipes {
            let recipe = knobs.iter().map(|knob| row.coefficient(*knob, weights)).collect();
            if !recipes.contains(&recipe) {
                recipes.push(recipe);
            }
        }
        recipes
    }

    /// The answers that are listed: their rows, and themselves.
    pub(crate) fn answers(&self) -> Vec<(usize, &JudgedAnswer)> {
        let AnswerFilter { row, level } = self.filter;
        let rows = self.report.iter().flat_map(|report| report.rows.iter().enumerate());
        rows.filter(|(index, _)| row.is_none_or(|row| row == *index))
            .flat_map(|(index, judged)| judged.answers.iter().map(move |answer| (index, answer)))
            .filter(|(_, answer)| level.lets(answer.level))
            .collect()
    }

    /// Whether a key is kept for the address that is typed; `None` where that is not known.
    pub(crate) fn has_key(&self) -> Option<bool> {
        let (address, is_kept) = self.key.as_ref()?;
        is_kept.filter(|_| *address == self.form.address.trim())
    }

    /// Whether the judge that is chosen is the demo model.
    pub(crate) fn will_be_demo(&self, weights: &Weights) -> bool {
        match self.form.judge {
            JudgeChoice::SameModel => is_demo_model(&weights.model),
            JudgeChoice::OtherModel => is_demo_model(Path::new(self.form.model.trim())),
            JudgeChoice::Endpoint => false,
        }
    }
}

/// What a job does for the Judge screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JudgeWork {
    /// Has answers judged.
    Run {
        /// Whether the judge is the demo model.
        is_by_demo: bool,
    },
    /// Asks or tells the system's secret store.
    Key,
}

impl JudgeWork {
    /// What the user calls it.
    pub(crate) fn title(&self) -> Option<&'static str> {
        match self {
            Self::Run { .. } => Some("Judging answers"),
            Self::Key => None,
        }
    }
}
