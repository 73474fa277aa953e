//! Where vectors pull the weights the same way, and where they pull against each other.

use std::collections::{BTreeMap, BTreeSet};

use meav_job::JobCtx;
use meav_weights::Checkpoint;
use rayon::prelude::*;

use crate::rows::{DeltaRows, check_same_shape};
use crate::{AlignmentVector, ModuleKind, VectorError, tensor_place};

/// How a set of vectors interferes, in parts of the model and in all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Interference {
    /// The vectors' domains, in the order that they were given in.
    pub vectors: Vec<String>,
    /// Every part of the model that a vector changes: what is outside the layers first, then layer
    /// by layer, each in the order of [`ModuleKind`].
    pub cells: Vec<Cell>,
    /// `‖δ‖` of each vector in all of the model.
    pub norms: Vec<f64>,
    /// Every pair in all of the model, in the order of the cells' pairs.
    pub pairs: Vec<Pair>,
}

/// The tensors of one kind in one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Counted from 0; `None` outside the layers.
    pub layer: Option<usize>,
    /// What the tensors belong to.
    pub module: ModuleKind,
    /// `‖δ‖` (Frobenius) of each vector; 0 where it changes nothing.
    pub norms: Vec<f64>,
    /// Every pair `a < b`: (0, 1), (0, 2), …, (1, 2), …
    pub pairs: Vec<Pair>,
}

/// Two vectors, by their places in [`Interference::vectors`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The first.
    pub a: usize,
    /// The second.
    pub b: usize,
    /// `⟨a, b⟩ / (‖a‖ ‖b‖)`; `None` where one of them changes nothing.
    pub cosine: Option<f64>,
    /// Of the elements that both change, the share that they change in opposite directions; `None`
    /// where there is none.
    pub sign_conflict: Option<f64>,
}

/// Compares all pairs of vectors, reading them once, a few rows at a time.
///
/// `base` is needed where one of them is a whole model. A λ changes no cosine and no share but in
/// its sign.
///
/// # Errors
///
/// [`VectorError::VectorsDiffer`] for the first tensor in name order that has different dimensions
/// in two vectors; [`VectorError::BaseNeeded`]; [`VectorError::Cancelled`] between two tensors.
pub fn compare(
    vectors: &[&AlignmentVector],
    base: Option<&Checkpoint>,
    job: &JobCtx<'_>,
) -> Result<Interference, VectorError> {
    let names: BTreeSet<&String> = vectors.iter().flat_map(|vector| vector.deltas.keys()).collect();
    let n = vectors.len();
    let mut cells: BTreeMap<_, Sums> = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        job.tick(index, names.len())?;
        let rows = vectors
            .iter()
            .map(|vector| DeltaRows::of(vector, name, base))
            .collect::<Result<Vec<_>, _>>()?;
        check_shapes(name, vectors, &rows)?;
        let sums = cells.entry(tensor_place(name)).or_insert_with(|| Sums::new(n));
        sums.add_tensor(&rows, job)?;
    }
    let mut all = Sums::new(n);
    for sums in cells.values() {
        all.add(sums);
    }
    Ok(Interference {
        vectors: vectors.iter().map(|vector| vector.origin.domain.clone()).collect(),
        cells: cells
            .iter()
            .map(|((layer, module), sums)| {
                let (norms, pairs) = (sums.norms(), sums.pairs());
                Cell { layer: *layer, module: *module, norms, pairs }
            })
            .collect(),
        norms: all.norms(),
        pairs: all.pairs(),
    })
}

fn check_shapes(
    name: &str,
    vectors: &[&AlignmentVector],
    rows: &[Option<DeltaRows<'_>>],
) -> Result<(), VectorError> {
    let mut present =
        vectors.iter().zip(rows).filter_map(|(vector, rows)| Some((*vector, rows.as_ref()?)));
    let Some(first) = present.next() else { return Ok(()) };
    present.try_for_each(|other| check_same_shape(name, first, other))
}

/// Elements that one task sums.
const CHUNK: usize = 1 << 14;

/// What the figures of a part are computed from.
#[derive(Clone)]
struct Sums {
    squares: Vec<f64>,
    pairs: Vec<PairSums>,
}

#[derive(Clone, Copy, Default)]
struct PairSums {
    dot: f64,
    /// Elements that both change.
    shared: u64,
    /// Those of them with different signs.
    conflicts: u64,
}

impl Sums {
    fn new(n: usize) -> Self {
        let n_pairs = n * n.saturating_sub(1) / 2;
        Self { squares: vec![0.0; n], pairs: vec![PairSums::default(); n_pairs] }
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let n = self.squares.len();
        (0..n).flat_map(move |a| (a + 1..n).map(move |b| (a, b)))
    }

    fn add(&mut self, other: &Self) {
        self.squares.iter_mut().zip(&other.squares).for_each(|(sum, other)| *sum += other);
        for (sum, other) in self.pairs.iter_mut().zip(&other.pairs) {
            sum.dot += other.dot;
            sum.shared += other.shared;
            sum.conflicts += other.conflicts;
        }
    }

    fn add_tensor(
        &mut self,
        rows: &[Option<DeltaRows<'_>>],
        job: &JobCtx<'_>,
    ) -> Result<(), VectorError> {
        let Some(some) = rows.iter().flatten().next() else { return Ok(()) };
        for range in some.blocks() {
            job.check()?;
            let values: Vec<_> =
                rows.iter().map(|rows| Some(rows.as_ref()?.read(range.clone()))).collect();
            let len = range.len() * some.row_len();
            let chunks: Vec<Self> = (0..len)
                .into_par_iter()
                .step_by(CHUNK)
                .map(|start| self.of_chunk(&values, start, CHUNK.min(len - start)))
                .collect();
            for sums in &chunks {
                self.add(sums);
            }
        }
        Ok(())
    }

    fn of_chunk(&self, values: &[Option<Vec<f32>>], start: usize, len: usize) -> Self {
        let window = |at: usize| values[at].as_ref().map(|values| &values[start..][..len]);
        let mut sums = Self::new(self.squares.len());
        for (at, sum) in sums.squares.iter_mut().enumerate() {
            let squares = window(at).into_iter().flatten().map(|value| f64::from(*value).powi(2));
            *sum = squares.sum();
        }
        for ((a, b), sum) in self.places().zip(&mut sums.pairs) {
            if let (Some(a), Some(b)) = (window(a), window(b)) {
                *sum = PairSums::of(a, b);
            }
        }
        sums
    }

    fn norms(&self) -> Vec<f64> {
        self.squares.iter().map(|square| square.sqrt()).collect()
    }

    fn pairs(&self) -> Vec<Pair> {
        let figures = |((a, b), sums): ((usize, usize), &PairSums)| {
            let norms = (self.squares[a] * self.squares[b]).sqrt();
            let share = sums.conflicts as f64 / sums.shared as f64;
            Pair {
                a,
                b,
                // Rounding may go a little beyond.
                cosine: (norms > 0.0).then(|| (sums.dot / norms).clamp(-1.0, 1.0)),
                sign_conflict: (sums.shared > 0).then_some(share),
            }
        };
        self.places().zip(&self.pairs).map(figures).collect()
    }
}

impl PairSums {
    fn of(a: &[f32], b: &[f32]) -> Self {
        let mut sums = Self::default();
        for (a, b) in a.iter().zip(b) {
            sums.dot += f64::from(*a) * f64::from(*b);
            let is_shared = *a != 0.0 && *b != 0.0;
            sums.shared += u64::from(is_shared);
            sums.conflicts += u64::from(is_shared && (*a < 0.0) != (*b < 0.0));
        }
        sums
    }
}
