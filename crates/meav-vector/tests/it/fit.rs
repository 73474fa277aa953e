use meav_test_support::{
    TINY, Tensor, TinyModel, VectorFile, tiny_dense_vector, tiny_low_rank_vector, tiny_model,
};
use meav_vector::VectorError;
use meav_weights::{Checkpoint, Fingerprint};

use crate::opened;

/// What the tiny model says to a vector.
fn fit(file: &VectorFile) -> Result<(), VectorError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny");
    tiny_model(&TINY).write(&path);
    let base = Checkpoint::open(&path).unwrap();
    let mut file = file.clone();
    file.metadata.insert("meav.base".to_owned(), "other".to_owned());
    opened(&file).check_fit(&base, Fingerprint::of_bytes(b"vocabulary"))
}

fn check(file: &VectorFile, expected: &str) {
    assert_eq!(fit(file).unwrap_err().to_string(), expected);
}

fn dense() -> VectorFile {
    tiny_dense_vector(&TINY, "medical", 5)
}

fn tensor<'a>(file: &'a mut VectorFile, name: &str) -> &'a mut Tensor {
    file.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn vectors_of_the_same_layout_fit() {
    fit(&dense()).unwrap();
    fit(&tiny_low_rank_vector(&TINY, "medical", 5)).unwrap();
    let mut file = dense();
    file.tensors.truncate(3);
    fit(&file).unwrap();
}

#[test]
fn tensor_that_the_base_lacks_is_named() {
    check(
        &tiny_dense_vector(&TinyModel { tie_word_embeddings: false, ..TINY }, "medical", 5),
        "the base model \"tiny\" has no tensor \"lm_head.weight\", which \"medical\" (made for \
         \"other\") changes: a vector is not transferred between models of another architecture or \
         size",
    );
    check(
        &tiny_low_rank_vector(&TinyModel { n_layers: 3, ..TINY }, "legal", 5),
        "the base model \"tiny\" has no tensor \"model.layers.2.mlp.down_proj.weight\", which \
         \"legal\" (made for \"other\") changes: a vector is not transferred between models of \
         another architecture or size",
    );
}

#[test]
fn names_of_another_form_of_the_model_are_told() {
    let mut file = dense();
    for tensor in &mut file.tensors {
        tensor.name.insert_str(0, "language_model.");
    }
    check(
        &file,
        "the base model \"tiny\" calls \"model.embed_tokens.weight\" what \"medical\" (made for \
         \"other\") calls \"language_model.model.embed_tokens.weight\": the vector was made for \
         another form of the model, such as the GGUF of a model that sees, which holds its text \
         part only",
    );
}

#[test]
fn tensor_of_another_shape_is_named() {
    check(
        &tiny_dense_vector(&TinyModel { intermediate_size: 128, ..TINY }, "medical", 5),
        "tensor \"model.layers.0.mlp.down_proj.weight\" has shape [64, 128] in \"medical\" \
         (made for \"other\"), the base model \"tiny\" has [64, 96]: a vector is not transferred \
         between models of another architecture or size",
    );
    check(
        &tiny_low_rank_vector(&TinyModel { n_kv_heads: 4, ..TINY }, "medical", 5),
        "tensor \"model.layers.0.self_attn.k_proj.weight\" has shape [64, 64] in \"medical\" \
         (made for \"other\"), the base model \"tiny\" has [32, 64]: a vector is not transferred \
         between models of another architecture or size",
    );
    let mut file = dense();
    tensor(&mut file, "model.norm.weight").shape = vec![8, 8];
    check(
        &file,
        "tensor \"model.norm.weight\" has shape [8, 8] in \"medical\" (made for \"other\"), the base \
         model \"tiny\" has [64]: a vector is not transferred between models of another architecture \
         or size",
    );
}

#[test]
fn other_tokenizer_is_refused_and_an_unknown_one_is_not() {
    let mut file = dense();
    let mut with = |fingerprint: Fingerprint| {
        let key = "meav.tokenizer_fingerprint".to_owned();
        file.metadata.insert(key, fingerprint.to_string());
        fit(&file)
    };
    with(Fingerprint::of_bytes(b"vocabulary")).unwrap();
    let err = with(Fingerprint::of_bytes(b"another")).unwrap_err();
    assert_eq!(err.to_string(), "\"medical\" was made for a model with another tokenizer");
}

/// Transfer to a sibling that was trained further is a use of vectors.
#[test]
fn other_base_of_the_same_layout_fits() {
    let mut file = dense();
    let key = "meav.base_fingerprint".to_owned();
    file.metadata.insert(key, Fingerprint::of_bytes(b"sibling").to_string());
    fit(&file).unwrap();
}
