use meav_model::Question;

use crate::Pair;

pub(super) fn fingerprint(train: &[Pair], validation: &[Pair]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"meav pairs 1");
    let mut add = |tokens: &[u32]| {
        hasher.update(&(tokens.len() as u64).to_le_bytes());
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
    };
    for pairs in [train, validation] {
        add(&[pairs.len() as u32]);
        for Pair { question: Question { prompt, responses }, .. } in pairs {
            add(prompt);
            for response in responses {
                add(response);
            }
        }
    }
    format!("blake3:{}", hasher.finalize())
}
