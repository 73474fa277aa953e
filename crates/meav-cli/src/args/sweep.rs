use std::path::{Path, PathBuf};

use meav_protocol::{Dtype, LambdaRange, Prompting, Setup, SweepSpec, VectorTerm};
use uuid::Uuid;

use super::{CombiningArgs, Compute, PromptingArgs, WeightedVector};

#[derive(clap::Args)]
pub(crate) struct SweepArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) model: PathBuf,
    /// The vector whose λ is swept; with several, one sweep each, and a matrix of all
    #[arg(long = "vector", value_name = "F", required = true)]
    pub(crate) vectors: Vec<PathBuf>,
    /// Where: the first λ, the last, and the step
    #[arg(long, value_name = "FIRST:LAST:STEP", default_value_t, value_parser = parse_range, allow_hyphen_values = true)]
    pub(crate) lambda: LambdaRange,
    /// A vector that keeps this λ all along; repeat for several
    #[arg(long = "with", value_name = "F=λ")]
    held: Vec<WeightedVector>,
    #[command(flatten)]
    combining: CombiningArgs,
    /// Preference records: JSONL, JSON, CSV or Parquet; repeat for several
    #[arg(long, value_name = "F", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// Do the same on this model too, for which the vector was not made; repeat for several
    #[arg(long, value_name = "M2")]
    pub(crate) transfer: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) prompting: PromptingArgs,
    /// Measure again what earlier sweeps have measured
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Write what the sweep tells of the vector into the vector's file, too
    #[arg(long)]
    pub(crate) write_calibration: bool,
    /// The folder for sweep.json, sweep.csv, sweep.svg, sweep.png and sweep.md; with several
    /// vectors, each has a folder in it
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// What the weights are rounded to: f32 or bf16 [default: f32, bf16 on a GPU]
    #[arg(long)]
    dtype: Option<Dtype>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

impl SweepArgs {
    /// The sweep of one vector, by its place, on one model, as a new run.
    ///
    /// # Errors
    ///
    /// A sentence, if the options of the method or of where vectors act can't be meant.
    pub(crate) fn spec(
        &self,
        model: &Path,
        vector: usize,
        prompting: Option<Prompting>,
        default_dtype: Dtype,
    ) -> Result<SweepSpec, String> {
        let swept = self.vectors.iter().map(|file| VectorTerm::new(file, 0.0));
        let held = self.held.iter().cloned().map(Into::into);
        let mut terms = self.combining.scoped(swept.chain(held).collect())?;
        let held = terms.split_off(self.vectors.len());
        let swept = terms.swap_remove(vector);
        let setup = Setup {
            model: model.to_owned(),
            dtype: self.dtype.unwrap_or(default_dtype),
            method: self.combining.method()?,
            vectors: std::iter::once(swept).chain(held).collect(),
        };
        Ok(SweepSpec {
            run: Uuid::now_v7(),
            setup,
            swept: 0,
            range: self.lambda,
            data: self.data.clone(),
            prompting,
            reuse: !self.fresh,
        })
    }
}

fn parse_range(text: &str) -> Result<LambdaRange, String> {
    text.replace('−', "-").parse().map_err(|err: meav_protocol::ParseRangeError| err.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use meav_protocol::{Method, ModuleKind};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SweepArgs,
    }

    fn parse(options: &[&str]) -> Result<SweepArgs, String> {
        let fixed = ["meav", "--model", "m", "--vector", "v=1", "--data", "d", "--out", "o"];
        let line = Line::try_parse_from(fixed.iter().chain(options));
        line.map(|line| line.args).map_err(|err| err.to_string())
    }

    #[test]
    fn range_may_start_with_a_minus_sign() {
        let range = |options: &[&str]| parse(options).map(|args| args.lambda);
        let half = LambdaRange { first: -1.5, last: 1.5, step: 0.5 };
        for options in [
            &["--lambda", "-1.5:1.5:0.5"][..],
            &["--lambda=-1.5:1.5:0.5"],
            &["--lambda", "−1.5:1.5:0.5"],
        ] {
            assert_eq!(range(options), Ok(half), "{options:?}");
        }
        assert_eq!(range(&[]), Ok(LambdaRange::default()));
        for bad in ["1:0:0.1", "-1:1", "-1:1:0", "x"] {
            assert!(range(&["--lambda", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn swept_vector_goes_before_those_that_are_held() {
        let args = parse(&["--with", "legal=-0.5", "--with", "c=1", "--fresh"]).unwrap();
        let spec = args.spec(Path::new("m2"), 0, None, Dtype::Bf16).unwrap();
        let expected = [
            VectorTerm::new("v=1", 0.0),
            VectorTerm::new("legal", -0.5),
            VectorTerm::new("c", 1.0),
        ];
        assert_eq!(spec.setup.vectors, expected);
        assert_eq!((spec.swept, spec.reuse, spec.setup.dtype), (0, false, Dtype::Bf16));
        assert_eq!(spec.setup.model, Path::new("m2"));
    }

    #[test]
    fn method_and_scopes_go_to_the_vectors_that_they_name() {
        let options = ["--vector", "w", "--with", "legal=1", "--method", "ties", "--layers"];
        let spec = |layers: &str, vector| {
            let options = [&options[..], &[layers, "--modules", "mlp"]].concat();
            parse(&options)?.spec(Path::new("m"), vector, None, Dtype::F32)
        };
        let layers = |spec: &SweepSpec| {
            let vectors = spec.setup.vectors.iter();
            vectors.map(|term| term.scope.layers.clone()).collect::<Vec<_>>()
        };
        let [first, second] = [0, 1].map(|vector| spec("w=0-3", vector).unwrap());
        assert!(layers(&first).iter().all(Vec::is_empty), "{first:?}");
        assert_eq!(layers(&second), [vec![[0, 3]], vec![]]);
        assert_eq!(layers(&spec("legal=2", 0).unwrap()), [vec![], vec![[2, 2]]]);
        assert_eq!(second.setup.vectors[0].file, Path::new("w"));
        assert_eq!(second.setup.vectors[1].scope.modules, [ModuleKind::Mlp]);
        assert_eq!(second.setup.method, Method::Ties { density: 0.2 });
        assert!(spec("x=0", 0).is_err(), "there is no such vector");
        let drop = parse(&["--drop", "0.5", "--dtype", "f32"]).unwrap();
        assert_eq!(drop.dtype, Some(Dtype::F32));
        assert!(drop.spec(Path::new("m"), 0, None, Dtype::F32).is_err());
    }
}
