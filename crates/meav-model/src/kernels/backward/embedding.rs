use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use super::gpu;
use crate::kernels::add::add;
use crate::kernels::gpu::is_on_gpu;
use crate::kernels::{f32_slice, f32_slice_mut};

/// Adds each token's gradient to its row of `grad`, those of repeated tokens in their order.
///
/// # Shapes
///
/// `dx` is `(T, H)` for `T` tokens, `grad` `(V, H)`; both `f32`.
pub(crate) fn embedding_backward(tokens: &[u32], dx: &Tensor, grad: &Tensor) -> Result<()> {
    if is_on_gpu(dx) {
        return gpu::embedding_backward(tokens, dx, grad);
    }
    grad.inplace_op2(dx, &EmbeddingBackward { tokens })
}

struct EmbeddingBackward<'a> {
    tokens: &'a [u32],
}

impl InplaceOp2 for EmbeddingBackward<'_> {
    fn name(&self) -> &'static str {
        "embedding-backward"
    }

    fn cpu_fwd(
        &self,
        grad: &mut CpuStorage,
        grad_layout: &Layout,
        dx: &CpuStorage,
        dx_layout: &Layout,
    ) -> Result<()> {
        let (n_tokens, n) = grad_layout.shape().dims2()?;
        if dx_layout.shape().dims() != [self.tokens.len(), n] {
            candle_core::bail!("{:?} for {} tokens", dx_layout.shape(), self.tokens.len());
        }
        let dx = f32_slice(dx, dx_layout)?;
        let mut order: Vec<usize> = (0..self.tokens.len()).collect();
        order.sort_by_key(|row| self.tokens[*row]);
        let mut rest = f32_slice_mut(grad, grad_layout)?;
        let mut next = 0;
        let mut parts = Vec::new();
        for rows in order.chunk_by(|a, b| self.tokens[*a] == self.tokens[*b]) {
            let token = self.tokens[rows[0]] as usize;
            if token >= n_tokens {
                candle_core::bail!("token {token} is beyond the vocabulary of {n_tokens}");
            }
            let (row, behind) = rest.split_at_mut((token - next) * n).1.split_at_mut(n);
            parts.push((row, rows));
            (rest, next) = (behind, token + 1);
        }
        parts.into_par_iter().with_min_len(16).for_each(|(sum, rows)| {
            for row in rows {
                add(sum, &dx[row * n..][..n], 1.0);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use meav_cuda::on_cpu_and_gpu;
    use meav_test_support::{assert_close, tolerance};

    use super::super::testing::{
        assert_deterministic, assert_slopes, by_candle, on, some_values, values, variable,
    };
    use super::*;

    on_cpu_and_gpu!(gradients_of_repeated_tokens_add_up, tokens_beyond_the_vocabulary_are_refused,);

    /// First and last, repeated, and out of order.
    const TOKENS: [u32; 9] = [19, 3, 3, 0, 7, 19, 3, 5, 0];

    fn tokens() -> Tensor {
        Tensor::new(&TOKENS, &Device::Cpu).unwrap()
    }

    fn gradients_of_repeated_tokens_add_up(device: &Device) {
        for n in [6, 300] {
            let table = variable(&some_values((20, n), 1));
            let dy = some_values((9, n), 2);
            let y = table.index_select(&tokens(), 0).unwrap();
            let expected = by_candle(&y, &dy, &[&table]).remove(0);
            let grad = on(device, &some_values((20, n), 3));
            let start = values(&grad);
            embedding_backward(&TOKENS, &on(device, &dy), &grad).unwrap();
            let sum: Vec<f32> = start.iter().zip(expected).map(|(a, b)| a + b).collect();
            assert_close(&values(&grad), &sum, tolerance::F32_SUM);
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_forward_pass() {
        let (table, dy) = (some_values((20, 6), 1), some_values((9, 6), 2));
        let grad = table.zeros_like().unwrap();
        embedding_backward(&TOKENS, &dy, &grad).unwrap();
        assert_slopes(&values(&grad), &table, &dy, |table| {
            table.index_select(&tokens(), 0).unwrap()
        });
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let tokens: Vec<u32> = (0..1000).map(|i| i * i % 97).collect();
        let dy = some_values((1000, 6), 2);
        assert_deterministic(|| {
            let grad = some_values((97, 6), 1);
            embedding_backward(&tokens, &dy, &grad).unwrap();
            values(&grad)
        });
    }

    fn tokens_beyond_the_vocabulary_are_refused(device: &Device) {
        let [dy, grad] =
            [some_values((2, 6), 2), some_values((20, 6), 1)].map(|it| on(device, &it));
        assert!(embedding_backward(&[19, 0], &dy, &grad).is_ok());
        assert!(embedding_backward(&[20, 0], &dy, &grad).is_err());
        assert!(embedding_backward(&[0], &dy, &grad).is_err());
    }
}
