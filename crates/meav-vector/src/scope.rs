use std::ops::RangeInclusive;

use crate::{ModuleKind, VectorError, tensor_place};

/// Where in the model a vector is applied, and how strongly along its depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// The layers, counted from 0, that it is applied to; empty for all of them and what is outside
    /// the layers. If any are named, what is outside is left as it is.
    pub layers: Vec<RangeInclusive<usize>>,
    /// The kinds of modules that it is applied to; empty for all.
    pub modules: Vec<ModuleKind>,
    /// What λ is multiplied by at even steps from the first layer to the last, and straight lines
    /// between; empty for 1.
    ///
    /// Token embeddings take the first value, everything else outside the layers (the last norm,
    /// the output head) the last. Embeddings that serve as the output head too are embeddings. The
    /// only layer of a model takes the last value. As gradients of mergekit, but that mergekit
    /// 0.1.5 gives the last norm and the output head the first value.
    pub profile: Vec<f64>,
}

impl Scope {
    /// Whether it is the whole model, everywhere with the same λ.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// What λ is multiplied by for a tensor of a model of `n_layers`; `None` outside the scope.
    pub(crate) fn multiplier(&self, name: &str, n_layers: usize) -> Option<f64> {
        if self.is_everything() {
            return Some(1.0);
        }
        let (layer, kind) = tensor_place(name);
        let is_layer_in = |layer| self.layers.iter().any(|range| range.contains(&layer));
        let is_in = (self.layers.is_empty() || layer.is_some_and(is_layer_in))
            && (self.modules.is_empty() || self.modules.contains(&kind));
        is_in.then(|| {
            let is_first = kind == ModuleKind::Embeddings && !name.contains("lm_head");
            let depth = match layer {
                Some(layer) if n_layers > 1 => layer as f64 / (n_layers - 1) as f64,
                None if is_first => 0.0,
                _ => 1.0,
            };
            self.at(depth)
        })
    }

    /// The profile at a depth between 0 and 1.
    fn at(&self, depth: f64) -> f64 {
        let Some(last) = self.profile.len().checked_sub(1) else { return 1.0 };
        let place = depth * last as f64;
        let index = (place as usize).min(last);
        let fraction = place - index as f64;
        let next = self.profile[(index + 1).min(last)];
        (1.0 - fraction) * self.profile[index] + fraction * next
    }

    pub(crate) fn check(&self, domain: &str, n_layers: usize) -> Result<(), VectorError> {
        for range in &self.layers {
            if range.is_empty() || *range.end() >= n_layers {
                let (first, last) = (*range.start(), *range.end());
                let domain = domain.to_owned();
                return Err(VectorError::Layers { domain, first, last, n_layers });
            }
        }
        match self.profile.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(VectorError::Profile { domain: domain.to_owned(), value: *value }),
            None => Ok(()),
        }
    }
}

/// Layers of the model that has tensors of these names.
///
/// ```
/// use meav_vector::count_layers;
///
/// let names = ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"];
/// assert_eq!(count_layers(names), 1);
/// ```
pub fn count_layers<'a>(names: impl IntoIterator<Item = &'a str>) -> usize {
    let layers = names.into_iter().filter_map(|name| tensor_place(name).0);
    layers.max().map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The multipliers of a model of five layers, excluded tensors as NaN.
    #[track_caller]
    fn check(scope: &Scope, expected: [f64; 8]) {
        let layer = |index| format!("model.layers.{index}.mlp.up_proj.weight");
        let mut names: Vec<_> = (0..5).map(layer).collect();
        names.insert(0, "model.embed_tokens.weight".to_owned());
        names.extend(["model.norm.weight".to_owned(), "lm_head.weight".to_owned()]);
        for (name, expected) in names.iter().zip(expected) {
            let expected = Some(expected).filter(|it| !it.is_nan());
            assert_eq!(scope.multiplier(name, 5), expected, "{name} of {scope:?}");
        }
    }

    fn profile(values: &[f64]) -> Scope {
        Scope { profile: values.to_vec(), ..Scope::default() }
    }

    #[test]
    fn profile_runs_from_the_first_layer_to_the_last() {
        check(&profile(&[]), [1.0; 8]);
        check(&profile(&[0.5]), [0.5; 8]);
        check(&profile(&[0.0, 2.0]), [0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]);
        check(&profile(&[1.0, 0.0, -2.0]), [1.0, 1.0, 0.5, 0.0, -1.0, -2.0, -2.0, -2.0]);
    }

    #[test]
    fn only_layer_takes_the_last_value() {
        let scope = profile(&[1.0, 3.0]);
        assert_eq!(scope.multiplier("model.layers.0.mlp.up_proj.weight", 1), Some(3.0));
    }

    #[test]
    fn naming_layers_leaves_out_what_is_outside_them() {
        const OUT: f64 = f64::NAN;
        let layers = |layers: &[_]| Scope { layers: layers.to_vec(), ..Scope::default() };
        check(&layers(&[1..=2]), [OUT, OUT, 1.0, 1.0, OUT, OUT, OUT, OUT]);
        check(&layers(&[0..=0, 3..=4]), [OUT, 1.0, OUT, OUT, 1.0, 1.0, OUT, OUT]);
        check(
            &Scope { profile: vec![0.0, 4.0], ..layers(&[1..=2]) },
            [OUT, OUT, 1.0, 2.0, OUT, OUT, OUT, OUT],
        );
    }

    #[test]
    fn modules_are_chosen_by_kind_in_every_layer() {
        const OUT: f64 = f64::NAN;
        let modules = |modules: &[_]| Scope { modules: modules.to_vec(), ..Scope::default() };
        let embeddings = [1.0, OUT, OUT, OUT, OUT, OUT, OUT, 1.0];
        check(&modules(&[ModuleKind::Embeddings]), embeddings);
        check(
            &modules(&[ModuleKind::Mlp, ModuleKind::Norms]),
            [OUT, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, OUT],
        );
        let none =
            Scope { modules: vec![ModuleKind::Attention], layers: vec![0..=4], ..profile(&[]) };
        check(&none, [OUT; 8]);
    }
}
