use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use meav_protocol::{Compression, Dtype};

use super::{Compute, Json, JsonTarget, Threads};

#[derive(Subcommand)]
pub(crate) enum VectorCommand {
    /// Take a base model from an aligned one: what is left is the vector
    Extract(ExtractArgs),
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
    /// Write a smaller form of a vector, and say what that costs
    Compress(CompressArgs),
    /// Say how vectors get in each other's way: norms, cosines and sign conflicts
    Compare {
        /// Two or more vectors
        #[arg(required = true, num_args = 2..)]
        vectors: Vec<PathBuf>,
        /// The model that they belong to: needed where one of them is a whole aligned model
        #[arg(long, value_name = "M")]
        base: Option<PathBuf>,
        /// Write the map as a table for spreadsheets
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
        /// Write the map as a picture
        #[arg(long, value_name = "FILE")]
        png: Option<PathBuf>,
        /// Write the map as a drawing
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// Write the same for programs; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<JsonTarget>,
        #[command(flatten)]
        threads: Threads,
    },
    /// Take from a vector what it shares with others
    Separate(SeparateArgs),
}

#[derive(clap::Args)]
pub(crate) struct ExtractArgs {
    /// The model that is taken away: a folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) base: PathBuf,
    /// The model that it is taken from
    #[arg(long, value_name = "M2")]
    pub(crate) aligned: PathBuf,
    /// The preference dimension's name, e.g. medical
    #[arg(long, value_name = "D")]
    pub(crate) domain: String,
    /// The file to write
    #[arg(long, value_name = "F")]
    pub(crate) out: PathBuf,
    /// What the differences are rounded to [default: the wider of the two models' types]
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// Only tensors in whose name this regular expression is found
    #[arg(long, value_name = "RE")]
    pub(crate) include: Option<String>,
    /// No tensors in whose name this regular expression is found
    #[arg(long, value_name = "RE")]
    pub(crate) exclude: Option<String>,
    /// The levels it was trained on, highest preference first
    #[arg(long, value_name = "LEVEL,…", value_delimiter = ',')]
    pub(crate) levels: Vec<String>,
    /// How it was trained, kept in the file
    #[arg(long, value_name = "JSON")]
    pub(crate) training: Option<Json>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(clap::Args)]
pub(crate) struct CompressArgs {
    /// A vector file, an adapter folder, or an aligned model
    pub(crate) vector: PathBuf,
    /// The model that it belongs to: needed for an aligned model
    #[arg(long, value_name = "M")]
    pub(crate) base: Option<PathBuf>,
    /// The best factors of this rank, by singular value decomposition
    #[arg(long, value_name = "R", conflicts_with_all = ["density", "method"], required_unless_present_any = ["density", "method"])]
    rank: Option<usize>,
    /// The share of elements that is kept
    #[arg(long, value_name = "SHARE")]
    density: Option<f64>,
    /// How elements are chosen [default: trim]
    #[arg(long, value_enum)]
    method: Option<CompressMethod>,
    /// DARE: the same seed keeps the same elements
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The file to write
    #[arg(long, value_name = "F2")]
    pub(crate) out: PathBuf,
    /// Measure the loss on this model's answers
    #[arg(long, value_name = "M", requires = "data")]
    pub(crate) model: Option<PathBuf>,
    /// Preference records to measure on, JSONL; repeat for several
    #[arg(long, value_name = "F.jsonl", requires = "model")]
    pub(crate) data: Vec<PathBuf>,
    /// The most records that are read of each file
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) limit: usize,
    /// Write the report for programs; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum CompressMethod {
    /// The largest elements
    Trim,
    /// Elements at random, scaled up
    Dare,
    /// Signs, with one scale for each row
    Sign,
}

impl CompressArgs {
    /// What is to be done.
    ///
    /// # Errors
    ///
    /// A sentence, where options don't go together.
    pub(crate) fn how(&self) -> Result<Compression, String> {
        let missing = || "--density says which share is kept, e.g. --density 0.1".to_owned();
        Ok(match (self.rank, self.method, self.density) {
            (Some(rank), ..) => Compression::LowRank { rank },
            (None, Some(CompressMethod::Sign), None) => Compression::Sign,
            (None, Some(CompressMethod::Sign), Some(_)) => {
                return Err("--method sign keeps every sign; it takes no --density".to_owned());
            }
            (None, Some(CompressMethod::Dare), density) => {
                Compression::Dare { density: density.ok_or_else(missing)?, seed: self.seed }
            }
            (None, None | Some(CompressMethod::Trim), density) => {
                Compression::Trim { density: density.ok_or_else(missing)? }
            }
        })
    }
}

#[derive(clap::Args)]
pub(crate) struct SeparateArgs {
    /// The vector
    pub(crate) vector: PathBuf,
    /// A vector with which it may share something; repeat for several
    #[arg(long = "from", value_name = "F", required = true)]
    pub(crate) others: Vec<PathBuf>,
    /// The model that they belong to: needed where one of them is an aligned model
    #[arg(long, value_name = "M")]
    pub(crate) base: Option<PathBuf>,
    /// Directions of the others, in each tensor, that count as shared
    #[arg(long, value_name = "K", default_value_t = 4)]
    pub(crate) rank: usize,
    /// The file for what is its own
    #[arg(long, value_name = "F2")]
    pub(crate) out: PathBuf,
    /// The file for what is shared
    #[arg(long, value_name = "F3")]
    pub(crate) shared: Option<PathBuf>,
    /// Write the report for programs; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CompressArgs,
    }

    #[test]
    fn compressions_are_told_apart_by_their_options() {
        let how = |options: &[&str]| {
            let line = ["meav", "v", "--out", "o"].iter().chain(options);
            Line::try_parse_from(line).map_err(|err| err.to_string())?.args.how()
        };
        assert_eq!(how(&["--rank", "8"]), Ok(Compression::LowRank { rank: 8 }));
        assert_eq!(how(&["--density", "0.1"]), Ok(Compression::Trim { density: 0.1 }));
        assert_eq!(how(&["--method", "sign"]), Ok(Compression::Sign));
        assert_eq!(
            how(&["--method", "dare", "--density", "0.5", "--seed", "3"]),
            Ok(Compression::Dare { density: 0.5, seed: 3 })
        );
        for bad in [
            &[][..],
            &["--rank", "8", "--density", "0.1"],
            &["--method", "dare"],
            &["--method", "trim"],
            &["--method", "sign", "--density", "0.1"],
        ] {
            assert!(how(bad).is_err(), "{bad:?}");
        }
    }
}
