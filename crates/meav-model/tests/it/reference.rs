//! Llama written down once more, in double precision and without any thought of speed.

use std::collections::BTreeMap;

use meav_test_support::{Tensor, TinyModel};

/// Rows of numbers.
type Rows = Vec<Vec<f64>>;

/// Logits behind each of `tokens`, of a model with untied or tied embeddings.
pub(crate) fn logits(model: &TinyModel, tokens: &[u32]) -> Vec<f32> {
    let weights: BTreeMap<String, Tensor> =
        model.tensors().into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let matrix = |name: &str| rows(&weights[&format!("{name}.weight")]);
    let vector = |name: &str| matrix(name).concat();
    let embeddings = matrix("model.embed_tokens");
    let mut x: Rows = tokens.iter().map(|token| embeddings[*token as usize].clone()).collect();
    for layer in 0..model.n_layers {
        let matrix = |name: &str| matrix(&format!("model.layers.{layer}.{name}"));
        let norm = |x: &Rows, name: &str| normalised(x, &matrix(name).concat());
        let input = norm(&x, "input_layernorm");
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"]
            .map(|name| projected(&input, &matrix(&format!("self_attn.{name}"))));
        let attended = attended(model, &q, &k, &v);
        x = sum(&x, &projected(&attended, &matrix("self_attn.o_proj")));
        let input = norm(&x, "post_attention_layernorm");
        let gate = projected(&input, &matrix("mlp.gate_proj"));
        let up = projected(&input, &matrix("mlp.up_proj"));
        let gated = pairwise(&gate, &up, |gate, up| gate / (1.0 + (-gate).exp()) * up);
        x = sum(&x, &projected(&gated, &matrix("mlp.down_proj")));
    }
    let x = normalised(&x, &vector("model.norm"));
    let output = if model.tie_word_embeddings { embeddings } else { matrix("lm_head") };
    projected(&x, &output).concat().into_iter().map(|logit| logit as f32).collect()
}

fn rows(tensor: &Tensor) -> Rows {
    let row_len = *tensor.shape.last().unwrap();
    tensor.values.chunks(row_len).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn projected(x: &Rows, weight: &Rows) -> Rows {
    x.iter().map(|x| weight.iter().map(|weight| dot(x, weight)).collect()).collect()
}

fn pairwise(a: &Rows, b: &Rows, f: impl Fn(f64, f64) -> f64) -> Rows {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect();
    a.iter().zip(b).map(row).collect()
}

fn sum(a: &Rows, b: &Rows) -> Rows {
    pairwise(a, b, |a, b| a + b)
}

fn normalised(x: &Rows, weight: &[f64]) -> Rows {
    let row = |x: &Vec<f64>| {
        let scale = (dot(x, x) / x.len() as f64 + 1e-5).sqrt();
        x.iter().zip(weight).map(|(x, weight)| x / scale * weight).collect()
    };
    x.iter().map(row).collect()
}

/// One head's part of a row, turned by its position: element `i` together with `i + D/2`.
fn turned(row: &[f64], head: usize, head_dim: usize, position: usize) -> Vec<f64> {
    let head = &row[head * head_dim..][..head_dim];
    let half = head_dim / 2;
    (0..head_dim)
        .map(|i| {
            let frequency = 10_000_f64.powf(-((i % half) as f64) / half as f64);
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let other = if i < half { -head[i + half] } else { head[i - half] };
            head[i] * cos + other * sin
        })
        .collect()
}

fn attended(model: &TinyModel, q: &Rows, k: &Rows, v: &Rows) -> Rows {
    let TinyModel { n_heads, n_kv_heads, head_dim, .. } = *model;
    let row = |position: usize| {
        (0..n_heads)
            .flat_map(|head| {
                let kv_head = head * n_kv_heads / n_heads;
                let query = turned(&q[position], head, head_dim, position);
                let weights: Vec<f64> = (0..=position)
                    .map(|at| dot(&query, &turned(&k[at], kv_head, head_dim, at)))
                    .map(|score| (score / (head_dim as f64).sqrt()).exp())
                    .collect();
                let total: f64 = weights.iter().sum();
                (0..head_dim).map(move |i| {
                    let value = |at: usize| v[at][kv_head * head_dim + i];
                    weights.iter().enumerate().map(|(at, w)| w / total * value(at)).sum()
                })
            })
            .collect()
    };
    (0..q.len()).map(row).collect()
}
