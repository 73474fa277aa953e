use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use meav_protocol::{Dtype, InstructionTurn, Prompting};

use super::{Compute, JsonTarget, RecipeArgs, WeightedVector};

#[derive(clap::Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Preference records: JSONL, JSON, CSV or Parquet; repeat for several
    #[arg(long, value_name = "F", required = true)]
    pub(crate) data: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) prompting: PromptingArgs,
    /// What the weights are rounded to: f32 or bf16 [default: as the recipe says, or
    /// f32, bf16 on a GPU]
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// Write the scores for programs, each record's among them; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// The baseline that moves a model by words.
#[derive(clap::Args)]
pub(crate) struct PromptingArgs {
    /// Measure also the base model with an instruction for each level, in a turn of the system's
    /// or in front of the question
    #[arg(long, value_enum, value_name = "TURN")]
    prompting: Option<TurnArg>,
    /// The instruction for a level, in place of the built-in one; repeat for several
    #[arg(long = "instruction", value_name = "LEVEL=TEXT", requires = "prompting")]
    instructions: Vec<Instruction>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TurnArg {
    /// In place of the template's own system prompt
    System,
    /// In front of the user's question
    User,
}

#[derive(Clone)]
struct Instruction {
    level: String,
    text: String,
}

impl FromStr for Instruction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').map(|(level, text)| (level.trim(), text.trim()));
        match parts {
            Some((level, text)) if !level.is_empty() && !text.is_empty() => {
                Ok(Self { level: level.to_owned(), text: text.to_owned() })
            }
            _ => Err("expected a level, `=` and an instruction".to_owned()),
        }
    }
}

impl PromptingArgs {
    pub(crate) fn is_asked(&self) -> bool {
        self.prompting.is_some()
    }

    /// Instructions for these levels, if any are asked for.
    ///
    /// # Errors
    ///
    /// A sentence, if one is given for a level that there is not.
    pub(crate) fn prompting(&self, levels: &[String]) -> Result<Option<Prompting>, String> {
        let Some(turn) = self.prompting else { return Ok(None) };
        let mut prompting = Prompting::of(levels.iter().map(String::as_str));
        prompting.turn = match turn {
            TurnArg::System => InstructionTurn::System,
            TurnArg::User => InstructionTurn::User,
        };
        for Instruction { level, text } in &self.instructions {
            let Some(instruction) = prompting.instructions.get_mut(level) else {
                let levels = levels.join(", ");
                return Err(format!("there is no level {level:?}, only {levels}"));
            };
            instruction.clone_from(text);
        }
        Ok(Some(prompting))
    }
}

#[derive(clap::Args)]
pub(crate) struct BenchScoreArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) model: PathBuf,
    /// A vector and its λ; repeat for several
    #[arg(long = "vector", value_name = "F=λ")]
    pub(crate) vectors: Vec<WeightedVector>,
    /// Preference records; repeat for several [default: the test data of the demo]
    #[arg(long, value_name = "F")]
    pub(crate) data: Vec<PathBuf>,
    /// What the weights are rounded to: f32 or bf16 [default: f32, bf16 on a GPU]
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// Write the figures for programs; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ScoreArgs,
    }

    fn parse(options: &[&str]) -> Result<ScoreArgs, String> {
        let fixed = ["meav", "--model", "m", "--vector", "v=-0.7", "--data", "a", "--data", "b"];
        let line = Line::try_parse_from(fixed.iter().chain(options));
        line.map(|line| line.args).map_err(|err| err.to_string())
    }

    #[test]
    fn instructions_are_given_for_levels_that_there_are() {
        let levels = ["expert", "generic"].map(str::to_owned);
        let prompting = |options: &[&str]| parse(options)?.prompting.prompting(&levels);
        assert_eq!(prompting(&[]), Ok(None));
        let built_in = Prompting::of(["expert", "generic"]);
        assert_eq!(prompting(&["--prompting", "system"]), Ok(Some(built_in.clone())));
        let own = ["--prompting", "user", "--instruction", "generic=Say a=b."];
        let own = prompting(&own).unwrap().unwrap();
        assert_eq!(own.turn, InstructionTurn::User);
        assert_eq!(own.instructions["generic"], "Say a=b.");
        assert_eq!(own.instructions["expert"], built_in.instructions["expert"]);
        for bad in [
            &["--prompting", "assistant"][..],
            &["--instruction", "generic=x"],
            &["--prompting", "user", "--instruction", "avoidance=x"],
            &["--prompting", "user", "--instruction", "generic="],
            &["--prompting", "user", "--instruction", "x"],
        ] {
            assert!(prompting(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn data_are_needed() {
        assert_eq!(parse(&[]).map(|args| args.data.len()), Ok(2));
        assert!(Line::try_parse_from(["meav", "--model", "m"]).is_err());
    }
}
