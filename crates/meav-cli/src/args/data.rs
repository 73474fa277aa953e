use std::path::PathBuf;

use clap::Subcommand;

use super::JsonTarget;

#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Say what files of preference records hold, and which lines cannot be used
    Check {
        /// JSONL, JSON, CSV or Parquet
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the same for programs, as a list; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<JsonTarget>,
    },
    /// Cut a file into parts for training, validation and testing, no persona in two of them
    Split {
        /// JSONL, JSON, CSV or Parquet
        file: PathBuf,
        /// The folder for NAME.train.jsonl, NAME.validation.jsonl and NAME.test.jsonl
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The share of records for testing
        #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = parse_share)]
        test: f64,
        /// The share of records for validation
        #[arg(long, value_name = "SHARE", default_value_t = 0.03, value_parser = parse_share)]
        validation: f64,
        /// The same seed cuts the same way
        #[arg(long, value_name = "S", default_value_t = 0)]
        seed: u64,
    },
    /// Say which personas and queries a file for testing shares with one for training
    Leakage {
        /// The file for training
        #[arg(long, value_name = "F")]
        train: PathBuf,
        /// The file for testing
        #[arg(long, value_name = "F")]
        test: PathBuf,
        /// Write the same for programs; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<JsonTarget>,
    },
    /// Say where the preference data are that come with the demo
    List,
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is no share of 0 or more and less than 1, e.g. 0.2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_a_whole() {
        assert_eq!(parse_share("0.2"), Ok(0.2));
        assert_eq!(parse_share("0"), Ok(0.0));
        for bad in ["-0.1", "1", "20", "nan", "", "20 %"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
