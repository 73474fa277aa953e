//! The merge by a CUDA kernel: the same sums as on the CPU, in the same order.

use candle_core::{DType, Result, Tensor};
use meav_cuda::{Grid, Kernel, Launch, Uploader, Word};
use meav_weights::{Dtype, IntegerTensor, Integers, Weight};

use super::{Draw, Selection};
use crate::Delta;

/// A delta on a GPU, as the kernel takes it.
#[derive(Debug)]
pub(crate) struct GpuDelta {
    kind: Kind,
    /// Of the values.
    dtype: DType,
    /// Of a low-rank delta; bytes of a column's number, of a sparse one.
    rank: usize,
    /// Part of the factor, 1 but for low-rank deltas.
    scale: f32,
    /// Elements; of a low-rank delta A; of a sign delta its words.
    values: Tensor,
    /// Of a low-rank delta B; of a sparse one columns; of a sign delta each row's scale.
    second: Option<Tensor>,
    /// Of a sparse delta, where each row begins.
    offsets: Option<Tensor>,
}

/// As numbered in `merge.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dense,
    Aligned,
    LowRank,
    Sparse,
    Sign,
}

impl GpuDelta {
    pub(crate) fn new(delta: &Delta, uploader: &mut Uploader) -> Result<Self> {
        let plain = |kind, dtype, values| Self {
            kind,
            dtype,
            rank: 0,
            scale: 1.0,
            values,
            second: None,
            offsets: None,
        };
        Ok(match delta {
            Delta::Dense(weight) => {
                plain(Kind::Dense, dtype(weight.dtype()), upload(weight, uploader)?)
            }
            Delta::Aligned(weight) => {
                plain(Kind::Aligned, dtype(weight.dtype()), upload(weight, uploader)?)
            }
            Delta::LowRank(factors) => {
                let mut floats =
                    |values: &[f32]| uploader.upload(bytemuck::cast_slice(values), DType::F32);
                let (a, b) = (floats(&factors.a)?, floats(&factors.b)?);
                let (rank, scale) = (factors.rank, factors.scale);
                Self { rank, scale, second: Some(b), ..plain(Kind::LowRank, DType::F32, a) }
            }
            Delta::Sparse(sparse) => {
                let (offsets, columns, values) = sparse.parts();
                let rank = match columns.values() {
                    Integers::U16(_) => size_of::<u16>(),
                    Integers::U32(_) => size_of::<u32>(),
                };
                Self {
                    rank,
                    second: Some(upload_words(columns, uploader)?),
                    offsets: Some(upload_words(offsets, uploader)?),
                    ..plain(Kind::Sparse, dtype(values.dtype()), upload(values, uploader)?)
                }
            }
            Delta::Sign(sign) => {
                let (words, scales) = sign.parts();
                let second = Some(upload(scales, uploader)?);
                Self { second, ..plain(Kind::Sign, DType::F32, upload_words(words, uploader)?) }
            }
        })
    }

    /// Bytes of its parts.
    pub(crate) fn size_bytes(&self) -> usize {
        let parts = [Some(&self.values), self.second.as_ref(), self.offsets.as_ref()];
        parts.into_iter().flatten().map(|it| it.elem_count() * it.dtype().size_in_bytes()).sum()
    }

    /// A struct `Addend` of `merge.cu`: kind and type, factor and rank, three addresses, and what is
    /// selected.
    fn words(&self, coefficient: f32, selected: [u64; 3]) -> impl Iterator<Item = Word<'_>> {
        let factor = coefficient * self.scale;
        let address = |tensor| Option::map_or(tensor, Word::Number(0), Word::Address);
        [
            Word::pair(self.kind as u32, type_number(self.dtype)),
            Word::pair(factor.to_bits(), self.rank as u32),
            Word::Address(&self.values),
            address(self.second.as_ref()),
            address(self.offsets.as_ref()),
        ]
        .into_iter()
        .chain(selected.map(Word::Number))
    }
}

/// A tensor's elements on the GPU, `(n,)`.
pub(crate) fn upload(weight: &Weight, uploader: &mut Uploader) -> Result<Tensor> {
    at_least_one(weight.bytes(), dtype(weight.dtype()), uploader)
}

fn upload_words(integers: &IntegerTensor, uploader: &mut Uploader) -> Result<Tensor> {
    let bytes = integers.bytes();
    let mut words = vec![0_u32; bytes.len().div_ceil(size_of::<u32>())];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    at_least_one(bytemuck::cast_slice(&words), DType::U32, uploader)
}

/// Kernels are given addresses, which nothing has none of.
fn at_least_one(bytes: &[u8], dtype: DType, uploader: &mut Uploader) -> Result<Tensor> {
    match bytes {
        [] => uploader.upload(&[0; 4][..dtype.size_in_bytes()], dtype),
        bytes => uploader.upload(bytes, dtype),
    }
}

pub(crate) fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}

/// As numbered in `merge.cu`.
fn type_number(dtype: DType) -> u32 {
    match dtype {
        DType::F16 => 1,
        DType::BF16 => 2,
        _ => 0,
    }
}

/// Vectors that one kernel takes.
const MAX_ADDENDS: usize = 32;

/// Words of each of them.
const ADDEND_WORDS: usize = 8;

/// Threads of a block.
const THREADS: usize = 128;

/// Elements of a row that a thread merges, and rows.
const WIDTH: usize = 8;
const ROWS: usize = 4;

/// Rows of blocks that a grid may have.
const MAX_BLOCKS: usize = 65_535;

/// As [`super::merge`], on the GPU that all of it is on; each vector with its λ. `out` has the shape of
/// the tensor.
///
/// # Errors
///
/// For more than 32 vectors, and where the GPU refuses.
pub(crate) fn merge_on_gpu(
    out: &Tensor,
    base: &Tensor,
    addends: &[(f32, &GpuDelta)],
    selection: &Selection,
) -> Result<()> {
    let n = out.elem_count();
    if n == 0 {
        return Ok(());
    }
    if addends.len() > MAX_ADDENDS {
        candle_core::bail!("more than {MAX_ADDENDS} vectors at once are not for the GPU");
    }
    let selected = |index: usize| match selection {
        Selection::All => [0, 0, 0],
        Selection::Elected(cuts) => {
            [u64::from(cuts[index].magnitude), cuts[index].ties_end as u64, 0]
        }
        Selection::Drawn(draws) => {
            let Draw { key, threshold } = draws[index];
            [0, threshold, key]
        }
    };
    let mut words: Vec<_> = addends
        .iter()
        .enumerate()
        .flat_map(|(index, (coefficient, delta))| delta.words(*coefficient, selected(index)))
        .collect();
    words.resize(MAX_ADDENDS * ADDEND_WORDS, Word::Number(0));
    let row_len = out.dims().last().copied().unwrap_or(1);
    let n_rows = n / row_len;
    let is_dense =
        addends.iter().all(|(_, delta)| matches!(delta.kind, Kind::Dense | Kind::Aligned));
    let name = match selection {
        Selection::All if is_dense => "merge_dense",
        Selection::All => "merge_all",
        Selection::Elected(_) => "merge_elected",
        Selection::Drawn(_) => "merge_drawn",
    };
    let flat = Grid::of_blocks([n.div_ceil(THREADS * WIDTH), 1], THREADS);
    let tiles = [row_len.div_ceil(THREADS * WIDTH), n_rows.div_ceil(ROWS).min(MAX_BLOCKS)];
    let grid = if name == "merge_dense" { flat } else { Grid::of_blocks(tiles, THREADS) };
    let launch = Launch::new(Kernel { module: "merge", name }, grid)
        .tensor(out)
        .value(type_number(out.dtype()))
        .tensor(base)
        .value(type_number(base.dtype()))
        .words(words)
        .value(addends.len() as u32);
    let launch = match name {
        "merge_dense" => launch.value(n as u64),
        _ => launch.value(n_rows as u64).value(row_len as u64),
    };
    // SAFETY: the base has as many elements as what is written, deltas fit it as
    // `AlignmentVector::check_fit` and `Sparse::new` say, and the columns of a sparse one are looked at
    // when it is read.
    unsafe { launch.run(out) }
}
