use std::collections::BTreeMap;
use std::path::Path;

use meav_test_support::{Gguf, GgufTensor, GgufType, GgufValue};
use meav_weights::{Checkpoint, GgufFamily};

/// The names of transformers and those that the Python package gguf maps them to, by family.
const NAMES: &str = include_str!("../../../meav-test-support/fixtures/gguf_names.json");

/// Without those that llama.cpp has no name for.
fn names() -> BTreeMap<String, BTreeMap<String, String>> {
    let names: BTreeMap<String, BTreeMap<String, Option<String>>> =
        serde_json::from_str(NAMES).unwrap();
    let known = |(name, gguf_name): (String, Option<String>)| Some((name, gguf_name?));
    names
        .into_iter()
        .map(|(family, names)| (family, names.into_iter().filter_map(known).collect()))
        .collect()
}

#[test]
fn names_are_those_of_transformers_and_llama_cpp() {
    let fixture = names();
    assert_eq!(fixture.len(), GgufFamily::ALL.len());
    for (architecture, names) in fixture {
        let family = GgufFamily::from_architecture(&architecture).unwrap();
        assert!(names.len() > 14, "{architecture}");
        for (hugging_face, gguf) in &names {
            assert_eq!(family.gguf_name(hugging_face).as_ref(), Some(gguf), "{architecture}");
            assert_eq!(family.hugging_face_name(gguf).as_ref(), Some(hugging_face));
        }
    }
    // The one that has no name there: embeddings and output are always tied.
    assert_eq!(GgufFamily::Gemma2.gguf_name("lm_head.weight"), None);
}

const HEADS: [u32; 2] = [4, 2];
const HEAD_DIM: usize = 6;
const HIDDEN: usize = 8;

/// Any shape will do that has the heads' rows where llama.cpp permutes them.
fn shape(name: &str) -> Vec<usize> {
    let rows = match name {
        _ if name.contains("q_proj") => HEADS[0] as usize * HEAD_DIM,
        _ if name.contains("k_proj") => HEADS[1] as usize * HEAD_DIM,
        _ => 10,
    };
    if name.ends_with("norm.weight") || name.ends_with("bias") {
        vec![rows]
    } else {
        vec![rows, HIDDEN]
    }
}

/// Numbers that are exact in every type, also with one more; they differ from row to row.
fn values(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>()).map(|i| (i % 509) as f32 / 4.0 - 60.0).collect()
}

/// What llama.cpp's conversion does to the values, written out by its own rules.
fn converted(architecture: &str, name: &str, values: &[f32]) -> Vec<f32> {
    let n_heads = match name {
        _ if architecture != "llama" => None,
        _ if name.contains("q_proj") => Some(HEADS[0] as usize),
        _ if name.contains("k_proj") => Some(HEADS[1] as usize),
        _ => None,
    };
    if let Some(n_heads) = n_heads {
        // reshape(n_heads, 2, rows / n_heads / 2, in).swapaxes(1, 2)
        let rows = values.len() / if name.ends_with("bias") { 1 } else { HIDDEN };
        let row_len = values.len() / rows;
        let half = rows / n_heads / 2;
        let mut out = Vec::new();
        for head in 0..n_heads {
            for place in 0..half {
                for part in 0..2 {
                    let row = (head * 2 + part) * half + place;
                    out.extend(&values[row * row_len..][..row_len]);
                }
            }
        }
        return out;
    }
    let is_gemma_norm = architecture.starts_with("gemma") && name.ends_with("norm.weight");
    values.iter().map(|value| if is_gemma_norm { value + 1.0 } else { *value }).collect()
}

fn family_file(architecture: &str, names: &BTreeMap<String, String>, kind: GgufType) -> Gguf {
    let metadata = [
        ("general.architecture".to_owned(), GgufValue::Text(architecture.to_owned())),
        (format!("{architecture}.attention.head_count"), GgufValue::U32(HEADS[0])),
        (format!("{architecture}.attention.head_count_kv"), GgufValue::U32(HEADS[1])),
    ];
    let tensors = names
        .iter()
        .map(|(name, gguf_name)| {
            let shape = shape(name);
            let values = converted(architecture, name, &values(&shape));
            GgufTensor::new(gguf_name.clone(), kind, &shape, &values)
        })
        .collect();
    Gguf { metadata: metadata.into(), tensors }
}

#[test]
fn tensors_of_each_family_come_out_as_hugging_face_has_them() {
    let folder = tempfile::tempdir().unwrap();
    for (architecture, names) in names() {
        let path = folder.path().join(format!("{architecture}.gguf"));
        family_file(&architecture, &names, GgufType::F32).write(&path);
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.gguf().unwrap().family().architecture(), architecture);
        let expected: Vec<_> = names.keys().map(String::as_str).collect();
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), expected, "{architecture}");
        for name in names.keys() {
            let shape = shape(name);
            let weight = checkpoint.load(name).unwrap();
            assert_eq!(weight.shape(), shape, "{architecture} {name}");
            assert_eq!(weight.to_f32_vec(), values(&shape), "{architecture} {name}");
        }
    }
}

/// A bias of 24 values in blocks of 32 is refused; heads of 6 in blocks are no reason to fail.
#[test]
fn quantised_biases_are_put_in_order_across_heads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bias.gguf");
    let write = |rows: usize, n_heads: u32| {
        let mut gguf = family_file("llama", &BTreeMap::new(), GgufType::F32);
        gguf.metadata.insert("llama.attention.head_count".to_owned(), GgufValue::U32(n_heads));
        let values: Vec<f32> = (0..rows).map(|i| i as f32).collect();
        let name = "blk.0.attn_q.bias".to_owned();
        gguf.tensors.push(GgufTensor::new(name, GgufType::Q8_0, &[rows], &values));
        gguf.write(&path);
        open(&path)
    };
    assert_eq!(write(24, 4), None);
    // 48 heads of two rows: in this order already, whatever the blocks.
    let in_order: Vec<f32> = (0..96).map(|i| i as f32).collect();
    assert_eq!(rounded(write(96, 48)), in_order);
    // 16 heads of six rows, which go from 0 3 1 4 2 5 to 0 1 2 3 4 5.
    let expected: Vec<f32> =
        (0..96).map(|i| (i / 6 * 6 + [0, 2, 4, 1, 3, 5][i % 6]) as f32).collect();
    assert_eq!(rounded(write(96, 16)), expected);
}

/// Steps of eight bits are smaller than 1 up to 127.
fn rounded(values: Option<Vec<f32>>) -> Vec<f32> {
    values.unwrap().into_iter().map(f32::round).collect()
}

fn open(path: &Path) -> Option<Vec<f32>> {
    let checkpoint = Checkpoint::open(path).ok()?;
    Some(checkpoint.load("model.layers.0.self_attn.q_proj.bias").unwrap().to_f32_vec())
}
