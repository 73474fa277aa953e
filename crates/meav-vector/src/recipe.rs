use meav_weights::{Dtype, Fingerprint};

use crate::{Method, Scope, Term};

/// Names one merged model exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The base model's tensors.
    pub base: Fingerprint,
    /// What the merged weights are rounded to.
    pub dtype: Dtype,
    /// How the vectors are combined.
    pub method: Method,
    /// What is added, in the order of the sum, without the vectors whose λ is 0.
    pub terms: Vec<RecipeTerm>,
}

/// One vector of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeTerm {
    /// The vector's values.
    pub vector: Fingerprint,
    /// λ.
    pub coefficient: f64,
    /// Where it is applied.
    pub scope: Scope,
}

impl From<&Term> for RecipeTerm {
    fn from(term: &Term) -> Self {
        let Term { vector, coefficient, scope } = term;
        Self { vector: vector.fingerprint, coefficient: *coefficient, scope: scope.clone() }
    }
}

impl Recipe {
    /// The identity: recipes with the same fingerprint give the same weights, bit for bit.
    ///
    /// Scopes count only if one of them is not everything: stamps from before there were scopes
    /// stay valid.
    pub fn fingerprint(&self) -> Fingerprint {
        let has_scopes = self.terms.iter().any(|term| !term.scope.is_everything());
        let mut bytes = method_bytes(self.method);
        if has_scopes {
            bytes.extend(b" with scopes ");
        }
        bytes.extend(self.base.as_bytes());
        bytes.extend(self.dtype.safetensors_name().as_bytes());
        for term in &self.terms {
            bytes.extend(term.vector.as_bytes());
            bytes.extend((term.coefficient as f32).to_le_bytes());
            if has_scopes {
                bytes.extend(scope_bytes(&term.scope));
            }
        }
        Fingerprint::of_bytes(&bytes)
    }
}

fn method_bytes(method: Method) -> Vec<u8> {
    match method {
        Method::TaskArithmetic => b"task_arithmetic".to_vec(),
        Method::Ties { density } => [&b"ties"[..], &density.to_le_bytes()].concat(),
        Method::Dare { drop, seed } => {
            [&b"dare"[..], &drop.to_le_bytes(), &seed.to_le_bytes()].concat()
        }
    }
}

/// Each list with its length, so that no two scopes have the same bytes.
fn scope_bytes(scope: &Scope) -> Vec<u8> {
    let Scope { layers, modules, profile } = scope;
    let mut bytes = Vec::new();
    let add_len = |bytes: &mut Vec<u8>, len: usize| bytes.extend((len as u64).to_le_bytes());
    add_len(&mut bytes, layers.len());
    for range in layers {
        add_len(&mut bytes, *range.start());
        add_len(&mut bytes, *range.end());
    }
    add_len(&mut bytes, modules.len());
    for module in modules {
        let name = module.to_string();
        add_len(&mut bytes, name.len());
        bytes.extend(name.as_bytes());
    }
    add_len(&mut bytes, profile.len());
    bytes.extend(profile.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}
