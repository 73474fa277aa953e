use std::collections::BTreeMap;

use meav_protocol::{InstructionTurn, LevelDescription, Prompting, Rubric, Secret};

use crate::KnobId;

/// Something on the Judge screen.
#[derive(Clone, Debug, PartialEq)]
pub enum JudgeAction {
    /// What is typed and chosen.
    SetForm(Box<JudgeForm>),
    /// Asks the system's own dialog for a path.
    Browse {
        /// Which.
        path: JudgePath,
        /// Whether a folder is wanted rather than a file.
        folder: bool,
    },
    /// Asks whether a key is kept for the address.
    FindKey,
    /// Has the system's secret store keep the key that is typed.
    KeepKey,
    /// Has the system's secret store forget the key.
    ForgetKey,
    /// Has the queries answered and judged.
    Start,
    /// Shows what is asked for, or what came of it.
    Show(JudgeTab),
    /// Shows only these answers.
    SetFilter(AnswerFilter),
    /// Shows the answer at this place among those that are listed.
    SelectAnswer(usize),
    /// Asks where to write the judgement, beginning with a name of this ending.
    Export(&'static str),
}

/// A path on the Judge screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgePath {
    /// The file with the queries.
    Data,
    /// The model that judges.
    Model,
}

/// What the Judge screen shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JudgeTab {
    /// What is asked for.
    #[default]
    Setup,
    /// What the judge said.
    Results,
}

/// Which answers are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerFilter {
    /// Those of one row; `None` for all.
    pub row: Option<usize>,
    /// Those at a level.
    pub level: LevelFilter,
}

/// Answers at a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LevelFilter {
    /// At any, or at none.
    #[default]
    All,
    /// At the level of this place.
    At(usize),
    /// Where the judge was unclear.
    Unclear,
}

impl LevelFilter {
    /// Whether an answer at this level is listed.
    pub(crate) fn lets(self, level: Option<usize>) -> bool {
        match self {
            Self::All => true,
            Self::At(wanted) => level == Some(wanted),
            Self::Unclear => level.is_none(),
        }
    }
}

/// What is typed and chosen on the Judge screen.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeForm {
    /// The file whose queries are answered.
    pub data: String,
    /// How many of the queries.
    pub sample: usize,
    /// Draws the sample and the tokens.
    pub seed: u64,
    /// Tokens after which an answer is cut.
    pub max_tokens: usize,
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// The recipes that answer.
    pub recipes: Vec<JudgeRow>,
    /// Whether the base model answers with instructions, too.
    pub prompts: bool,
    /// Where the instruction stands.
    pub turn: InstructionTurn,
    /// Who judges.
    pub judge: JudgeChoice,
    /// The other model that judges.
    pub model: String,
    /// The endpoint's address.
    pub address: String,
    /// The model's name there.
    pub endpoint_model: String,
    /// The endpoint's key, until the system's secret store has it.
    pub key: Secret,
    /// Who the judge is and what is asked.
    pub instructions: String,
    /// The levels.
    pub levels: Vec<JudgeLevel>,
    /// Whether every two recipes are compared, too.
    pub compares: bool,
}

/// Who judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgeChoice {
    /// The model that answers, without vectors.
    SameModel,
    /// Another model on this machine.
    OtherModel,
    /// A server.
    Endpoint,
}

/// A recipe that answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgeRow {
    /// Whether its numbers are those of the knobs.
    pub follows_knobs: bool,
    /// λ of each knob; 0 where there is none.
    pub coefficients: BTreeMap<KnobId, f64>,
}

/// A level that answers can be at.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeLevel {
    /// `expert`, …
    pub name: String,
    /// What an answer there is like, for the judge.
    pub description: String,
    /// The instruction to answer there, for the prompting baseline.
    pub instruction: String,
}

impl JudgeLevel {
    pub(crate) fn new(LevelDescription { name, description }: LevelDescription) -> Self {
        let instruction = instruction_of(&name);
        Self { name, description, instruction }
    }

    /// Gives it another name; an instruction that nobody has changed follows.
    pub(crate) fn rename(&mut self, name: String) {
        if self.instruction == instruction_of(&self.name) {
            self.instruction = instruction_of(&name);
        }
        self.name = name;
    }
}

/// The instruction to begin with.
fn instruction_of(level: &str) -> String {
    if level.trim().is_empty() {
        return String::new();
    }
    Prompting::of([level]).instructions.into_iter().map(|(_, text)| text).collect()
}

impl JudgeForm {
    /// What the judge is told.
    pub(crate) fn rubric(&self) -> Rubric {
        let level = |level: &JudgeLevel| LevelDescription {
            name: level.name.trim().to_owned(),
            description: level.description.trim().to_owned(),
        };
        Rubric {
            instructions: self.instructions.trim().to_owned(),
            levels: self.levels.iter().map(level).collect(),
        }
    }

    /// The baseline with instructions, where it is wanted.
    pub(crate) fn prompting(&self) -> Option<Prompting> {
        let mut prompting = Prompting::of([]);
        prompting.turn = self.turn;
        for level in &self.levels {
            let text = level.instruction.trim().to_owned();
            prompting.instructions.insert(level.name.trim().to_owned(), text);
        }
        self.prompts.then_some(prompting)
    }

    /// What is still wanted before it can start; `None` if nothing is.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let is_empty = |text: &str| text.trim().is_empty();
        let names = || self.levels.iter().map(|level| level.name.trim());
        let is_twice = names().any(|name| names().filter(|other| *other == name).count() > 1);
        let wanted = [
            (is_empty(&self.data), "Name the file with the questions"),
            (self.recipes.is_empty() && !self.prompts, "Add a recipe"),
            (self.misses_model(), "Name the model that judges"),
            (self.misses_address(), "Type the endpoint's address: https://…"),
            (self.misses_name(), "Type the name of the endpoint's model"),
            (self.has_loose_key(), "Keep the key that is typed, or clear it"),
            (is_empty(&self.instructions), "Tell the judge what to do"),
            (self.levels.len() < 2, "Name two levels or more"),
            (names().any(str::is_empty), "Give each level a name"),
            (is_twice, "Give each level a name of its own"),
            (self.misses_instruction(), "Give each level an instruction, or leave prompting out"),
        ];
        wanted.into_iter().find(|(is_missing, _)| *is_missing).map(|(_, what)| what)
    }

    fn misses_model(&self) -> bool {
        self.judge == JudgeChoice::OtherModel && self.model.trim().is_empty()
    }

    fn misses_address(&self) -> bool {
        self.judge == JudgeChoice::Endpoint && !self.has_address()
    }

    fn misses_name(&self) -> bool {
        self.judge == JudgeChoice::Endpoint && self.endpoint_model.trim().is_empty()
    }

    fn misses_instruction(&self) -> bool {
        self.prompts && self.levels.iter().any(|level| level.instruction.trim().is_empty())
    }

    fn has_loose_key(&self) -> bool {
        self.judge == JudgeChoice::Endpoint && !self.key.0.is_empty()
    }

    /// Whether an address is typed that a key could be for.
    pub(crate) fn has_address(&self) -> bool {
        let address = self.address.trim();
        let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        rest.is_some_and(|rest| !rest.is_empty())
    }

    /// Whether what is sent there could be read on its way.
    pub(crate) fn is_open_to_others(&self) -> bool {
        let host = self.address.trim().strip_prefix("http://");
        let is_here = |host: &str| {
            ["localhost", "127.0.0.1", "[::1]"].iter().any(|here| {
                let rest = host.strip_prefix(here);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
            })
        };
        host.is_some_and(|host| !host.is_empty() && !is_here(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::default_judge_form;

    #[test]
    fn address_that_others_can_read_is_known() {
        let mut form = default_judge_form();
        for (address, has, is_open) in [
            ("", false, false),
            ("https://", false, false),
            ("api.example.com", false, false),
            ("https://api.example.com/v1", true, false),
            ("http://api.example.com/v1", true, true),
            ("http://localhost:8080/v1", true, false),
            ("http://localhost.example.com", true, true),
            (" http://127.0.0.1/v1 ", true, false),
        ] {
            address.clone_into(&mut form.address);
            assert_eq!((form.has_address(), form.is_open_to_others()), (has, is_open), "{address}");
        }
    }

    #[test]
    fn instruction_follows_a_level_until_someone_changes_it() {
        let mut form = default_judge_form();
        let expert = form.levels[0].instruction.clone();
        form.levels[0].rename("safe".to_owned());
        assert_ne!(form.levels[0].instruction, expert);
        "Be kind.".clone_into(&mut form.levels[0].instruction);
        form.levels[0].rename("kind".to_owned());
        assert_eq!(form.levels[0].instruction, "Be kind.");
        form.prompts = true;
        let prompting = form.prompting().expect("it is wanted");
        assert_eq!(prompting.instructions["kind"], "Be kind.");
        assert_eq!(prompting.instructions.len(), 3);
    }

    #[test]
    fn typed_key_is_in_no_debug_print() {
        let mut form = default_judge_form();
        form.key = Secret("sk-very-secret".to_owned());
        let printed = format!("{:?}", JudgeAction::SetForm(Box::new(form)));
        assert!(printed.contains("Secret("), "{printed}");
        assert!(!printed.contains("sk-very"), "{printed}");
    }
}
