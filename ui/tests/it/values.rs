//! Values of the protocol, as an engine would send them.

use std::path::{Path, PathBuf};

use meav_protocol::{
    Chat, ChatSummary, ComparedVector, Comparison, ComparisonCell, ComparisonPair, CompressReport,
    Description, Dtype, EngineChoice, EngineDevice, Event, Fact, FileKind, FinishReason, Gpu,
    LoadedModel, LogProbShift, MemoryPlan, MemoryUse, Message, Method, MissingPart, ModuleKind,
    OpenedRecipe, Place, PlanChange, PlanPart, RecipeStamp, Reply, ReplyFigures, Role, Scope,
    SeparateReport, Setup, StampTerm, UserError, VectorInfo, VectorTerm, WayOut,
};
use meav_ui::HostInfo;
use uuid::Uuid;

/// What a file is, told from its name.
pub(crate) fn described(path: &Path) -> Fact {
    let is_model = path == "demo" || path.extension().is_some_and(|ending| ending == "gguf");
    let is_data = path.extension().is_some_and(|ending| ending == "jsonl");
    Fact::Described(Description {
        kind: match () {
            () if is_model => FileKind::Model,
            () if is_data => FileKind::Data,
            () => FileKind::Vector,
        },
        title: format!("Alignment vector \"{}\"", domain(path)),
        rows: vec![("levels".to_owned(), "expert, generic, avoidance".to_owned())],
    })
}

pub(crate) fn hello() -> Event {
    Event::Hello {
        protocol: meav_protocol::PROTOCOL_VERSION,
        version: "0.1.0".to_owned(),
        device: "CPU, 2 threads".to_owned(),
        log: Some("/home/me/logs/engine.log".into()),
    }
}

/// The engine has a GPU.
pub(crate) fn on_gpu() -> Event {
    let gpu = Gpu {
        index: 1,
        name: "NVIDIA H200".to_owned(),
        compute_capability: (9, 0),
        total_bytes: 143_800_000_000,
        free_bytes: 139_100_000_000,
    };
    Event::EngineChosen(EngineChoice {
        device: EngineDevice::Cuda(1),
        gpu: Some(gpu),
        reason: "it is the only GPU that can be used".to_owned(),
        is_fallback: false,
    })
}

/// The engine has none.
pub(crate) fn on_cpu(reason: &str, is_fallback: bool) -> Event {
    let reason = reason.to_owned();
    Event::EngineChosen(EngineChoice { device: EngineDevice::Cpu, gpu: None, reason, is_fallback })
}

pub(crate) fn lost(reason: &str) -> Event {
    Event::EngineLost { reason: reason.to_owned() }
}

pub(crate) fn host() -> HostInfo {
    HostInfo {
        version: "0.1.0",
        dialogs: Ok(()),
        has_tray: true,
        current_folder: "/work".into(),
        user_home: "/home/me".into(),
        documents: "/home/me/Documents".into(),
        problem: None,
    }
}

/// An error that is about a file.
pub(crate) fn about(file: &str, summary: &str) -> UserError {
    UserError { about: Some(file.into()), ..UserError::new(summary, "Take another file") }
}

/// A chat of so many questions and their answers.
pub(crate) fn long_chat(n_questions: usize) -> Chat {
    let mut chat = Chat {
        id: Uuid::now_v7(),
        title: "A long talk".to_owned(),
        system: String::new(),
        messages: Vec::new(),
        leaf: None,
    };
    for index in 0..n_questions {
        for (role, text) in [
            (Role::User, format!("Question {index}?")),
            (Role::Assistant, format!("Answer {index}. {}", "And so on. ".repeat(index % 50))),
        ] {
            let message = Message::new(chat.leaf, role, text);
            chat.leaf = Some(message.id);
            chat.messages.push(message);
        }
    }
    chat
}

pub(crate) fn summary(id: Uuid, title: &str) -> ChatSummary {
    ChatSummary { id, title: title.to_owned(), updated: "earlier".to_owned(), n_messages: 2 }
}

pub(crate) fn stamp(setup: &Setup) -> RecipeStamp {
    let active = setup.vectors.iter().filter(|term| term.coefficient != 0.0);
    let vectors: Vec<StampTerm> = active
        .map(|term| StampTerm {
            domain: domain(&term.file),
            file: term.file.clone(),
            fingerprint: format!("blake3:{}", term.file.display()),
            coefficient: term.coefficient,
            scope: term.scope.clone(),
        })
        .collect();
    let sum: f64 = vectors.iter().map(|term| term.coefficient * 977.0).sum();
    RecipeStamp {
        fingerprint: format!("blake3:{:08x}", (sum.abs() * 100.0) as u32 ^ 0xa1b2_0000),
        base: "blake3:base".to_owned(),
        model: "SmolLM2-135M-Instruct".to_owned(),
        dtype: setup.dtype,
        method: setup.method,
        vectors,
    }
}

fn domain(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn ready(setup: &Setup) -> Fact {
    Fact::Ready(Box::new(loaded(setup)))
}

pub(crate) fn loaded(setup: &Setup) -> LoadedModel {
    LoadedModel {
        name: "SmolLM2-135M-Instruct".to_owned(),
        path: "/home/me/models/SmolLM2-135M-Instruct.Q4_1.gguf".into(),
        family: "llama".to_owned(),
        parameters: 134_515_008,
        layers: 30,
        context: 8192,
        dtype: Dtype::Bf16,
        recipe: stamp(setup),
        vectors: setup
            .vectors
            .iter()
            .map(|term| VectorInfo {
                domain: domain(&term.file),
                file: term.file.clone(),
                fingerprint: format!("blake3:{}", term.file.display()),
                kind: "low-rank".to_owned(),
                size_bytes: 4_900_000,
                tensors: 210,
                base_matches: Some(true),
                calibration: None,
            })
            .collect(),
        load_secs: 0.4,
        merge_secs: 0.032,
        device: "CPU, 2 threads".to_owned(),
        memory: Some(MemoryUse { used_bytes: 900_000_000, total_bytes: 25_000_000_000 }),
        notes: Vec::new(),
    }
}

/// A recipe from a file, all of whose parts were found.
pub(crate) fn opened_recipe() -> OpenedRecipe {
    let scope = Scope { layers: vec![[0, 9]], ..Scope::default() };
    OpenedRecipe {
        model: Some("/models/big.gguf".into()),
        dtype: Dtype::F32,
        method: Method::Ties { density: 0.3 },
        vectors: vec![
            VectorTerm { scope, ..VectorTerm::new("/vectors/safety.safetensors", -0.5) },
            VectorTerm::new("medical", 0.7),
        ],
        missing: Vec::new(),
    }
}

/// A vector of a recipe that is nowhere.
pub(crate) fn missing_vector(name: &str) -> MissingPart {
    MissingPart {
        name: name.to_owned(),
        is_model: false,
        file: format!("/old/{name}.safetensors").into(),
        fingerprint: format!("blake3:c0ffee{name}"),
        found: None,
    }
}

/// A model that fits, as the engine would plan it.
pub(crate) fn plan() -> MemoryPlan {
    let part = |name: &str, form: &str, place, bytes| PlanPart {
        name: name.to_owned(),
        form: form.to_owned(),
        place,
        bytes,
    };
    MemoryPlan {
        parts: vec![
            part("base model", "7.2 B × bf16", Place::MappedFile, 14_500_000_000),
            part("live weights", "7.2 B × bf16", Place::Memory, 14_500_000_000),
            part("medical", "dense, bf16", Place::Memory, 2_900_000_000),
            part("context", "8192 tokens × f32", Place::Memory, 1_100_000_000),
        ],
        needed_bytes: 18_500_000_000,
        available_bytes: Some(24_000_000_000),
        ways_out: vec![WayOut {
            text: "Compress medical to low rank".to_owned(),
            saves_bytes: 2_700_000_000,
            fits: true,
            change: PlanChange::CompressVector { file: "medical".into() },
        }],
    }
}

/// The same in `f32`, which does not fit.
pub(crate) fn too_large_plan() -> MemoryPlan {
    let mut plan = plan();
    "7.2 B × f32".clone_into(&mut plan.parts[1].form);
    plan.parts[1].bytes *= 2;
    plan.needed_bytes = 33_000_000_000;
    let way = |text: &str, saves_bytes, fits, change| WayOut {
        text: text.to_owned(),
        saves_bytes,
        fits,
        change,
    };
    let (bf16, convert) = (PlanChange::Dtype(Dtype::Bf16), PlanChange::ConvertModel);
    plan.ways_out.insert(0, way("Round the weights to bf16", 14_500_000_000, true, bf16));
    plan.ways_out.push(way("Write the model as safetensors", 900_000_000, false, convert));
    plan.ways_out[1].fits = false;
    plan
}

pub(crate) fn reply(setup: &Setup, text: &str) -> Reply {
    Reply {
        text: text.to_owned(),
        finish: FinishReason::Stop,
        recipe: stamp(setup),
        figures: ReplyFigures {
            prompt_tokens: 40,
            reused_tokens: 0,
            tokens: 120,
            first_token_secs: 0.06,
            tokens_per_sec: 160.0,
        },
    }
}

/// A vector that was written.
pub(crate) fn made(path: &Path) -> Fact {
    Fact::Written { path: path.to_owned(), summary: "a vector of 4 tensors".to_owned() }
}

/// How vectors compare, with numbers that differ from part to part.
pub(crate) fn comparison(files: &[PathBuf]) -> Comparison {
    let cell = |layer: Option<usize>, module: Option<ModuleKind>, turn: f64| ComparisonCell {
        layer,
        module,
        norms: (0..files.len()).map(|index| 1.25 + index as f64 + turn).collect(),
        pairs: (0..files.len())
            .flat_map(|a| (a + 1..files.len()).map(move |b| (a, b)))
            .map(|(a, b)| ComparisonPair {
                a,
                b,
                cosine: Some(0.4 * (turn + (a + b) as f64).sin()),
                sign_conflict: Some(0.5 - 0.2 * (turn + (a + b) as f64).sin()),
            })
            .collect(),
    };
    let layer = |index: usize| {
        let turn = index as f64 / 2.0;
        let layer = Some(index);
        [
            cell(layer, Some(ModuleKind::Attention), turn),
            cell(layer, Some(ModuleKind::Mlp), turn + 1.0),
            cell(layer, Some(ModuleKind::Norms), turn + 2.0),
        ]
    };
    Comparison {
        vectors: files
            .iter()
            .map(|file| ComparedVector { domain: domain(file), file: file.clone() })
            .collect(),
        overall: cell(None, None, 0.0),
        cells: [cell(None, Some(ModuleKind::Embeddings), 0.5)]
            .into_iter()
            .chain((0..12).flat_map(layer))
            .collect(),
    }
}

pub(crate) fn compress_report(is_measured: bool) -> CompressReport {
    let shift = |coefficient: f64| LogProbShift {
        coefficient,
        mean_change: -0.01 * coefficient,
        mean_absolute_change: 0.02 * coefficient.abs(),
        largest_change: 0.25 * coefficient.abs(),
        mean_effect: 0.8 * coefficient.abs(),
    };
    CompressReport {
        bytes_before: 49_000_000,
        bytes_after: 4_900_000,
        relative_error: 0.0625,
        worst_tensor: Some(("model.layers.3.mlp.up_proj.weight".to_owned(), 0.125)),
        shifts: if is_measured {
            [-1.5, -1.0, 0.5, 1.0, 1.5].map(shift).to_vec()
        } else {
            Vec::new()
        },
        responses: if is_measured { 72 } else { 0 },
    }
}

pub(crate) fn separate_report() -> SeparateReport {
    let layer = |index: usize| (Some(index), 0.05 + 0.02 * index as f64);
    SeparateReport {
        shared: 0.123,
        layers: [(None, 0.01)].into_iter().chain((0..12).map(layer)).collect(),
    }
}
