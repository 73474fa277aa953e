use std::sync::Arc;

use crate::kernels::{Addend, Cut, Draw, Selection};
use crate::{AlignmentVector, Delta, Method, Scope, VectorError};

/// One vector, its λ, and where it is applied.
#[derive(Clone, Debug)]
pub struct Term {
    /// The vector.
    pub vector: Arc<AlignmentVector>,
    /// λ.
    pub coefficient: f64,
    /// Where in the model.
    pub scope: Scope,
}

impl Term {
    /// A vector that is applied to all that it changes.
    pub fn new(vector: Arc<AlignmentVector>, coefficient: f64) -> Self {
        Self { vector, coefficient, scope: Scope::default() }
    }

    /// Whether λ is not 0 in the precision of the sum.
    ///
    /// Terms that are not active are left out, which keeps −0.0 and NaN payloads of the base.
    pub fn is_active(&self) -> bool {
        self.coefficient as f32 != 0.0
    }

    fn check(&self, method: Method, n_layers: usize) -> Result<(), VectorError> {
        let domain = &self.vector.origin.domain;
        self.scope.check(domain, n_layers)?;
        let largest = self.scope.profile.iter().fold(1.0, |largest: f64, it| largest.max(it.abs()));
        if self.coefficient_at(largest, method).is_finite() {
            return Ok(());
        }
        let (domain, coefficient) = (domain.clone(), self.coefficient);
        Err(VectorError::NonFiniteCoefficient { domain, coefficient })
    }

    /// λ in the precision of the sum: a recipe's fingerprint has no more of it.
    fn coefficient_at(&self, multiplier: f64, method: Method) -> f32 {
        (f64::from(self.coefficient as f32) * multiplier / method.divisor()) as f32
    }
}

/// What is done to each tensor of a model.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    method: Method,
    terms: &'a [Term],
    n_layers: usize,
}

/// One vector's part in a tensor's sum.
#[derive(Clone, Copy)]
pub(crate) struct Share<'a> {
    pub(crate) vector: &'a AlignmentVector,
    /// λ by all that it is multiplied by.
    pub(crate) coefficient: f32,
    pub(crate) delta: &'a Delta,
}

impl<'a> Share<'a> {
    pub(crate) fn addend(&self) -> Addend<'a> {
        Addend { coefficient: self.coefficient, delta: self.delta }
    }
}

/// Refuses settings that no merge into a model of `n_layers` works with, before any work is done.
///
/// # Errors
///
/// [`VectorError::NonFiniteCoefficient`], [`VectorError::Density`], [`VectorError::DropRate`],
/// [`VectorError::Layers`] or [`VectorError::Profile`].
pub fn check_settings(method: Method, terms: &[Term], n_layers: usize) -> Result<(), VectorError> {
    Plan::new(method, terms, n_layers).map(|_plan| ())
}

impl<'a> Plan<'a> {
    /// Refuses settings that can't be worked with.
    pub(crate) fn new(
        method: Method,
        terms: &'a [Term],
        n_layers: usize,
    ) -> Result<Self, VectorError> {
        method.check()?;
        terms.iter().try_for_each(|term| term.check(method, n_layers))?;
        Ok(Self { method, terms, n_layers })
    }

    /// The terms that change a tensor, in order.
    pub(crate) fn shares(&self, name: &str) -> Vec<Share<'a>> {
        let share = |term: &'a Term| {
            let multiplier = term.scope.multiplier(name, self.n_layers)?;
            let coefficient = term.coefficient_at(multiplier, self.method);
            let delta = term.vector.deltas.get(name)?;
            (coefficient != 0.0).then_some(Share { vector: &term.vector, coefficient, delta })
        };
        self.terms.iter().filter_map(share).collect()
    }

    /// Whether both plans give a tensor the same bits.
    pub(crate) fn is_same_for(&self, name: &str, other: &Plan<'_>) -> bool {
        let (own, others) = (self.shares(name), other.shares(name));
        let are_same = |(a, b): (&Share<'_>, &Share<'_>)| {
            a.vector.fingerprint == b.vector.fingerprint
                && a.coefficient.to_bits() == b.coefficient.to_bits()
        };
        own.len() == others.len()
            && own.iter().zip(&others).all(are_same)
            && (own.is_empty() || self.method == other.method)
    }

    /// Which elements of the shares count; `cut` finds what trimming leaves.
    pub(crate) fn selection(
        &self,
        name: &str,
        shares: &[Share<'_>],
        mut cut: impl FnMut(&Share<'_>, f64) -> Cut,
    ) -> Selection {
        match self.method {
            Method::TaskArithmetic | Method::Dare { drop: 0.0, .. } => Selection::All,
            Method::Ties { density } => {
                Selection::Elected(shares.iter().map(|share| cut(share, density)).collect())
            }
            Method::Dare { drop, seed } => Selection::Drawn(
                shares
                    .iter()
                    .map(|share| Draw::new(seed, &share.vector.fingerprint, name, drop))
                    .collect(),
            ),
        }
    }
}
