use std::path::PathBuf;

use meav_protocol::{Compression, Dtype};

use crate::KnobId;

/// What a dialog asks for before a vector is made, as it is typed and chosen there.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A base model taken from an aligned one.
    Extract(ExtractForm),
    /// An adapter that becomes a vector file.
    Import(ImportForm),
    /// A vector in a smaller form.
    Compress(CompressForm),
    /// What a vector has for itself, without what it shares with others.
    Separate(SeparateForm),
}

/// A field of a [`Form`] that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "FormField::label names them")]
pub enum FormField {
    Base,
    Aligned,
    Adapter,
    Data,
    Out,
    SharedOut,
}

impl FormField {
    /// What the dialog calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Base => "Base model",
            Self::Aligned => "Aligned model",
            Self::Adapter => "Adapter folder",
            Self::Data => "Preference data",
            Self::Out => "Save as",
            Self::SharedOut => "Shared part as",
        }
    }

    /// Whether it is a file that will be written.
    pub fn is_written(self) -> bool {
        matches!(self, Self::Out | Self::SharedOut)
    }
}

/// What is asked before two models become a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtractForm {
    /// The model that is taken away.
    pub base: String,
    /// The model that it is taken from.
    pub aligned: String,
    /// The preference dimension's name.
    pub domain: String,
    /// The file to write.
    pub out: String,
    /// What the differences are rounded to; `None` for the wider of the two models' types.
    pub dtype: Option<Dtype>,
    /// Only tensors whose name this regular expression finds itself in; empty for all.
    pub include: String,
    /// No tensors whose name this regular expression finds itself in; empty for none.
    pub exclude: String,
    /// The levels it was trained on, highest preference first, between commas.
    pub levels: String,
}

/// What is asked before an adapter becomes a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportForm {
    /// The adapter's folder.
    pub adapter: String,
    /// The model it was trained on.
    pub base: String,
    /// The preference dimension's name.
    pub domain: String,
    /// The file to write.
    pub out: String,
    /// What the factors are rounded to.
    pub dtype: Dtype,
    /// The levels it was trained on, highest preference first, between commas.
    pub levels: String,
}

/// What is asked before a vector becomes smaller.
#[derive(Clone, Debug, PartialEq)]
pub struct CompressForm {
    /// The knob of the vector.
    pub knob: KnobId,
    /// How it becomes smaller.
    pub method: CompressMethod,
    /// Directions that a low-rank form keeps of each tensor.
    pub rank: usize,
    /// The share of elements that trimming and DARE keep.
    pub density: f64,
    /// The same seed keeps the same elements.
    pub seed: u64,
    /// The file to write.
    pub out: String,
    /// Whether the loss is measured on data too.
    pub measures: bool,
    /// Preference records, JSONL.
    pub data: String,
    /// The most records that are read.
    pub limit: usize,
}

/// How a vector becomes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "CompressMethod::explanation says what each does")]
pub enum CompressMethod {
    LowRank,
    Trim,
    Dare,
    Sign,
}

impl CompressMethod {
    /// All of them, in reading order.
    pub const ALL: [Self; 4] = [Self::LowRank, Self::Trim, Self::Dare, Self::Sign];

    /// What the dialog calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LowRank => "Low rank",
            Self::Trim => "Trim",
            Self::Dare => "DARE",
            Self::Sign => "Sign",
        }
    }

    /// What it does, in a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::LowRank => {
                "Keeps the strongest directions of each tensor: two thin matrices stand in for a \
                 large one."
            }
            Self::Trim => "Keeps the largest elements of each tensor and drops the others.",
            Self::Dare => {
                "Keeps elements at random and scales them up to make good for those it drops."
            }
            Self::Sign => {
                "Keeps one bit for each element, its sign, and one scale for each row: the \
                 smallest form, and the coarsest."
            }
        }
    }
}

/// What is asked before a vector is freed of what it shares with others.
#[derive(Clone, Debug, PartialEq)]
pub struct SeparateForm {
    /// The knob of the vector.
    pub knob: KnobId,
    /// The knobs of the others.
    pub others: Vec<KnobId>,
    /// Directions of the others that count as shared, in each tensor.
    pub rank: usize,
    /// The file for what is its own.
    pub out: String,
    /// Whether what is shared is kept too.
    pub keeps_shared: bool,
    /// The file for what is shared.
    pub shared_out: String,
}

impl Form {
    /// What its dialog is called.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Extract(_) => "Extract from two models",
            Self::Import(_) => "Import adapter",
            Self::Compress(_) => "Compress vector",
            Self::Separate(_) => "Separate vector",
        }
    }

    /// What its job is called while it runs.
    pub fn job_title(&self) -> &'static str {
        match self {
            Self::Extract(_) => "Extracting a vector",
            Self::Import(_) => "Importing an adapter",
            Self::Compress(_) => "Compressing a vector",
            Self::Separate(_) => "Separating a vector",
        }
    }

    /// The button that begins.
    pub fn accept(&self) -> &'static str {
        match self {
            Self::Extract(_) => "Extract",
            Self::Import(_) => "Import",
            Self::Compress(_) => "Compress",
            Self::Separate(_) => "Separate",
        }
    }

    /// The text of a field, if this form has it.
    pub fn field_mut(&mut self, field: FormField) -> Option<&mut String> {
        match (self, field) {
            (Self::Extract(form), FormField::Base) => Some(&mut form.base),
            (Self::Extract(form), FormField::Aligned) => Some(&mut form.aligned),
            (Self::Extract(form), FormField::Out) => Some(&mut form.out),
            (Self::Import(form), FormField::Adapter) => Some(&mut form.adapter),
            (Self::Import(form), FormField::Base) => Some(&mut form.base),
            (Self::Import(form), FormField::Out) => Some(&mut form.out),
            (Self::Compress(form), FormField::Data) => Some(&mut form.data),
            (Self::Compress(form), FormField::Out) => Some(&mut form.out),
            (Self::Separate(form), FormField::Out) => Some(&mut form.out),
            (Self::Separate(form), FormField::SharedOut) => Some(&mut form.shared_out),
            _ => None,
        }
    }

    /// The knob whose vector is made into another.
    pub fn knob(&self) -> Option<KnobId> {
        match self {
            Self::Extract(_) | Self::Import(_) => None,
            Self::Compress(form) => Some(form.knob),
            Self::Separate(form) => Some(form.knob),
        }
    }

    /// What is still wanted before it can begin; `None` if nothing is. `is_there` tells whether
    /// there is such a knob.
    pub(crate) fn missing(&self, is_there: impl Fn(KnobId) -> bool) -> Option<&'static str> {
        if self.knob().is_some_and(|knob| !is_there(knob)) {
            return Some("The vector is no longer on a knob");
        }
        let wanted: &[(&str, &'static str)] = match self {
            Self::Extract(form) => &[
                (&form.base, "Name the base model"),
                (&form.aligned, "Name the aligned model"),
                (&form.domain, "Give the domain a name"),
                (&form.out, "Say where to save the vector"),
            ],
            Self::Import(form) => &[
                (&form.adapter, "Name the adapter's folder"),
                (&form.base, "Name the base model"),
                (&form.domain, "Give the domain a name"),
                (&form.out, "Say where to save the vector"),
            ],
            Self::Compress(form) => &[
                (&form.out, "Say where to save the vector"),
                (if form.measures { &form.data } else { "-" }, "Name the file with the data"),
            ],
            Self::Separate(form) if !form.others.iter().any(|knob| is_there(*knob)) => {
                return Some("Choose what it shares something with");
            }
            Self::Separate(form) => &[
                (&form.out, "Say where to save the vector"),
                (
                    if form.keeps_shared { &form.shared_out } else { "-" },
                    "Say where to save the shared part",
                ),
            ],
        };
        wanted.iter().find(|(text, _)| text.trim().is_empty()).map(|(_, what)| *what)
    }
}

impl CompressForm {
    /// As the engine is asked for it.
    pub fn compression(&self) -> Compression {
        match self.method {
            CompressMethod::LowRank => Compression::LowRank { rank: self.rank },
            CompressMethod::Trim => Compression::Trim { density: self.density },
            CompressMethod::Dare => Compression::Dare { density: self.density, seed: self.seed },
            CompressMethod::Sign => Compression::Sign,
        }
    }

    /// What tells the file apart from others of the same vector.
    pub fn file_mark(&self) -> String {
        match self.method {
            CompressMethod::LowRank => format!("rank-{}", self.rank),
            CompressMethod::Trim => format!("trim-{}", percent(self.density)),
            CompressMethod::Dare => format!("dare-{}", percent(self.density)),
            CompressMethod::Sign => "sign".to_owned(),
        }
    }
}

/// A share in hundredths, to a tenth of one.
fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

/// The levels between commas.
pub(crate) fn levels_of(text: &str) -> Vec<String> {
    let levels = text.split(',').map(str::trim).filter(|level| !level.is_empty());
    levels.map(str::to_owned).collect()
}

/// What a form's job writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormFiles {
    /// The vector.
    pub(crate) out: PathBuf,
    /// What is shared, where it is kept.
    pub(crate) shared_out: Option<PathBuf>,
}
