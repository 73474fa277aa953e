mod overlay;
mod values;

use std::path::{Path, PathBuf};

use meav_protocol::{Dtype, TrainData, TrainSettings, TrainSpec};
use uuid::Uuid;

use super::{Compute, JsonTarget};
pub(crate) use overlay::Contradiction;
use overlay::Overlay;
use values::{
    LossArg, MethodArg, OptimizerArg, OrNone, Preferred, ScheduleArg, parse_count,
    parse_not_negative, parse_or_none, parse_positive, parse_share, parse_smoothing,
};

/// What is not given is left open here: a run that goes on has its settings already.
#[derive(clap::Args)]
pub(crate) struct TrainArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M", required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// Preference records: JSONL, JSON, CSV or Parquet, each level preferred to the next lower
    /// one, or with `=LEVEL` that level to all others; repeat to train on several jointly
    #[arg(long, value_name = "F[=LEVEL]", required_unless_present = "resume")]
    data: Vec<Preferred>,
    /// The preference dimension's name in the vector [default: the data's only domain]
    #[arg(long, value_name = "D")]
    domain: Option<String>,
    /// The run's folder: vector.safetensors, metrics.csv, config, log and checkpoints
    #[arg(long, value_name = "DIR", required_unless_present = "estimate")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// What the model computes with: f32, or bf16 with f32 master copies [default: f32, bf16 on
    /// a GPU]
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Go on from the newest checkpoint in the folder, with the settings of that run
    #[arg(long, conflicts_with = "estimate")]
    pub(crate) resume: bool,
    /// Only say what it would take: time, memory and disk space
    #[arg(long)]
    pub(crate) estimate: bool,
    /// Write the run for programs, or what it would take; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(clap::Args)]
struct SettingsArgs {
    #[command(flatten)]
    method: TrainMethodArgs,
    /// What is minimised [default: ipo]
    #[arg(long, value_enum)]
    loss: Option<LossArg>,
    /// The sigmoid loss: the share of pairs that are taken to be the wrong way round, below 0.5
    /// [default: 0]
    #[arg(long, value_name = "E", value_parser = parse_smoothing)]
    label_smoothing: Option<f64>,
    /// How far the vector may lead from the base model: less with a larger one [default: 0.1]
    #[arg(long, value_name = "B", value_parser = parse_positive)]
    beta: Option<f64>,
    /// Also prefer the highest level to the lowest
    #[arg(long)]
    skip_pairs: bool,
    /// Times that each pair is seen [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    epochs: Option<usize>,
    /// Pairs that go through the model together [default: 4]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    batch: Option<usize>,
    /// Batches whose gradients make one step together [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    accumulation: Option<usize>,
    /// The highest learning rate [default: 5e-4, 1e-5 for all weights]
    #[arg(long, value_name = "X", value_parser = parse_positive)]
    lr: Option<f64>,
    /// How the learning rate falls after the warm-up [default: cosine]
    #[arg(long, value_enum)]
    schedule: Option<ScheduleArg>,
    /// Steps in which the learning rate rises from 0 [default: 5]
    #[arg(long, value_name = "N")]
    warmup: Option<usize>,
    /// The optimiser's decoupled weight decay [default: 0]
    #[arg(long, value_name = "X", value_parser = parse_not_negative)]
    weight_decay: Option<f64>,
    /// Scale larger gradients down to this norm, or `none` [default: 1]
    #[arg(long, value_name = "X", value_parser = parse_or_none(parse_positive))]
    max_grad_norm: Option<OrNone<f64>>,
    /// What the optimiser's moments are kept as [default: f32]
    #[arg(long, value_enum)]
    optimizer_state: Option<OptimizerArg>,
    /// Keep everything for the way back: faster, with far more memory
    #[arg(long)]
    no_checkpointing: bool,
    /// Compute the way again on the way back instead of keeping it [default]
    #[arg(long, conflicts_with = "no_checkpointing")]
    checkpointing: bool,
    /// Tokens of a prompt with its response; longer responses are cut [default: 1024]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_length: Option<usize>,
    /// The share of records held back to measure on, none of fewer than 34 [default: 0.03]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    validation: Option<f64>,
    /// Steps between two measurements on them [default: 10]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    validate_every: Option<usize>,
    /// Measurements without a lower loss after which it ends, or `none` [default: 3]
    #[arg(long, value_name = "N", value_parser = parse_or_none(parse_count))]
    patience: Option<OrNone<usize>>,
    /// Steps between two checkpoints [default: 20]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    checkpoint_every: Option<usize>,
    /// End after this many steps [default: with the last epoch]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_steps: Option<usize>,
    /// The same seed gives the same vector [default: 0]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

#[derive(clap::Args)]
pub(crate) struct TrainMethodArgs {
    /// Which weights change [default: lora]
    #[arg(long, value_enum)]
    method: Option<MethodArg>,
    /// LoRA: the rank of the factors [default: 8]
    #[arg(long, value_name = "R", value_parser = parse_count)]
    rank: Option<usize>,
    /// LoRA: the factors' product is multiplied by this over the rank [default: 8]
    #[arg(long, value_name = "A", value_parser = parse_positive)]
    alpha: Option<f64>,
    /// LoRA: the parts of the layers that get factors, e.g. `q_proj,v_proj` [default: all linear
    /// ones]
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    targets: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct BenchTrainArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) method: TrainMethodArgs,
    /// Keep everything for the way back: faster, with far more memory
    #[arg(long)]
    pub(crate) no_checkpointing: bool,
    /// Pairs of a step
    #[arg(long, value_name = "N", default_value = "4", value_parser = parse_count)]
    pub(crate) pairs: usize,
    /// Tokens of a prompt with its response
    #[arg(long, value_name = "N", default_value = "256", value_parser = parse_count)]
    pub(crate) tokens: usize,
    /// What the model computes with: f32, or bf16 with f32 master copies [default: f32, bf16 on
    /// a GPU]
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// Write the figures for programs; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

impl TrainArgs {
    /// A new run, with an empty domain if none is given.
    ///
    /// # Errors
    ///
    /// [`Contradiction`] between two options.
    pub(crate) fn fresh(&self, default_dtype: Dtype) -> Result<TrainSpec, Contradiction> {
        let mut spec = TrainSpec {
            run: Uuid::now_v7(),
            model: PathBuf::new(),
            data: Vec::new(),
            domain: String::new(),
            out: self.out.as_deref().map(absolute),
            resume: false,
            dtype: default_dtype,
            settings: TrainSettings::default(),
        };
        self.lay_over(&mut spec, false)?;
        Ok(spec)
    }

    /// A run that goes on, in the folder of the command.
    ///
    /// # Errors
    ///
    /// [`Contradiction`] between an option and what the run was begun with.
    pub(crate) fn resumed(&self, kept: TrainSpec) -> Result<TrainSpec, Contradiction> {
        let mut spec = TrainSpec { out: self.out.as_deref().map(absolute), resume: true, ..kept };
        self.lay_over(&mut spec, true)?;
        Ok(spec)
    }

    fn lay_over(&self, spec: &mut TrainSpec, is_fixed: bool) -> Result<(), Contradiction> {
        let mut overlay = Overlay { is_fixed, contradiction: None };
        let data: Vec<TrainData> = self
            .data
            .iter()
            .map(|Preferred(data)| TrainData { file: found(&data.file), ..data.clone() })
            .collect();
        overlay.set("--model", &mut spec.model, self.model.as_deref().map(found));
        overlay.set("--data", &mut spec.data, (!data.is_empty()).then_some(data));
        overlay.set("--domain", &mut spec.domain, self.domain.clone());
        overlay.set("--dtype", &mut spec.dtype, self.dtype);
        self.settings.lay_over(&mut spec.settings, &mut overlay);
        overlay.contradiction.map_or(Ok(()), Err)
    }
}

/// As it is found from any folder; what is not there, such as `demo`, has its name only.
fn found(path: &Path) -> PathBuf {
    if path.exists() { absolute(path) } else { path.to_owned() }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use meav_protocol::{OptimizerState, PreferenceLoss, Schedule, TrainMethod};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TrainArgs,
    }

    fn parse(options: &[&str]) -> Result<TrainArgs, String> {
        let line = Line::try_parse_from(["meav"].iter().chain(options));
        line.map(|line| line.args).map_err(|err| err.to_string())
    }

    const FRESH: [&str; 6] = ["--model", "m", "--data", "d.jsonl", "--out", "o"];

    fn fresh(options: &[&str]) -> Result<TrainSpec, String> {
        parse(&[&FRESH[..], options].concat())?.fresh(Dtype::F32).map_err(|err| err.to_string())
    }

    #[test]
    fn what_is_not_given_is_as_what_worked() {
        let spec = fresh(&[]).unwrap();
        assert_eq!(spec.settings, TrainSettings::default());
        assert_eq!((spec.dtype, spec.resume, &*spec.domain), (Dtype::F32, false, ""));
        assert_eq!(spec.model, Path::new("m"));
        assert_eq!(spec.data, [TrainData { file: "d.jsonl".into(), prefer: None }]);
        assert!(spec.out.is_some_and(|out| out.is_absolute() && out.ends_with("o")));
        let dtype = |options: &[&str]| {
            let args = parse(&[&FRESH[..], options].concat()).unwrap();
            args.fresh(Dtype::Bf16).map(|spec| spec.dtype)
        };
        assert_eq!(dtype(&[]), Ok(Dtype::Bf16), "as suits the device");
        assert_eq!(dtype(&["--dtype", "f32"]), Ok(Dtype::F32));
        let full = fresh(&["--method", "full"]).unwrap().settings;
        assert_eq!((full.method, full.learning_rate), (TrainMethod::Full, 1e-5));
        let full = fresh(&["--method", "full", "--lr", "3e-5"]).unwrap().settings;
        assert_eq!((full.method, full.learning_rate), (TrainMethod::Full, 3e-5));
    }

    #[test]
    fn every_option_reaches_its_setting() {
        let options = "--rank 4 --alpha 16 --targets q_proj,v_proj --loss sigmoid \
            --label-smoothing 0.1 --beta 0.2 --skip-pairs --epochs 2 --batch 3 --accumulation 5 \
            --lr 1e-3 --schedule linear --warmup 0 --weight-decay 0.01 --max-grad-norm none \
            --optimizer-state int8 --no-checkpointing --max-length 300 --validation 0.1 \
            --validate-every 7 --patience none --checkpoint-every 9 --max-steps 11 --seed 12";
        let options: Vec<&str> = options.split_whitespace().collect();
        let settings = TrainSettings {
            method: TrainMethod::Lora {
                rank: 4,
                alpha: 16.0,
                targets: ["q_proj", "v_proj"].map(str::to_owned).to_vec(),
            },
            loss: PreferenceLoss::Sigmoid { label_smoothing: 0.1 },
            beta: 0.2,
            skip_pairs: true,
            epochs: 2,
            batch: 3,
            accumulation: 5,
            max_steps: Some(11),
            learning_rate: 1e-3,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            weight_decay: 0.01,
            max_grad_norm: None,
            optimizer_state: OptimizerState::Int8,
            checkpointing: false,
            max_length: 300,
            validation: 0.1,
            validate_every: 7,
            patience: None,
            checkpoint_every: 9,
            seed: 12,
        };
        let spec = fresh(&options).unwrap();
        assert_eq!(spec.settings, settings);

        // The same options may be given again to go on; each alone contradicts another run.
        let again = [&FRESH[..], &options[..], &["--resume"]].concat();
        let resumed = parse(&again).unwrap().resumed(spec.clone()).unwrap();
        assert_eq!(resumed, TrainSpec { resume: true, ..spec });
        let mut refused = 0;
        let named = options.iter().enumerate().filter(|(_, option)| option.starts_with("--"));
        // Two of them change no number, and one goes with another.
        let free = ["--label-smoothing", "--no-checkpointing", "--checkpoint-every"];
        for (at, option) in named.filter(|(_, option)| !free.contains(option)) {
            let value = options.get(at + 1).filter(|value| !value.starts_with("--"));
            let line: Vec<&str> =
                ["--resume", "--out", "o", option].into_iter().chain(value.copied()).collect();
            let other = fresh(&[]).unwrap();
            let words = parse(&line).unwrap().resumed(other).unwrap_err().to_string();
            assert!(words.contains(option), "{words}");
            refused += 1;
        }
        assert_eq!(refused, 21);
    }

    #[test]
    fn run_goes_on_with_its_own_settings() {
        let kept = TrainSpec {
            domain: "medical".to_owned(),
            ..fresh(&["--rank", "4", "--loss", "sigmoid", "--label-smoothing", "0.1"]).unwrap()
        };
        let resumed = |options: &[&str]| {
            let args = parse(&[&["--out", "moved", "--resume"], options].concat()).unwrap();
            args.resumed(kept.clone()).map_err(|err| err.to_string())
        };
        let spec = resumed(&[]).unwrap();
        assert_eq!((spec.run, spec.resume, &spec.settings), (kept.run, true, &kept.settings));
        assert!(spec.out.is_some_and(|out| out.ends_with("moved")));
        for same in [
            &["--model", "m", "--domain", "medical"][..],
            &["--method", "lora", "--rank", "4"],
            &["--loss", "sigmoid"],
            &["--label-smoothing", "0.1"],
            &["--data", "d.jsonl"],
        ] {
            assert!(resumed(same).is_ok(), "{same:?}");
        }
        let spec = resumed(&["--no-checkpointing", "--checkpoint-every", "3"]).unwrap();
        assert_eq!((spec.settings.checkpointing, spec.settings.checkpoint_every), (false, 3));
        let kept = TrainSpec { settings: spec.settings, ..kept.clone() };
        let args = parse(&["--out", "moved", "--resume", "--checkpointing"]).unwrap();
        let spec = args.resumed(kept).unwrap();
        assert_eq!((spec.settings.checkpointing, spec.settings.checkpoint_every), (true, 3));
        for other in [
            &["--model", "n"][..],
            &["--data", "e.jsonl"],
            &["--data", "d.jsonl=expert"],
            &["--data", "d.jsonl", "--data", "e.jsonl"],
            &["--domain", "legal"],
            &["--dtype", "bf16"],
            &["--method", "full"],
            &["--rank", "8"],
            &["--label-smoothing", "0.2"],
            &["--loss", "ipo"],
        ] {
            let words = resumed(other).unwrap_err();
            assert!(words.contains(other[0]), "{words}");
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for (options, named) in [
            (&["--label-smoothing", "0.1"][..], "--label-smoothing"),
            (&["--loss", "hinge", "--label-smoothing", "0.1"], "--label-smoothing"),
            (&["--method", "full", "--rank", "4"], "--rank"),
            (&["--method", "full", "--alpha", "4"], "--alpha"),
            (&["--method", "full", "--targets", "q_proj"], "--targets"),
            (&["--beta", "0"], "--beta"),
            (&["--beta", "nan"], "--beta"),
            (&["--lr", "inf"], "--lr"),
            (&["--batch", "0"], "--batch"),
            (&["--validation", "1"], "--validation"),
            (&["--label-smoothing", "0.5"], "--label-smoothing"),
            (&["--patience", "0"], "--patience"),
            (&["--checkpointing", "--no-checkpointing"], "--checkpointing"),
            (&["--data", "=expert"], "--data"),
            (&["--resume", "--estimate"], "--estimate"),
        ] {
            let words = fresh(options).unwrap_err();
            assert!(words.contains(named), "{options:?}: {words}");
        }
        assert!(parse(&["--model", "m", "--data", "d", "--estimate"]).is_ok());
        assert!(parse(&["--out", "o", "--resume"]).is_ok());
        for missing in [
            &["--data", "d", "--out", "o"][..],
            &["--model", "m", "--out", "o"],
            &["--model", "m", "--data", "d"],
            &["--resume"],
        ] {
            assert!(parse(missing).is_err(), "{missing:?}");
        }
    }

    #[test]
    fn measured_method_is_that_of_training() {
        #[derive(Parser)]
        struct Bench {
            #[command(flatten)]
            args: BenchTrainArgs,
        }
        let method = |options: &[&str]| {
            let line = Bench::try_parse_from([&["meav", "--model", "m"], options].concat());
            line.unwrap().args.method.method()
        };
        assert_eq!(method(&[]), Ok(TrainMethod::default()));
        assert_eq!(method(&["--method", "full"]), Ok(TrainMethod::Full));
        assert!(method(&["--method", "full", "--rank", "2"]).is_err());
    }
}
