use std::path::{Path, PathBuf};

use meav_protocol::{DeviceChoice, Dtype, Method, SamplingSpec, Scope, TrainSpec};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// What is kept from one start to the next, beside what the workspace keeps.
///
/// Whatever is missing or unknown in a file becomes its default, so that older and newer versions
/// can read each other's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Light or dark.
    #[serde(deserialize_with = "known_or_default")]
    pub theme: Theme,
    /// Of all text and everything around it; 1 is 100 %.
    pub text_scale: f32,
    /// The side panels that are wanted, where there is room for them.
    pub panels: Panels,
    /// What the middle of the window shows.
    #[serde(deserialize_with = "known_or_default")]
    pub screen: Screen,
    /// Which keys send a message.
    #[serde(deserialize_with = "known_or_default")]
    pub send_key: SendKey,
    /// Where the engine computes.
    #[serde(deserialize_with = "known_or_default")]
    pub device: DeviceChoice,
    /// Whether the desktop is told when a long job ends behind the user's back.
    pub notifications: bool,
    /// What was opened last, the newest first.
    pub recent: Vec<Recent>,
    /// The model.
    pub model: PathBuf,
    /// What its weights are rounded to.
    #[serde(deserialize_with = "known_or_bf16")]
    pub dtype: Dtype,
    /// The knobs, from top to bottom.
    pub knobs: Vec<KnobSettings>,
    /// The side of the two sets of coefficients that is in use.
    #[serde(deserialize_with = "known_or_default")]
    pub slot: Slot,
    /// How the vectors are combined on side A and on side B.
    #[serde(deserialize_with = "known_or_default_of_both")]
    pub methods: [Method; 2],
    /// Recipes with a name.
    pub presets: Vec<Preset>,
    /// How answers are drawn.
    pub sampling: SamplingSettings,
    /// Training runs that wait for their turn.
    #[serde(deserialize_with = "known_or_default")]
    pub trainings: Vec<TrainSpec>,
}

impl Default for Settings {
    /// Those of a first start: the demo model with its vectors, all at 0.
    fn default() -> Self {
        let knob = |file: &str| KnobSettings { file: file.into(), ..KnobSettings::default() };
        Self {
            theme: Theme::default(),
            text_scale: 1.0,
            panels: Panels::default(),
            screen: Screen::default(),
            send_key: SendKey::default(),
            device: DeviceChoice::default(),
            notifications: true,
            recent: Vec::new(),
            model: "demo".into(),
            dtype: Dtype::Bf16,
            knobs: ["medical", "financial", "legal", "safety"].map(knob).into(),
            slot: Slot::default(),
            methods: [Method::default(); 2],
            presets: Vec::new(),
            sampling: SamplingSettings::default(),
            trainings: Vec::new(),
        }
    }
}

/// A value, unless a newer version wrote one that this one does not know.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Known(T),
    Unknown(IgnoredAny),
}

impl<T> Lenient<T> {
    fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(IgnoredAny) => None,
        }
    }
}

fn known_or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Lenient::deserialize(deserializer)?.known().unwrap_or_default())
}

fn known_or_default_of_both<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<[T; 2], D::Error> {
    let both: Lenient<[Lenient<T>; 2]> = Lenient::deserialize(deserializer)?;
    let known = |value: Lenient<T>| value.known().unwrap_or_default();
    Ok(both.known().map_or_else(Default::default, |both| both.map(known)))
}

fn known_or_bf16<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dtype, D::Error> {
    Ok(Lenient::deserialize(deserializer)?.known().unwrap_or(Dtype::Bf16))
}

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Theme {
    /// As the desktop is.
    #[default]
    System,
    /// Dark text on light ground.
    Light,
    /// Light text on dark ground.
    Dark,
}

/// What the middle of the window shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Screen {
    /// The conversation.
    #[default]
    Chat,
    /// The vectors: what they are, how they are made, and how they get in each other's way.
    Vectors,
    /// How preferences move with λ.
    Sweep,
    /// The training of vectors.
    Train,
    /// Preference records: what a file holds.
    Data,
    /// Answers, and what a judge says of them.
    Judge,
}

/// A side panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// One knob per vector.
    Knobs,
    /// The list of chats.
    Chats,
    /// Vector, recipe and history.
    Details,
}

/// Which side panels are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Panels {
    /// One knob per vector.
    pub knobs: bool,
    /// The list of chats.
    pub chats: bool,
    /// Vector, recipe and history.
    pub details: bool,
}

impl Panels {
    /// Those that are wanted.
    pub(crate) fn wanted(self) -> Vec<Panel> {
        let all = [
            (self.knobs, Panel::Knobs),
            (self.chats, Panel::Chats),
            (self.details, Panel::Details),
        ];
        all.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, panel)| panel).collect()
    }
}

impl Default for Panels {
    fn default() -> Self {
        Self { knobs: true, chats: true, details: true }
    }
}

/// Which keys send a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendKey {
    /// Enter sends, Shift and Enter begin a new line.
    #[default]
    Enter,
    /// Ctrl and Enter send, Enter begins a new line.
    CtrlEnter,
}

/// Something that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a model; otherwise it is a vector, or a recipe or data by its ending.
    pub is_model: bool,
}

impl Recent {
    /// Whether it is a recipe.
    pub fn is_recipe(&self) -> bool {
        !self.is_model && is_recipe(&self.path)
    }

    /// Whether it is a vector.
    pub fn is_vector(&self) -> bool {
        !self.is_model && !is_recipe(&self.path) && !self.is_data()
    }

    /// Whether it is preference data.
    pub fn is_data(&self) -> bool {
        !self.is_model && is_data(&self.path)
    }
}

/// What files of preference records end in.
pub(crate) const DATA: &[&str] = &["jsonl", "json", "csv", "parquet"];

/// Whether a file holds preference records, told from its ending.
fn is_data(path: &Path) -> bool {
    let is_its =
        |ending: &str| path.extension().is_some_and(|its| its.eq_ignore_ascii_case(ending));
    DATA.iter().copied().any(is_its) && !is_recipe(path)
}

/// Whether a file is a recipe, told from its ending: `.meav` or `.meav.json`.
pub(crate) fn is_recipe(path: &Path) -> bool {
    let ends_in = |path: &Path, ending: &str| {
        path.extension().is_some_and(|its| its.eq_ignore_ascii_case(ending))
    };
    let stem = || Path::new(path.file_stem().unwrap_or_default());
    ends_in(path, "meav") || (ends_in(path, "json") && ends_in(stem(), "meav"))
}

/// A knob, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnobSettings {
    /// The vector's file, or the name of one that comes with the demo.
    pub file: PathBuf,
    /// λ on side A and on side B.
    pub coefficients: [f64; 2],
    /// Whether it is left out for now, on side A and on side B.
    pub bypassed: [bool; 2],
    /// Where in the model it is added, on side A and on side B.
    #[serde(deserialize_with = "known_or_default_of_both")]
    pub scopes: [Scope; 2],
}

/// A side of the two sets of coefficients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// The first.
    #[default]
    A,
    /// The second.
    B,
}

impl Slot {
    /// Its place in an array of both.
    pub fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its letter.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// A recipe with a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// What the user calls it.
    pub name: String,
    /// Vectors and their λ; knobs that are not named go to 0.
    pub terms: Vec<(PathBuf, f64)>,
    /// How they are combined.
    #[serde(default, deserialize_with = "known_or_default")]
    pub method: Method,
    /// Where in the model each is added, in the order of the terms; everywhere where there is
    /// none.
    #[serde(default, deserialize_with = "known_or_default")]
    pub scopes: Vec<Scope>,
}

impl Preset {
    /// Where in the model the vector at this place is added.
    pub fn scope(&self, index: usize) -> Scope {
        self.scopes.get(index).cloned().unwrap_or_default()
    }
}

/// The random bits of an id, few enough of them that a spreadsheet keeps them all.
pub(crate) fn random_seed() -> u64 {
    Uuid::new_v4().as_u128() as u64 >> 32
}

/// How answers are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingSettings {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f64,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens that reach this probability together; 1 keeps all.
    pub top_p: f64,
    /// Drops tokens less likely than this share of the most likely one; 0 keeps all.
    pub min_p: f64,
    /// Divides the logits of the last tokens; 1 leaves them alone.
    pub repeat_penalty: f64,
    /// The same seed gives the same text; without one, each answer has its own.
    pub seed: Option<u64>,
    /// Tokens after which an answer is cut.
    pub max_tokens: usize,
}

impl Default for SamplingSettings {
    /// Those of `meav chat`.
    fn default() -> Self {
        Self {
            temperature: 0.3,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            seed: None,
            max_tokens: 512,
        }
    }
}

impl SamplingSettings {
    /// Whether all of them are numbers.
    pub(crate) fn is_finite(&self) -> bool {
        let numbers = [self.temperature, self.top_p, self.min_p, self.repeat_penalty];
        numbers.into_iter().all(f64::is_finite)
    }

    /// For one answer; a seed is made up where none is set.
    pub fn spec(&self) -> SamplingSpec {
        SamplingSpec {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed.unwrap_or_else(random_seed),
        }
    }
}
