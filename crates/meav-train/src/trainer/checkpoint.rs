use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use meav_protocol::{OptimizerState, TrainSettings, TrainValidation};
use meav_weights::{
    Checkpoint, Dtype, IntegerDtype, IntegerTensor, Integers, SafetensorsWriter, StoredDtype,
    StoredSpec, Values, Weight, write_file_atomically,
};
use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::optimizer::{BLOCK, Moments, Parameter, Quantised};
use crate::{CheckpointError, TrainError, deciding_settings};

/// The key of the file's metadata that holds a [`State`].
const KEY: &str = "meav.train";

const FORMAT: u32 = 1;

/// Behind a tensor's name: its moments, by `PyTorch`'s names.
const MEAN: &str = ".exp_avg";
const SQUARE: &str = ".exp_avg_sq";
const CODES: &str = ".codes";
const SCALES: &str = ".scales";

/// Codes in a whole number of a file.
const PACKED: usize = 4;

/// Where a run is, beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    step: usize,
    num_tokens: u64,
    validations: Vec<TrainValidation>,
    model: String,
    data: String,
    settings: TrainSettings,
}

impl Trainer {
    /// Writes all that the run needs to go on from here to one safetensors file, which appears when
    /// it is complete: what is trained in `f32`, the optimiser's moments, and where the run is.
    ///
    /// # Errors
    ///
    /// [`TrainError::NotFinite`] for weights or moments that are no numbers any more;
    /// [`TrainError::Weights`] where the file can't be written. Then what was there before is still there.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let state = State {
            format: FORMAT,
            step: self.step,
            num_tokens: self.num_tokens,
            validations: self.validations.clone(),
            model: self.model.clone(),
            data: self.pairs.fingerprint.clone(),
            settings: self.settings.clone(),
        };
        let state = serde_json::to_string(&state).map_err(|source| TrainError::Checkpoint {
            path: path.to_owned(),
            source: source.into(),
        })?;
        let metadata = BTreeMap::from([(KEY.to_owned(), state)]);
        let parameters = self.optimizer.parameters();
        let specs = parameters.iter().flat_map(specs).collect();
        write_file_atomically(path, |file| {
            let mut writer = SafetensorsWriter::with_integers(file, path, specs, metadata)?;
            for parameter in parameters {
                write_parameter(&mut writer, parameter, self.step)?;
            }
            Ok(writer.finish()?)
        })
    }

    /// Goes on from a checkpoint of the same run, which may have been written by another process:
    /// the next step is the one behind it, with the same numbers as if there had been no
    /// interruption.
    ///
    /// The model, the pairs and the settings must be those of the run, but for what changes no
    /// number: when checkpoints are written, and whether activations are kept.
    ///
    /// # Errors
    ///
    /// [`TrainError::Checkpoint`] for a file of another run, which is told by what differs, or one
    /// that is damaged. Then nothing has changed.
    pub fn resume(&mut self, path: &Path) -> Result<(), TrainError> {
        let at = |source| TrainError::Checkpoint { path: path.to_owned(), source };
        let file = Checkpoint::open(path).map_err(|err| at(err.into()))?;
        let state = self.state(&file).map_err(at)?;
        let parameters = self.optimizer.parameters();
        check_names(&file, parameters).map_err(at)?;
        let saved: Vec<Saved> = parameters
            .iter()
            .map(|parameter| Saved::read(&file, parameter))
            .collect::<Result<_, _>>()
            .map_err(at)?;
        for (parameter, saved) in self.optimizer.parameters_mut().iter_mut().zip(saved) {
            parameter.restore(&saved.values.to_f32_vec(), saved.moments.load())?;
        }
        self.step = state.step;
        self.num_tokens = state.num_tokens;
        self.validations = state.validations;
        Ok(())
    }

    /// What a file says of its run, if that is this one.
    fn state(&self, file: &Checkpoint) -> Result<State, CheckpointError> {
        let state = file.metadata().get(KEY).ok_or(CheckpointError::NoState { key: KEY })?;
        let Format { format } = serde_json::from_str(state)?;
        if format != FORMAT {
            return Err(CheckpointError::Format { found: format, supported: FORMAT });
        }
        let state: State = serde_json::from_str(state)?;
        let others =
            [("model", &state.model, &self.model), ("data", &state.data, &self.pairs.fingerprint)];
        for (what, there, here) in others {
            if there != here {
                return Err(other_run(what, there, here));
            }
        }
        check_settings_agree(&state.settings, &self.settings)?;
        let total = self.total_steps();
        if state.step > total {
            return Err(CheckpointError::Step { found: state.step, total });
        }
        Ok(state)
    }
}

/// What every format says of itself.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn other_run(what: &str, there: &str, here: &str) -> CheckpointError {
    let [what, there, here] = [what, there, here].map(str::to_owned);
    CheckpointError::OtherRun { what, there, here }
}

/// Names the first setting that another number would come of.
fn check_settings_agree(
    there: &TrainSettings,
    here: &TrainSettings,
) -> Result<(), CheckpointError> {
    let (there, here) = (deciding_settings(there), deciding_settings(here));
    match there.iter().zip(here.values()).find(|((_, there), here)| there != here) {
        Some(((name, there), here)) => Err(other_run(name, &there.to_string(), &here.to_string())),
        None => Ok(()),
    }
}

/// The tensors of a file that belong to one that is trained, in the order in which they are
/// written.
fn specs(parameter: &Parameter) -> Vec<StoredSpec> {
    let name = parameter.name();
    let float = |suffix: &str, shape: Vec<usize>| StoredSpec {
        name: format!("{name}{suffix}"),
        dtype: StoredDtype::Float(Dtype::F32),
        shape,
    };
    let shape = || parameter.shape().to_vec();
    let mut specs = vec![float("", shape())];
    match parameter.state() {
        OptimizerState::F32 => {
            specs.extend([MEAN, SQUARE].map(|suffix| float(suffix, shape())));
        }
        OptimizerState::Int8 => {
            let n_blocks = parameter.len().div_ceil(BLOCK);
            for suffix in [MEAN, SQUARE] {
                specs.push(StoredSpec {
                    name: format!("{name}{suffix}{CODES}"),
                    dtype: StoredDtype::Integer(IntegerDtype::U32),
                    shape: vec![n_blocks * BLOCK / PACKED],
                });
                specs.push(float(&format!("{suffix}{SCALES}"), vec![n_blocks]));
            }
        }
    }
    specs
}

fn write_parameter(
    writer: &mut SafetensorsWriter<&mut File>,
    parameter: &Parameter,
    step: usize,
) -> Result<(), TrainError> {
    let not_finite = |quantity, value: f32| {
        let value = f64::from(value);
        Err(TrainError::NotFinite { step, quantity, value })
    };
    let values = parameter.values()?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return not_finite("value of a weight", *value);
    }
    write_f32(writer, &values)?;
    drop(values);
    let moments = parameter.moments()?;
    if let Some(value) = moments.impossible() {
        return not_finite("mean of a gradient", value);
    }
    match &*moments {
        Moments::F32 { m, v } => {
            write_f32(writer, m)?;
            write_f32(writer, v)?;
        }
        Moments::Int8 { m, v } => {
            for Quantised { codes, scales } in [m, v] {
                writer.push(codes)?;
                write_f32(writer, scales)?;
            }
        }
    }
    Ok(())
}

fn write_f32(writer: &mut SafetensorsWriter<&mut File>, values: &[f32]) -> Result<(), TrainError> {
    /// Values that are turned into bytes at a time.
    const CHUNK: usize = 1 << 16;
    for values in values.chunks(CHUNK) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.push_part(&bytes)?;
    }
    Ok(())
}

fn check_names(file: &Checkpoint, parameters: &[Parameter]) -> Result<(), CheckpointError> {
    let specs: BTreeMap<String, StoredSpec> =
        parameters.iter().flat_map(specs).map(|spec| (spec.name.clone(), spec)).collect();
    for (name, spec) in &specs {
        let Some(info) = file.info(name) else {
            return Err(CheckpointError::MissingTensor { name: name.clone() });
        };
        let dtype = match spec.dtype {
            StoredDtype::Float(_) => "F32",
            StoredDtype::Integer(_) => "U32",
        };
        if info.shape != spec.shape || info.stored_dtype != dtype {
            let found = format!("{} {:?}", info.stored_dtype, info.shape);
            let expected = format!("{dtype} {:?}", spec.shape);
            return Err(CheckpointError::Shape { name: name.clone(), found, expected });
        }
    }
    match file.names().find(|name| !specs.contains_key(*name)) {
        Some(name) => Err(CheckpointError::UnknownTensor { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// What a file has of a tensor that is trained: mapped, and found to be possible.
struct Saved {
    values: Weight,
    moments: SavedMoments,
}

enum SavedMoments {
    F32 { m: Weight, v: Weight },
    Int8 { m: SavedCodes, v: SavedCodes },
}

struct SavedCodes {
    codes: IntegerTensor,
    scales: Weight,
}

impl Saved {
    fn read(file: &Checkpoint, parameter: &Parameter) -> Result<Self, CheckpointError> {
        let name = parameter.name();
        let float = |suffix: &str, is_positive: bool| {
            let name = format!("{name}{suffix}");
            let weight = file.load(&name)?;
            check_values(&name, &weight, is_positive)?;
            Ok::<_, CheckpointError>(weight)
        };
        let codes = |suffix: &str| {
            let codes = file.load_integers(&format!("{name}{suffix}{CODES}"))?;
            let scales = float(&format!("{suffix}{SCALES}"), true)?;
            Ok::<_, CheckpointError>(SavedCodes { codes, scales })
        };
        let moments = match parameter.state() {
            OptimizerState::F32 => {
                SavedMoments::F32 { m: float(MEAN, false)?, v: float(SQUARE, true)? }
            }
            OptimizerState::Int8 => SavedMoments::Int8 { m: codes(MEAN)?, v: codes(SQUARE)? },
        };
        Ok(Self { values: float("", false)?, moments })
    }
}

impl SavedMoments {
    fn load(&self) -> Moments {
        match self {
            Self::F32 { m, v } => Moments::F32 { m: m.to_f32_vec(), v: v.to_f32_vec() },
            Self::Int8 { m, v } => Moments::Int8 { m: m.load(), v: v.load() },
        }
    }
}

impl SavedCodes {
    fn load(&self) -> Quantised {
        let codes = match self.codes.values() {
            Integers::U32(packed) => packed.iter().flat_map(|it| it.to_le_bytes()).collect(),
            Integers::U16(packed) => packed.iter().flat_map(|it| it.to_le_bytes()).collect(),
        };
        Quantised { codes, scales: self.scales.to_f32_vec() }
    }
}

fn check_values(name: &str, weight: &Weight, is_positive: bool) -> Result<(), CheckpointError> {
    let Values::F32(values) = weight.values() else { return Ok(()) };
    let is_possible = |value: &f32| value.is_finite() && (!is_positive || *value >= 0.0);
    match values.iter().find(|value| !is_possible(value)) {
        Some(value) => Err(CheckpointError::Value { name: name.to_owned(), value: *value }),
        None => Ok(()),
    }
}
