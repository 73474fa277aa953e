use meav_protocol::{ModuleKind, Scope};

use crate::action::KnobId;

/// How far a factor of a depth profile goes either way.
pub(crate) const FACTOR_LIMIT: f64 = 2.0;

/// The most points that a depth profile is typed with.
pub(crate) const MOST_POINTS: usize = 9;

/// Where a vector is added, as it is being typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScopeDraft {
    /// Layers, such as `0–9, 20–29`; empty for the whole model.
    pub layers: String,
    /// The kinds of tensors that are changed.
    pub modules: Vec<ModuleKind>,
    /// Factors of λ from the first layer to the last; empty for 1 everywhere.
    pub profile: Vec<f64>,
}

impl ScopeDraft {
    pub(crate) fn new(scope: &Scope) -> Self {
        let modules = if scope.modules.is_empty() { &ModuleKind::ALL } else { &scope.modules[..] };
        Self {
            layers: layers_text(&scope.layers),
            modules: modules.to_vec(),
            profile: scope.profile.clone(),
        }
    }

    /// Everything that the vector has, equally strongly.
    pub(crate) fn everywhere() -> Self {
        Self::new(&Scope::default())
    }

    /// What is typed, or in a sentence why that is no scope. `n_layers` is how many the model has,
    /// if it is known.
    pub(crate) fn scope(&self, n_layers: Option<usize>) -> Result<Scope, String> {
        let layers = parse_layers(&self.layers, n_layers)?;
        if self.modules.is_empty() {
            return Err("Choose at least one kind of weights".to_owned());
        }
        let (modules, profile) = (self.modules.clone(), self.profile.clone());
        Ok(sound_scope(Scope { layers, modules, profile }))
    }
}

/// The dialog that asks where a vector is added.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScopeDialog {
    /// Whose vector.
    pub(crate) knob: KnobId,
    /// What is typed.
    pub(crate) draft: ScopeDraft,
}

/// In the form that is the same for all that mean the same: kinds in reading order and none where
/// all are meant, no profile where each factor is 1, factors within their range.
pub(super) fn sound_scope(scope: Scope) -> Scope {
    let limited = |factor: &f64| {
        let factor = if factor.is_finite() { *factor } else { 1.0 };
        factor.clamp(-FACTOR_LIMIT, FACTOR_LIMIT)
    };
    let mut profile: Vec<f64> = scope.profile.iter().map(limited).collect();
    if profile.iter().all(|factor| factor.total_cmp(&1.0).is_eq()) {
        profile.clear();
    }
    let mut modules = scope.modules;
    modules.sort();
    modules.dedup();
    if modules.len() == ModuleKind::ALL.len() {
        modules.clear();
    }
    Scope { layers: joined(scope.layers), modules, profile }
}

/// Ranges from the first to the last, those that touch as one.
fn joined(mut ranges: Vec<[usize; 2]>) -> Vec<[usize; 2]> {
    ranges.sort_unstable();
    let mut joined: Vec<[usize; 2]> = Vec::new();
    for [first, last] in ranges {
        match joined.last_mut() {
            Some([_, end]) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push([first, last]),
        }
    }
    joined
}

/// `0–9, 12`.
fn layers_text(ranges: &[[usize; 2]]) -> String {
    let text = |[first, last]: &[usize; 2]| {
        if first == last { first.to_string() } else { format!("{first}–{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Reads numbers and ranges, with either dash, between commas or spaces.
fn parse_layers(text: &str, n_layers: Option<usize>) -> Result<Vec<[usize; 2]>, String> {
    let spaced = text.replace(['–', '—', '−', '-'], " - ").replace([',', ';'], " , ");
    let mut words = spaced.split_whitespace().filter(|word| *word != ",").peekable();
    let mut ranges = Vec::new();
    while let Some(word) = words.next() {
        let first = parse_layer(word, n_layers)?;
        let mut last = first;
        if words.next_if_eq(&"-").is_some() {
            let Some(word) = words.next() else {
                return Err(format!("The range that begins with {first} has no end"));
            };
            last = parse_layer(word, n_layers)?;
        }
        if last < first {
            return Err(format!("The range {first}–{last} runs backwards"));
        }
        ranges.push([first, last]);
    }
    Ok(joined(ranges))
}

fn parse_layer(word: &str, n_layers: Option<usize>) -> Result<usize, String> {
    let layer = word.parse().map_err(|_err| {
        format!("“{word}” is no layer; write numbers and ranges, such as 0–9, 20–29")
    })?;
    match n_layers {
        Some(count) if layer >= count => Err(format!(
            "There is no layer {layer}: the model's {count} layers are counted from 0 to {}",
            count.saturating_sub(1)
        )),
        _ => Ok(layer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<[usize; 2]>, String> {
        parse_layers(text, Some(30))
    }

    #[test]
    fn layers_are_numbers_and_ranges_with_either_dash() {
        for (text, ranges) in [
            ("", vec![]),
            (" 7 ", vec![[7, 7]]),
            ("0–9, 20–29", vec![[0, 9], [20, 29]]),
            ("20-29;0 - 9", vec![[0, 9], [20, 29]]),
            ("0–9 20−29", vec![[0, 9], [20, 29]]),
            ("3, 1, 2, 2, 8", vec![[1, 3], [8, 8]]),
            ("0–20, 5–9", vec![[0, 20]]),
        ] {
            assert_eq!(parse(text), Ok(ranges.clone()), "{text}");
            assert_eq!(parse(&layers_text(&ranges)), Ok(ranges), "{text} written and read");
        }
    }

    #[test]
    fn what_is_no_layer_is_said_in_a_sentence() {
        for (text, words) in [
            ("first", "“first” is no layer"),
            ("0–30", "There is no layer 30: the model's 30 layers are counted from 0 to 29"),
            ("9–3", "The range 9–3 runs backwards"),
            ("5–", "The range that begins with 5 has no end"),
            ("-3", "“-” is no layer"),
            ("1.5", "“1.5” is no layer"),
        ] {
            let err = parse(text).expect_err(text);
            assert!(err.starts_with(words), "{text}: {err}");
        }
        assert_eq!(parse_layers("99", None), Ok(vec![[99, 99]]), "nobody knows yet");
    }

    #[test]
    fn scope_of_everything_is_the_default_however_it_is_written() {
        let all = ScopeDraft { profile: vec![1.0, 1.0, 1.0], ..ScopeDraft::everywhere() };
        assert_eq!(all.scope(Some(30)), Ok(Scope::default()));
        let none = ScopeDraft { modules: Vec::new(), ..ScopeDraft::everywhere() };
        assert!(none.scope(None).is_err());
        let some = ScopeDraft {
            layers: "2".to_owned(),
            modules: vec![ModuleKind::Mlp, ModuleKind::Attention],
            profile: vec![1.0, f64::NAN, 9.0],
        };
        let scope = Scope {
            layers: vec![[2, 2]],
            modules: vec![ModuleKind::Attention, ModuleKind::Mlp],
            profile: vec![1.0, 1.0, FACTOR_LIMIT],
        };
        assert_eq!(some.scope(Some(30)), Ok(scope.clone()));
        assert_eq!(ScopeDraft::new(&scope).scope(Some(30)), Ok(scope));
    }
}
