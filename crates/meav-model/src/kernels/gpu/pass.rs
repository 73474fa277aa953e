//! What the layers of a pass share on the GPU.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Result, Tensor};

use crate::kernels::attention::{AttentionRule, Sequences, View};
use crate::rope::Angles;

/// What all layers of a pass read on the GPU: it is copied there once.
#[derive(Debug, Default)]
pub(crate) struct PassOnGpu {
    turns: Mutex<Option<Arc<Turns>>>,
    /// For each window and capacity.
    seen: Mutex<Vec<(SeenKey, Arc<Seen>)>>,
}

type SeenKey = (Option<usize>, usize);

/// Cosines and sines on the GPU, `(T, R/2)`.
#[derive(Debug)]
pub(in crate::kernels) struct Turns {
    pub(in crate::kernels) cos: Tensor,
    pub(in crate::kernels) sin: Tensor,
}

impl Turns {
    /// Those of the pass.
    pub(in crate::kernels) fn of(
        angles: &Angles,
        n_rows: usize,
        like: &Tensor,
    ) -> Result<Arc<Self>> {
        let mut turns = angles.on_gpu.turns.lock().unwrap_or_else(PoisonError::into_inner);
        angles.check(n_rows)?;
        if let Some(turns) = &*turns {
            return Ok(turns.clone());
        }
        Ok(turns.insert(Arc::new(Self::new(angles, like)?)).clone())
    }

    fn new(angles: &Angles, like: &Tensor) -> Result<Self> {
        // No tensor is empty: kernels are given addresses.
        let tensor = |values: &[f32]| match values.len() {
            0 => Tensor::zeros(1, DType::F32, like.device()),
            n => Tensor::from_slice(values, n, like.device()),
        };
        Ok(Self { cos: tensor(&angles.cos)?, sin: tensor(&angles.sin)? })
    }
}

impl Angles {
    /// Whether they are those of as many tokens.
    fn check(&self, n_rows: usize) -> Result<()> {
        if self.cos.len() != n_rows * self.half || self.sin.len() != self.cos.len() {
            candle_core::bail!("{} cosines for {n_rows} tokens", self.cos.len());
        }
        Ok(())
    }
}

/// What each token sees, as kernels take it.
#[derive(Debug)]
pub(in crate::kernels) struct Seen {
    /// A struct `Queries` for each sequence, `(sequences, 6)`.
    pub(in crate::kernels) blocks: Tensor,
    pub(in crate::kernels) n_blocks: usize,
    /// The block of each row.
    pub(in crate::kernels) block_of_row: Tensor,
    /// Pairs of places.
    pub(in crate::kernels) slots: Tensor,
}

impl Seen {
    /// By the tokens of the pass in a layer with this rule.
    pub(in crate::kernels) fn of(
        rule: &AttentionRule,
        sequences: Sequences<'_>,
        n_rows: usize,
        capacity: usize,
        like: &Tensor,
    ) -> Result<Arc<Self>> {
        let key = (rule.window, capacity);
        let all = &sequences.angles.on_gpu.seen;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, seen)) = all.iter().find(|(other, _)| *other == key) {
            if seen.block_of_row.elem_count() != n_rows {
                candle_core::bail!("the pass has not {n_rows} tokens");
            }
            return Ok(seen.clone());
        }
        let seen = Arc::new(Self::new(rule, sequences, n_rows, capacity, like)?);
        all.push((key, seen.clone()));
        Ok(seen)
    }

    fn new(
        rule: &AttentionRule,
        sequences: Sequences<'_>,
        n_rows: usize,
        capacity: usize,
        like: &Tensor,
    ) -> Result<Self> {
        let (mut blocks, mut block_of_row, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let each = sequences.blocks(usize::MAX);
        for (index, block) in each.iter().enumerate() {
            let view = View::new(rule, sequences.start, *block);
            let begin = slots.len() / 2;
            for range in &view.slots {
                if range.end > capacity {
                    candle_core::bail!("the cache holds {capacity} positions");
                }
                slots.extend([range.start as u32, range.end as u32]);
            }
            let end = slots.len() / 2;
            let words = [block.row, block.len, view.position, view.lowest, begin, end];
            blocks.extend(words.map(|n| n as u32));
            block_of_row.extend(vec![index as u32; block.len]);
        }
        if block_of_row.len() != n_rows || n_rows == 0 {
            candle_core::bail!("the sequences' lengths do not add up to {n_rows} tokens");
        }
        let tensor = |values: Vec<u32>| {
            let n = values.len();
            Tensor::from_vec(values, n, like.device())
        };
        Ok(Self {
            n_blocks: each.len(),
            blocks: tensor(blocks)?,
            block_of_row: tensor(block_of_row)?,
            slots: tensor(slots)?,
        })
    }
}
