use std::fs;
use std::path::Path;

use meav_job::{CancelToken, JobCtx};
use meav_model::{Message, ModelError, ModelFiles, vocabulary_fingerprint};
use meav_test_support::{
    CHAT_TEMPLATE, ModelFolder, PreTokenizer, TINY, TinyModel, VOCAB_SIZE, broken, special,
    tiny_model,
};
use meav_weights::WeightsError;
use serde_json::json;
use tempfile::TempDir;

use crate::{Running, refusal};

/// What a tiny model is refused with after `change` to its folder; the folder is called `…`.
#[track_caller]
fn check(change: impl FnOnce(&Path), expected: &str) {
    let folder = tiny_model(&TINY).in_temp_dir();
    change(folder.path());
    let found = refusal(folder.path()).replace(&folder.path().display().to_string(), "…");
    assert!(found.starts_with(expected), "\n    {found}\nnot {expected}");
}

/// A folder of a tiny model that was changed before it was written.
fn written(change: impl FnOnce(&mut ModelFolder)) -> TempDir {
    let mut model = tiny_model(&TINY);
    change(&mut model);
    model.in_temp_dir()
}

fn open(change: impl FnOnce(&mut ModelFolder)) -> ModelFiles {
    ModelFiles::open(written(change).path()).unwrap()
}

fn remove(name: &str) -> impl FnOnce(&Path) {
    move |folder| fs::remove_file(folder.join(name)).unwrap()
}

#[test]
fn folder_is_opened_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Tiny-1");
    tiny_model(&TINY).write(&path);
    let files = ModelFiles::open(&path).unwrap();
    assert_eq!(files.name, "Tiny-1");
    assert_eq!(files.path, path);
    let config = &files.config;
    assert_eq!((config.hidden_size, config.intermediate_size, config.n_layers), (64, 96, 2));
    assert_eq!((config.n_heads, config.n_kv_heads, config.head_dim), (4, 2, 16));
    assert_eq!((config.vocab_size, config.max_position_embeddings), (VOCAB_SIZE, 256));
    assert!(config.tie_word_embeddings);
    assert_eq!(files.tokenizer.get_vocab_size(true), VOCAB_SIZE);
    assert_eq!(files.chat_template.as_deref(), Some(CHAT_TEMPLATE));
    assert_eq!(files.special.bos.as_deref(), Some("<|im_start|>"));
    assert_eq!(files.special.bos_id, Some(special::IM_START));
    assert_eq!(files.special.eos.as_deref(), Some("<|im_end|>"));
    assert_eq!(files.special.stop, [special::END_OF_TEXT, special::IM_END]);
    assert_eq!(files.weight_names().len(), 1 + 2 * 9 + 1);
}

#[test]
fn messages_become_tokens() {
    let files = open(|_| {});
    let template = files.compile_chat_template().unwrap();
    let message =
        |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let messages = [message("system", "hello"), message("user", "the end")];
    let text = template.render(&messages, true).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nhello<|im_end|>\n<|im_start|>user\nthe end<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let encoding = files.tokenizer.encode(text.as_str(), false).unwrap();
    let tokens = encoding.get_tokens();
    assert_eq!(tokens[0], "<|im_start|>");
    assert!(tokens.contains(&"hello".to_owned()), "{tokens:?}");
    assert!(tokens.contains(&"user".to_owned()), "{tokens:?}");
    assert_eq!(files.tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
}

#[test]
fn missing_files_are_named() {
    check(remove("config.json"), "there is no config.json in \"…\"");
    check(remove("tokenizer.json"), "there is no tokenizer.json in \"…\"");
    check(
        remove("model.safetensors"),
        "no model.safetensors or model.safetensors.index.json in \"…\"",
    );
    check(|folder| fs::remove_dir_all(folder).unwrap(), "cannot read \"…\"");
}

#[test]
fn file_of_weights_alone_is_no_model() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let err = ModelFiles::open(&folder.path().join("model.safetensors")).unwrap_err();
    let is_named = matches!(&err, ModelError::MissingFile { path, .. } if path == folder.path());
    assert!(is_named, "{err:?}");
}

#[test]
fn only_a_tokenizer_and_its_template_may_be_left_out() {
    let folder = tiny_model(&TINY).in_temp_dir();
    for name in ["generation_config.json", "tokenizer_config.json"] {
        remove(name)(folder.path());
    }
    let files = ModelFiles::open(folder.path()).unwrap();
    assert_eq!(files.chat_template, None);
    assert_eq!((&files.special.bos, &files.special.eos), (&None, &None));
    assert_eq!(files.special.stop, [special::IM_END]);
    let err = files.compile_chat_template().unwrap_err();
    assert_eq!(err.to_string(), "the model has no chat template");
}

#[test]
fn other_architectures_are_refused_by_name() {
    let folder = written(|model| model.config["model_type"] = "mamba".into());
    let found = refusal(folder.path());
    let expected = "architecture \"mamba\" is not supported, only llama, mistral, qwen2, qwen3, \
                    gemma2, gemma3_text, phi3 are, in";
    assert!(found.starts_with(expected), "{found}");
    assert!(found.ends_with("config.json\""), "{found}");
}

#[test]
fn configuration_that_cannot_be_used_is_named_with_its_reason() {
    let write = |text: &'static str| {
        move |folder: &Path| fs::write(folder.join("config.json"), text).unwrap()
    };
    let at = "cannot use the model's configuration \"…/config.json\": ";
    check(write(""), &format!("{at}EOF while parsing"));
    check(write("{}"), &format!("{at}missing field `model_type`"));
    check(write(r#"{"model_type": "llama"}"#), &format!("{at}missing field `hidden_size`"));
    let folder = written(|model| model.config["num_key_value_heads"] = 3.into());
    let found = refusal(folder.path());
    assert!(found.ends_with("num_attention_heads is 4, which does not divide by 3"), "{found}");
}

#[test]
fn other_broken_json_is_named_too() {
    for name in ["generation_config.json", "tokenizer_config.json"] {
        check(
            |folder| fs::write(folder.join(name), "{").unwrap(),
            &format!("cannot use the model's configuration \"…/{name}\": EOF"),
        );
    }
}

#[test]
fn broken_tokenizer_is_refused() {
    for text in ["", "{}", "[1]", r#"{"model": {"type": "BPE"}}"#] {
        check(
            |folder| fs::write(folder.join("tokenizer.json"), text).unwrap(),
            "cannot use the tokenizer of \"…\": ",
        );
    }
}

#[test]
fn prompts_are_neither_cut_nor_filled_up_as_in_training() {
    let plain = open(|_| {});
    let trained = open(|model| {
        model.tokenizer["truncation"] = json!({
            "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
        });
        model.tokenizer["padding"] = json!({
            "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "x",
        });
    });
    let ids = |files: &ModelFiles| {
        files.tokenizer.encode("hello there, how are you?", false).unwrap().get_ids().to_vec()
    };
    assert_eq!(ids(&trained), ids(&plain));
}

#[test]
fn tokenizer_with_more_tokens_than_the_model_is_refused() {
    let folder = written(|model| model.config["vocab_size"] = 299.into());
    let found = refusal(folder.path());
    assert!(found.ends_with("the tokenizer has 300 tokens, the model 299 embeddings"), "{found}");
}

/// Adds a token behind the last embedding.
fn with_image_token(model: &mut ModelFolder) {
    let mut token = model.tokenizer["added_tokens"][0].clone();
    token["id"] = VOCAB_SIZE.into();
    token["content"] = "<image_soft_token>".into();
    model.tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
}

#[test]
fn added_token_without_embedding_is_text_if_the_model_has_no_use_for_it() {
    let files = open(with_image_token);
    let expected = open(|_| {});
    assert_eq!(
        vocabulary_fingerprint(&files.tokenizer),
        vocabulary_fingerprint(&expected.tokenizer)
    );
    for text in ["<image_soft_token>", "hello<|im_end|>"] {
        let ids =
            |files: &ModelFiles| files.tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(ids(&files), ids(&expected));
    }
    let folder = written(|model| {
        with_image_token(model);
        let template = format!("{CHAT_TEMPLATE}<image_soft_token>");
        model.tokenizer_config["chat_template"] = template.into();
    });
    let found = refusal(folder.path());
    let expected = "the token \"<image_soft_token>\" has the id 300, the model only 300 embeddings";
    assert!(found.ends_with(expected), "{found}");
}

#[test]
fn tokens_are_looked_at_by_their_ids_and_not_by_their_number() {
    let folder = written(|model| {
        model.config["vocab_size"] = 305.into();
        model.tokenizer["model"]["vocab"]["us"] = 305.into();
    });
    let found = refusal(folder.path());
    assert!(found.ends_with("the tokenizer has 306 tokens, the model 305 embeddings"), "{found}");
}

#[test]
fn model_may_have_spare_embeddings() {
    let files = open(|model| {
        model.config["vocab_size"] = 320.into();
        model.tensors[0].shape[0] = 320;
        model.tensors[0].values.resize(320 * TINY.hidden_size, 0.0);
    });
    assert_eq!((files.config.vocab_size, files.tokenizer.get_vocab_size(true)), (320, 300));
}

#[test]
fn broken_weights_are_refused_by_the_files_name() {
    for (name, bytes) in broken::all() {
        let folder = tiny_model(&TINY).in_temp_dir();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, bytes).unwrap();
        let err = ModelFiles::open(folder.path()).unwrap_err();
        let is_named = matches!(
            &err,
            ModelError::Weights(WeightsError::Malformed { path: p, .. }) if *p == path
        );
        assert!(is_named, "{name}: {err:?}");
    }
}

#[test]
fn template_of_its_own_file_goes_first() {
    let folder = tiny_model(&TINY).in_temp_dir();
    fs::write(folder.path().join("chat_template.jinja"), "own").unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert_eq!(files.chat_template.as_deref(), Some("own"));
}

#[test]
fn default_one_of_several_templates_is_taken() {
    let files = open(|model| {
        model.tokenizer_config["chat_template"] = json!([
            { "name": "tool_use", "template": "tools" },
            { "name": "default", "template": "plain" },
        ]);
    });
    assert_eq!(files.chat_template.as_deref(), Some("plain"));
    let files = open(|model| model.tokenizer_config["chat_template"] = json!([]));
    assert_eq!(files.chat_template, None);
}

#[test]
fn invalid_template_fails_when_it_is_compiled() {
    let files = open(|model| model.tokenizer_config["chat_template"] = "{% for".into());
    assert!(matches!(files.compile_chat_template(), Err(ModelError::ChatTemplate(_))));
}

#[test]
fn special_tokens_may_be_written_out() {
    let files = open(|model| {
        model.tokenizer_config["eos_token"] =
            json!({ "content": "<|endoftext|>", "special": true });
        model.tokenizer_config["bos_token"] = json!(null);
        model.generation_config = json!({});
        model.config["eos_token_id"] = json!(null);
    });
    assert_eq!(files.special.eos.as_deref(), Some("<|endoftext|>"));
    assert_eq!((files.special.bos, files.special.bos_id), (None, None));
    assert_eq!(files.special.stop, [special::END_OF_TEXT]);
}

#[test]
fn sharded_models_have_the_same_weights() {
    let single = Running::tiny(&TINY);
    let sharded = Running::tiny(&TinyModel { sharded: true, ..TINY });
    assert_eq!(sharded.files.checkpoint.files().len(), 2);
    let tokens = crate::some_tokens(10);
    assert!(
        single.logits(&tokens, &mut single.cache())
            == sharded.logits(&tokens, &mut sharded.cache())
    );
}

#[test]
fn tensors_that_are_no_weights_are_left_out() {
    let files = open(|model| {
        let mut extra = model.tensors[0].clone();
        extra.name = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
        model.tensors.push(extra);
    });
    assert_eq!(files.checkpoint.names().len(), files.weight_names().len() + 1);
}

#[test]
fn loading_the_weights_can_be_cancelled() {
    let folder = tiny_model(&TINY).in_temp_dir();
    let files = ModelFiles::open(folder.path()).unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    let result = files.load_weights(&JobCtx::new(cancel, &|_| {}));
    assert!(matches!(result, Err(WeightsError::Cancelled(_))));
}

#[test]
fn vocabulary_fingerprint_is_that_of_the_tokens() {
    let fingerprint =
        |change: fn(&mut ModelFolder)| vocabulary_fingerprint(&open(change).tokenizer);
    let original = fingerprint(|_| {});
    assert_eq!(fingerprint(|model| model.tokenizer["pre_tokenizer"] = json!(null)), original);
    let other = fingerprint(|model| {
        model.tokenizer["added_tokens"][0]["content"] = "<|other|>".into();
        let vocab = model.tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocab.remove("<|endoftext|>");
        vocab.insert("<|other|>".to_owned(), 0.into());
    });
    assert_ne!(other, original);
}

#[test]
fn digits_are_words_of_their_own_for_some_models() {
    let n_words = |pre_tokenizer: PreTokenizer| {
        let folder = tiny_model(&TinyModel { pre_tokenizer, ..TINY }).in_temp_dir();
        let tokenizer = ModelFiles::open(folder.path()).unwrap().tokenizer;
        let words = tokenizer.encode("is 1984", false).unwrap().get_word_ids().to_vec();
        words.into_iter().max().unwrap().unwrap() + 1
    };
    assert_eq!(n_words(PreTokenizer::Gpt2), 2);
    assert_eq!(n_words(PreTokenizer::SmolLm), 6);
}
