use std::path::PathBuf;

use meav_model::{ModelFiles, RopeScaling, vocabulary_fingerprint};
use meav_test_support::{
    Gguf, GgufTensor, GgufType, GgufValue, PreTokenizer, TINY, TinyModel, assert_close, special,
    tiny_gguf, tiny_model, tolerance,
};
use meav_weights::Dtype;
use tempfile::TempDir;

use crate::{Running, load, refusal, some_tokens};

const TEXTS: [&str; 12] = [
    "",
    " ",
    "hello world",
    "Hello, the world of 1984!",
    "  two spaces,\ttabs\n\n\nand lines\r\n",
    "it's, we'll, they'd, I'm",
    "1234567890 3.14159",
    "déjà vu — 10 € – 日本語 😀👍🏽",
    "<|im_start|>user\nhello<|im_end|>\n",
    "<|im_start|><|endoftext|><|im_end",
    "fn main() { println!(\"{v:?}\"); }",
    "\u{0}\u{1}\u{7f}\u{a0}\u{200b}\u{feff}",
];

fn written(gguf: &Gguf) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny-Q8_0.gguf");
    gguf.write(&path);
    (folder, path)
}

fn opened(options: &TinyModel, change: impl FnOnce(&mut Gguf)) -> ModelFiles {
    let mut gguf = tiny_gguf(options, GgufType::F32);
    change(&mut gguf);
    ModelFiles::open(&written(&gguf).1).unwrap()
}

/// What a tiny GGUF is refused with after `change`.
#[track_caller]
fn check(change: impl FnOnce(&mut Gguf), expected: &str) {
    let mut gguf = tiny_gguf(&TINY, GgufType::F32);
    change(&mut gguf);
    let (_folder, path) = written(&gguf);
    let found = refusal(&path).replace(&path.display().to_string(), "…");
    assert_eq!(found, expected);
}

fn set(key: &str, value: GgufValue) -> impl FnOnce(&mut Gguf) {
    move |gguf| drop(gguf.metadata.insert(key.to_owned(), value))
}

fn text(text: &str) -> GgufValue {
    GgufValue::Text(text.to_owned())
}

fn running(gguf: &Gguf) -> Running {
    let (folder, path) = written(gguf);
    let files = ModelFiles::open(&path).unwrap();
    let tensors = load(&files, Dtype::F32);
    let decoder = meav_model::Decoder::new(&files.config, &tensors).unwrap();
    Running { files, tensors, decoder, _folder: folder }
}

#[test]
fn gguf_says_the_same_as_its_folder() {
    for options in [
        TINY,
        TinyModel { pre_tokenizer: PreTokenizer::Gpt2, tie_word_embeddings: false, ..TINY },
        TinyModel { n_heads: 6, n_kv_heads: 3, head_dim: 10, ..TINY },
    ] {
        let folder = Running::tiny(&options);
        let gguf = running(&tiny_gguf(&options, GgufType::F32));
        assert_eq!(gguf.files.config, folder.files.config);
        assert_eq!(gguf.files.chat_template, folder.files.chat_template);
        let (a, b) = (&gguf.files.special, &folder.files.special);
        assert_eq!((&a.bos, &a.eos, a.bos_id), (&b.bos, &b.eos, b.bos_id));
        assert_eq!(a.stop, [special::END_OF_TEXT, special::IM_END]);
        let fingerprint = |files: &ModelFiles| vocabulary_fingerprint(&files.tokenizer);
        assert_eq!(fingerprint(&gguf.files), fingerprint(&folder.files));

        let tokens = some_tokens(40);
        let found = gguf.logits(&tokens, &mut gguf.cache());
        assert!(found == folder.logits(&tokens, &mut folder.cache()));

        for text in TEXTS {
            let encode = |files: &ModelFiles| {
                files.tokenizer.encode(text, false).unwrap().get_ids().to_vec()
            };
            let ids = encode(&gguf.files);
            assert_eq!(ids, encode(&folder.files), "{text:?}");
            for skip_special_tokens in [false, true] {
                assert_eq!(
                    gguf.files.tokenizer.decode(&ids, skip_special_tokens).unwrap(),
                    folder.files.tokenizer.decode(&ids, skip_special_tokens).unwrap(),
                );
            }
        }
    }
}

#[test]
fn quantised_gguf_says_nearly_the_same() {
    let folder = Running::tiny(&TINY);
    let gguf = running(&tiny_gguf(&TINY, GgufType::Q8_0));
    let tokens = some_tokens(40);
    let found = gguf.logits(&tokens, &mut gguf.cache());
    let expected = folder.logits(&tokens, &mut folder.cache());
    assert_close(&found, &expected, tolerance::Q8_0_LOGITS);
    assert!(found != expected);
}

#[test]
fn gguf_is_called_by_its_file() {
    assert_eq!(opened(&TINY, |_| {}).name, "tiny-Q8_0");
}

#[test]
fn tokenizer_beside_a_gguf_goes_before_its_own() {
    let (folder, path) = written(&tiny_gguf(&TINY, GgufType::F32));
    let other = TinyModel { pre_tokenizer: PreTokenizer::Gpt2, ..TINY };
    tiny_model(&other).write(folder.path());
    let tokenizer = ModelFiles::open(&path).unwrap().tokenizer;
    let words = tokenizer.encode("is 1984", false).unwrap().get_word_ids().to_vec();
    assert_eq!(words.into_iter().max().unwrap(), Some(1));
}

#[test]
fn vocabularies_that_cannot_be_rebuilt_are_refused() {
    let at = "cannot use the tokenizer of \"…\": ";
    let kind =
        |kind: &str| format!("{at}a GGUF vocabulary of kind {kind:?} cannot be rebuilt exactly");
    check(set("tokenizer.ggml.model", text("bert")), &kind("bert"));
    check(set("tokenizer.ggml.pre", text("bloom")), &kind("bloom"));
    // llama.cpp guesses where the file doesn't say, and warns of bad answers.
    check(|gguf| drop(gguf.metadata.remove("tokenizer.ggml.pre")), &kind("default"));
    check(
        set("tokenizer.ggml.merges", GgufValue::Texts(vec!["he".to_owned()])),
        &format!("{at}the GGUF's tokenizer.ggml.merges is damaged"),
    );
    check(
        set("tokenizer.ggml.merges", GgufValue::I32s(vec![1])),
        &format!("{at}the GGUF's tokenizer.ggml.merges is damaged"),
    );
    check(
        set("tokenizer.ggml.token_type", GgufValue::I32s(vec![1; 299])),
        &format!("{at}the GGUF's tokenizer.ggml.token_type is damaged"),
    );
    check(
        |gguf| drop(gguf.metadata.remove("tokenizer.ggml.merges")),
        &format!(
            "{at}malformed file \"…\": the GGUF metadata has no usable \"tokenizer.ggml.merges\""
        ),
    );
}

#[test]
fn turn_ends_at_its_own_token_too() {
    const EOS: u32 = 40;
    let end = |key: &'static str, id| set(key, GgufValue::U32(id));
    let eos = |gguf: &mut Gguf| end("tokenizer.ggml.eos_token_id", EOS)(gguf);
    let known = [special::END_OF_TEXT, special::IM_END];
    assert_eq!(opened(&TINY, eos).special.stop, [&known[..], &[EOS]].concat());
    let both = |gguf: &mut Gguf| {
        eos(gguf);
        end("tokenizer.ggml.eot_token_id", special::IM_START)(gguf);
    };
    let all = [special::END_OF_TEXT, special::IM_START, special::IM_END, EOS];
    assert_eq!(opened(&TINY, both).special.stop, all);
    // Older files say user-defined; the same text as an ordinary token ends nothing.
    let stop_with_kind = |kind: i32| {
        let change = |gguf: &mut Gguf| {
            eos(gguf);
            let kinds = gguf.metadata.get_mut("tokenizer.ggml.token_type");
            let Some(GgufValue::I32s(kinds)) = kinds else { panic!("no kinds") };
            kinds[special::IM_END as usize] = kind;
        };
        opened(&TINY, change).special.stop
    };
    assert_eq!(stop_with_kind(4), [&known[..], &[EOS]].concat());
    assert_eq!(stop_with_kind(1), [special::END_OF_TEXT, EOS]);
}

/// Each token can be put together at every place, from two that can be, too.
#[test]
fn vocabulary_of_too_many_merges_is_refused() {
    let n = 1024;
    check(
        |gguf| {
            let tokens = (1..=n).map(|len| "a".repeat(len)).collect();
            set("tokenizer.ggml.model", text("llama"))(gguf);
            set("tokenizer.ggml.tokens", GgufValue::Texts(tokens))(gguf);
            set("tokenizer.ggml.token_type", GgufValue::I32s(vec![1; n]))(gguf);
            set("tokenizer.ggml.scores", GgufValue::F32s(vec![0.0; n]))(gguf);
        },
        "cannot use the tokenizer of \"…\": the GGUF's tokens can be put together in more ways than \
         those of any model",
    );
}

#[test]
fn dimensions_that_are_missing_are_named() {
    for key in [
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.tokens",
    ] {
        check(
            |gguf| drop(gguf.metadata.remove(key)),
            &format!("malformed file \"…\": the GGUF metadata has no usable {key:?}"),
        );
    }
}

#[test]
fn dimensions_that_have_a_default_may_be_missing() {
    let options = TinyModel { n_kv_heads: 4, ..TINY };
    let expected = opened(&options, |_| {}).config;
    let files = opened(&options, |gguf| {
        gguf.metadata.remove("llama.attention.key_length");
        gguf.metadata.remove("llama.rope.freq_base");
    });
    assert_eq!(files.config, expected);
}

#[test]
fn stretched_rotations_are_read_or_refused() {
    let scaled = |kind: &'static str| {
        move |gguf: &mut Gguf| {
            set("llama.rope.scaling.type", text(kind))(gguf);
            set("llama.rope.scaling.factor", GgufValue::F32(4.0))(gguf);
        }
    };
    assert_eq!(opened(&TINY, scaled("none")).config.rope_scaling, RopeScaling::None);
    let linear = opened(&TINY, scaled("linear")).config.rope_scaling;
    assert_eq!(linear, RopeScaling::Linear { factor: 4.0 });
    check(
        scaled("yarn"),
        "cannot use the model's configuration \"…\": rope scaling \"yarn\" is not supported",
    );
    check(
        set("llama.rope.scaling.type", text("linear")),
        "cannot use the model's configuration \"…\": rope scaling is NaN",
    );
    let values = [1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 8.0, 8.0];
    let factors = opened(&TINY, |gguf| {
        let name = "rope_freqs.weight".to_owned();
        gguf.tensors.push(GgufTensor::new(name, GgufType::F32, &[8], &values));
    });
    assert_eq!(factors.config.rope_scaling, RopeScaling::Factors(values.to_vec()));
    assert!(!factors.weight_names().contains(&"rope_freqs.weight"));
}

#[test]
fn tokenizer_with_more_tokens_than_embeddings_does_not_fit_the_weights() {
    let files = opened(&TINY, |gguf| {
        gguf.tensors[0].shape = vec![299, 64];
        gguf.tensors[0].bytes.truncate(4 * 299 * 64);
    });
    let err = meav_model::Decoder::new(&files.config, &load(&files, Dtype::F32)).unwrap_err();
    assert_eq!(
        err.to_string(),
        "tensor \"model.embed_tokens.weight\" has shape [299, 64], \
         the configuration says [300, 64]"
    );
}

/// The rebuilt tokenizer also gives llama.cpp's own ids for its test texts of Llama 2, which are too
/// large to keep here.
#[test]
fn sentence_piece_vocabulary_merges_by_score_and_falls_back_to_bytes() {
    // Type 1 is ordinary, 2 unknown, 3 control, 6 a byte.
    let vocabulary = [
        ("<unk>", 2, 0.0),
        ("<s>", 3, 0.0),
        ("</s>", 3, 0.0),
        ("<0xC3>", 6, 0.0),
        ("<0xA9>", 6, 0.0),
        ("▁", 1, -10.0),
        ("a", 1, -11.0),
        ("b", 1, -12.0),
        ("▁a", 1, -2.0),
        ("ab", 1, -1.0),
        ("▁ab", 1, -3.0),
    ];
    let files = opened(&TINY, |gguf| {
        let tokens = vocabulary.map(|(token, ..)| token.to_owned()).to_vec();
        let kinds = vocabulary.map(|(_, kind, _)| kind).to_vec();
        let scores = vocabulary.map(|(.., score)| score).to_vec();
        set("tokenizer.ggml.model", text("llama"))(gguf);
        set("tokenizer.ggml.tokens", GgufValue::Texts(tokens))(gguf);
        set("tokenizer.ggml.token_type", GgufValue::I32s(kinds))(gguf);
        set("tokenizer.ggml.scores", GgufValue::F32s(scores))(gguf);
        for key in ["bos", "eos"] {
            set(&format!("tokenizer.ggml.{key}_token_id"), GgufValue::U32(2))(gguf);
        }
    });
    for (text, expected) in [
        // `ab` has the highest score, so `▁a` never comes about before a `b`.
        ("ab ab", vec![10, 10]),
        ("a b", vec![8, 5, 7]),
        ("é", vec![5, 3, 4]),
        ("ab</s>", vec![10, 2]),
    ] {
        let encoded = files.tokenizer.encode(text, false).unwrap();
        assert_eq!(encoded.get_ids(), expected, "{text}");
        assert_eq!(files.tokenizer.decode(&expected, false).unwrap(), text);
    }
}
