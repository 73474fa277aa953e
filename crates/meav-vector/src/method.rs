use crate::VectorError;

/// How the vectors of a recipe are combined.
///
/// None of the methods divides the sum by that of the λ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Method {
    /// `θ = θ_base + Σᵢ λᵢ θ_AV,i`.
    ///
    /// Source: Ilharco et al., 2022, arXiv:2212.04089; Shahriar et al., 2024, arXiv:2410.19206,
    /// Eq. 3.
    #[default]
    TaskArithmetic,
    /// Trim, elect sign, merge: each vector keeps the largest elements of each tensor, and of
    /// those only the ones whose sign (that of `λᵢ θ_AV,i`) is the sign of the sum of all are
    /// added.
    ///
    /// A tensor of `n` elements keeps `density · n` of them, rounded down, but at least one; among
    /// elements of one magnitude those that come first. A sum of 0 counts as positive.
    ///
    /// Source: Yadav et al., 2023, arXiv:2306.01708, Sec. 4, where the mean of the elements is
    /// taken in place of their sum. The same as mergekit's `ties` with `normalize: false`.
    Ties {
        /// The share of elements that is kept, above 0 and up to 1.
        density: f64,
    },
    /// Drop and rescale: each element is dropped with probability `drop`, and those that stay are
    /// divided by `1 − drop`. With `drop = 0` it is task arithmetic.
    ///
    /// What is dropped depends on `seed`, on the vector's values, on the tensor's name and on the
    /// element's place in it: not on λ, nor on the other vectors.
    ///
    /// Source: Yu et al., 2023, arXiv:2311.03099, Eq. 2.
    Dare {
        /// The probability of an element to be dropped, from 0 to below 1.
        drop: f64,
        /// Other seeds drop other elements.
        seed: u64,
    },
}

impl Method {
    /// What every λ is divided by.
    pub(crate) fn divisor(self) -> f64 {
        match self {
            Self::TaskArithmetic | Self::Ties { .. } => 1.0,
            Self::Dare { drop, .. } => 1.0 - drop,
        }
    }

    pub(crate) fn check(self) -> Result<(), VectorError> {
        match self {
            // So written, NaN is in no range.
            Self::Ties { density } if !(density > 0.0 && density <= 1.0) => {
                Err(VectorError::Density { density })
            }
            Self::Dare { drop, .. } if !(0.0..1.0).contains(&drop) => {
                Err(VectorError::DropRate { drop })
            }
            _ => Ok(()),
        }
    }
}
