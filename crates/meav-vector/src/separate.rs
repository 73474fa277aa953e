//! What a vector has in common with others, and what is its own.

use std::collections::BTreeMap;
use std::ops::Range;

use meav_job::JobCtx;
use meav_weights::{Checkpoint, Weight};
use rayon::prelude::*;

use crate::alignment_vector::VectorParts;
use crate::rows::{DeltaRows, check_same_shape};
use crate::svd::{Matrix, RowSource, basis_times, left_subspace};
use crate::{AlignmentVector, Delta, LowRank, VectorError, VectorKind, VectorOrigin, tensor_place};

/// The two parts of a vector.
#[derive(Debug)]
pub struct Separation {
    /// What the others have nothing of.
    pub own: AlignmentVector,
    /// What they have too; holds only tensors of which there is such a part.
    pub shared: AlignmentVector,
    /// `‖shared‖² / ‖δ‖²` of the whole vector.
    pub share: f64,
    /// The same for each layer, what is outside the layers first.
    pub layers: Vec<LayerShare>,
    /// The same for each tensor, by name.
    pub tensors: Vec<TensorShare>,
}

/// How much of a layer's change is shared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerShare {
    /// Counted from 0; `None` outside the layers.
    pub layer: Option<usize>,
    /// `‖shared‖² / ‖δ‖²`, from 0 to 1.
    pub share: f64,
}

/// How much of a tensor's change is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorShare {
    /// Its name.
    pub name: String,
    /// `‖shared‖² / ‖δ‖²`, from 0 to 1.
    pub share: f64,
}

/// Takes from `vector` what it shares with `others`.
///
/// For each tensor, with `δⱼ` that of the other vectors that change it, side by side and each of
/// unit norm, so that no vector counts for more because its λ would be smaller:
///
/// ```text
/// [δ₁/‖δ₁‖ … δₜ/‖δₜ‖] ≈ U_k Σ_k V_kᵀ      the k largest singular values
/// shared = U_k U_kᵀ δ
/// own    = δ − shared
/// ```
///
/// The columns of `U_k` are the directions in what the layer puts out that the others change most.
/// It follows that `own` has no part in them (`U_kᵀ own = 0`), that `own + shared = δ` with
/// `‖own‖² + ‖shared‖² = ‖δ‖²`, and that separating `own` again from the same vectors changes
/// nothing; all of it to rounding. A bias or a norm is one column, of which `t` others span at most
/// `t` directions.
///
/// The projection is the one that Shahriar et al., 2024, arXiv:2410.19206 leave to future work; the
/// normalisation is ours. `own` keeps the dtype of its values, and its factors where it has them;
/// other forms become dense, in memory. `rank` is `k`. `base` is needed where one of the vectors is
/// a whole model.
///
/// # Errors
///
/// [`VectorError::Setting`] for a rank of 0; [`VectorError::VectorsDiffer`] for the first tensor in
/// name order that has different dimensions in two vectors; [`VectorError::BaseNeeded`];
/// [`VectorError::Cancelled`] between two tensors.
pub fn separate(
    vector: &AlignmentVector,
    others: &[&AlignmentVector],
    rank: usize,
    base: Option<&Checkpoint>,
    job: &JobCtx<'_>,
) -> Result<Separation, VectorError> {
    if rank == 0 {
        let (setting, range) = ("the rank", "at least 1");
        return Err(VectorError::Setting { setting, range, found: 0.0 });
    }
    let mut parts = Parts::default();
    for (index, name) in vector.deltas.keys().enumerate() {
        job.tick(index, vector.deltas.len())?;
        let Some(source) = DeltaRows::of(vector, name, base)? else { continue };
        let stack = Stack::new(name, (vector, &source), others, base, job)?;
        let subspace = if stack.members.is_empty() || source.len() == 0 {
            None
        } else {
            Some(left_subspace(&stack, rank, SEED, job)?).filter(|subspace| subspace.rows() > 0)
        };
        parts.add(name, &source, subspace.as_ref(), job)?;
    }
    parts.finish(vector, job)
}

/// The probes of the randomised decomposition: the same for the same tensors.
const SEED: u64 = 0x6D65_6176;

/// A tensor as a matrix, one of one dimension as a column.
struct Upright<'a, 'b>(&'a DeltaRows<'b>);

impl RowSource for Upright<'_, '_> {
    fn dimensions(&self) -> (usize, usize) {
        match self.0.shape().len() {
            0 | 1 => (self.0.len(), 1),
            _ => (self.0.n_rows(), self.0.row_len()),
        }
    }

    fn read(&self, rows: Range<usize>) -> Vec<f32> {
        match self.0.shape().len() {
            0 | 1 => self.0.read(0..self.0.n_rows())[rows].to_vec(),
            _ => self.0.read(rows),
        }
    }
}

/// The other vectors' tensors side by side, each with what makes its norm 1.
struct Stack<'a> {
    members: Vec<(DeltaRows<'a>, f32)>,
}

impl<'a> Stack<'a> {
    /// Leaves out tensors of zeros.
    fn new(
        name: &str,
        own: (&AlignmentVector, &DeltaRows<'_>),
        others: &[&'a AlignmentVector],
        base: Option<&Checkpoint>,
        job: &JobCtx<'_>,
    ) -> Result<Self, VectorError> {
        let mut members = Vec::new();
        for other in others {
            let Some(rows) = DeltaRows::of(other, name, base)? else { continue };
            check_same_shape(name, own, (other, &rows))?;
            let norm = squared_norm(&rows, job)?.sqrt();
            if norm > 0.0 {
                members.push((rows, (1.0 / norm) as f32));
            }
        }
        Ok(Self { members })
    }
}

impl RowSource for Stack<'_> {
    fn dimensions(&self) -> (usize, usize) {
        let widths = self.members.iter().map(|(rows, _)| Upright(rows).dimensions());
        widths.fold((0, 0), |(_, width), (m, n)| (m, width + n))
    }

    fn read(&self, rows: Range<usize>) -> Vec<f32> {
        let (_, width) = self.dimensions();
        let mut out = vec![0.0; rows.len() * width];
        let mut start = 0;
        for (member, factor) in &self.members {
            let member = Upright(member);
            let (_, n) = member.dimensions();
            let values = member.read(rows.clone());
            out.par_chunks_mut(width).zip(values.par_chunks(n)).for_each(|(out, values)| {
                for (out, value) in out[start..start + n].iter_mut().zip(values) {
                    *out = factor * value;
                }
            });
            start += n;
        }
        out
    }
}

fn squared_norm(rows: &DeltaRows<'_>, job: &JobCtx<'_>) -> Result<f64, VectorError> {
    let mut sum = 0.0;
    for block in rows.blocks() {
        job.check()?;
        sum += rows.read(block).iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    }
    Ok(sum)
}

/// What has been separated so far.
#[derive(Default)]
struct Parts {
    own: BTreeMap<String, Delta>,
    shared: BTreeMap<String, Delta>,
    /// `‖shared‖²` and `‖δ‖²` of each tensor.
    squares: BTreeMap<String, (f64, f64)>,
}

impl Parts {
    /// `subspace` holds orthonormal rows, `Uᵀ`.
    fn add(
        &mut self,
        name: &str,
        source: &DeltaRows<'_>,
        subspace: Option<&Matrix>,
        job: &JobCtx<'_>,
    ) -> Result<(), VectorError> {
        let all = squared_norm(source, job)?;
        let Some(subspace) = subspace else {
            let own = match source.delta() {
                Delta::Aligned(aligned) => Delta::Dense(source.to_weight(aligned.dtype())),
                delta => delta.clone(),
            };
            self.own.insert(name.to_owned(), own);
            self.squares.insert(name.to_owned(), (0.0, all));
            return Ok(());
        };
        let inside = basis_times(&Upright(source), subspace, job)?;
        let shared = inside.values().iter().map(|value| f64::from(*value).powi(2)).sum();
        self.squares.insert(name.to_owned(), (shared, all));
        let own = own_part(source, subspace, &inside, job)?;
        self.own.insert(name.to_owned(), own);
        self.shared.insert(name.to_owned(), shared_part(source, subspace, inside));
        Ok(())
    }

    fn finish(self, vector: &AlignmentVector, job: &JobCtx<'_>) -> Result<Separation, VectorError> {
        let share =
            |(shared, all): (f64, f64)| if all > 0.0 { (shared / all).min(1.0) } else { 0.0 };
        let mut layers: BTreeMap<Option<usize>, (f64, f64)> = BTreeMap::new();
        let mut total = (0.0, 0.0);
        for (name, (shared, all)) in &self.squares {
            let layer = layers.entry(tensor_place(name).0).or_default();
            *layer = (layer.0 + shared, layer.1 + all);
            total = (total.0 + shared, total.1 + all);
        }
        let tensors = self.squares.iter();
        let tensors = tensors
            .map(|(name, squares)| TensorShare { name: name.clone(), share: share(*squares) });
        Ok(Separation {
            tensors: tensors.collect(),
            share: share(total),
            layers: layers
                .into_iter()
                .map(|(layer, squares)| LayerShare { layer, share: share(squares) })
                .collect(),
            own: part_of(vector, self.own, job)?,
            shared: part_of(vector, self.shared, job)?,
        })
    }
}

/// `δ − U (Uᵀ δ)`; of factors `(B − U (Uᵀ B)) A`.
fn own_part(
    source: &DeltaRows<'_>,
    subspace: &Matrix,
    inside: &Matrix,
    job: &JobCtx<'_>,
) -> Result<Delta, VectorError> {
    let left = subspace.transposed();
    if let Delta::LowRank(factors) = source.delta() {
        let [n_out, _] = factors.shape;
        let b = Matrix::new(n_out, factors.rank, factors.b.clone());
        let shared = left.times(&subspace.times(&b));
        let b = b.values().iter().zip(shared.values()).map(|(all, shared)| all - shared).collect();
        return Ok(Delta::LowRank(LowRank { b, ..factors.clone() }));
    }
    let mut own = Vec::with_capacity(source.len());
    let rank = subspace.rows();
    let upright = Upright(source);
    let (m, n) = upright.dimensions();
    let step = (BLOCK / n).max(1);
    for start in (0..m).step_by(step) {
        job.check()?;
        let rows = start..m.min(start + step);
        let left = left.values()[rows.start * rank..rows.end * rank].to_vec();
        let shared = Matrix::new(rows.len(), rank, left).times(inside);
        let all = upright.read(rows);
        own.extend(all.iter().zip(shared.values()).map(|(all, shared)| all - shared));
    }
    let weight = Weight::from_f32(source.shape().to_vec(), own);
    Ok(Delta::Dense(weight.to_dtype(source.dtype())))
}

/// Elements at a time.
const BLOCK: usize = 1 << 20;

/// `U (Uᵀ δ)`: factors where the tensor is a matrix.
fn shared_part(source: &DeltaRows<'_>, subspace: &Matrix, inside: Matrix) -> Delta {
    let left = subspace.transposed();
    if let &[n_out, n_in] = source.shape() {
        let (rank, shape) = (subspace.rows(), [n_out, n_in]);
        let (a, b) = (inside.into_values(), left.into_values());
        return Delta::LowRank(LowRank { a, b, shape, rank, scale: 1.0 });
    }
    let values = left.times(&inside).into_values();
    let weight = Weight::from_f32(source.shape().to_vec(), values);
    Delta::Dense(weight.to_dtype(source.dtype()))
}

fn part_of(
    vector: &AlignmentVector,
    deltas: BTreeMap<String, Delta>,
    job: &JobCtx<'_>,
) -> Result<AlignmentVector, VectorError> {
    let is_low_rank = deltas.values().any(|delta| matches!(delta, Delta::LowRank(_)));
    let kind = if is_low_rank { VectorKind::LowRank } else { VectorKind::Dense };
    // Measured on the whole vector.
    let origin = VectorOrigin { calibration: None, extraction: None, ..vector.origin.clone() };
    AlignmentVector::computed(VectorParts { kind, origin, deltas }, &vector.path, job)
}
