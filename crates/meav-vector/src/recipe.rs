use meav_weights::{Dtype, Fingerprint};

/// Names one merged model exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The base model's tensors.
    pub base: Fingerprint,
    /// What the merged weights are rounded to.
    pub dtype: Dtype,
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
}

impl Recipe {
    /// The identity: recipes with the same fingerprint give the same weights, bit for bit.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut bytes = b"task_arithmetic".to_vec();
        bytes.extend(self.base.as_bytes());
        bytes.extend(self.dtype.safetensors_name().as_bytes());
        for term in &self.terms {
            bytes.extend(term.vector.as_bytes());
            bytes.extend((term.coefficient as f32).to_le_bytes());
        }
        Fingerprint::of_bytes(&bytes)
    }
}
