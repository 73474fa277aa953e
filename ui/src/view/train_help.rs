//! What the fields of the training form are for, in plain words.

use crate::train_form::{LossChoice, TrainField};

/// Half a line, and more for those who hover over it.
type Help = (&'static str, &'static str);

/// What a field does, and when to change it.
pub(super) fn help(field: TrainField) -> Help {
    often_changed(field).or_else(|| rarely_changed(field)).unwrap_or_default()
}

fn often_changed(field: TrainField) -> Option<Help> {
    Some(match field {
        TrainField::Rank => (
            "how much the vector can express; its size grows with it",
            "Columns of one factor and rows of the other, for each matrix. 8 is enough for a tone \
             or a level. Take 16 to 64 where the loss stops falling early and there is much data.",
        ),
        TrainField::Alpha => (
            "the factors' product is multiplied by α / rank",
            "Equal to the rank until you type another. More makes each step go further, as a higher learning \
             rate does.",
        ),
        TrainField::Beta => (
            "how far the model may move away: smaller is further",
            "The losses' β. With IPO the target is a gain of 1/(2β) nats for each token. Raise it \
             where answers lose their sense, lower it where hardly anything changes.",
        ),
        TrainField::LabelSmoothing => (
            "the share of pairs that may be the wrong way round",
            "DPO's ε. 0 trusts every pair. About 0.1 helps where people disagreed on the data.",
        ),
        TrainField::Epochs => (
            "how often each pair is seen",
            "1 is usual. Take several for fewer than about 100 pairs, and watch the validation \
             loss: where it rises, it was too often.",
        ),
        TrainField::Batch => (
            "pairs that are read together",
            "More is smoother and a little faster, and takes more memory. Where memory is short, \
             halve it and double the accumulation: the steps stay the same.",
        ),
        TrainField::LearningRate => (
            "how far each step goes; follows the method",
            "5e-4 for LoRA, 1e-5 for all weights. Divide it by three where the loss jumps or rises \
             above its start; multiply it where accuracy stays at one half.",
        ),
        TrainField::MaxLength => (
            "longer responses are cut at their end",
            "Prompt and response together. The estimate says how many pairs are cut. Memory and \
             time grow with it.",
        ),
        _ => return None,
    })
}

fn rarely_changed(field: TrainField) -> Option<Help> {
    Some(match field {
        TrainField::Accumulation => (
            "batches that are added up for one step",
            "Makes a step as smooth as that of a larger batch, without its memory. The time per \
             step grows with it.",
        ),
        TrainField::MaxSteps => (
            "ends sooner than the epochs would; empty: no limit",
            "For a quick try: 20 steps show whether loss and accuracy move at all.",
        ),
        TrainField::WarmupSteps => (
            "the learning rate rises from 0 in so many steps",
            "Keeps the first steps, whose direction is uncertain, short. 5 to 10 % of all steps is \
             usual.",
        ),
        TrainField::WeightDecay => (
            "pulls weights towards 0 at each step",
            "0 is usual for vectors. 0.01 to 0.1 can help against overfitting.",
        ),
        TrainField::Clip => (
            "longer gradients are shortened to this; empty: none",
            "Keeps single odd batches from throwing the model off. With IPO nearly every gradient \
             is longer than 1, which is no harm.",
        ),
        TrainField::Validation => (
            "of the records are held back to measure on",
            "They are never trained on. Fewer than 34 records have none, and then nothing ends \
             the run early.",
        ),
        TrainField::ValidateEvery => (
            "between two looks at the records held back",
            "More often shows overfitting sooner, and takes time.",
        ),
        TrainField::Patience => (
            "without a lower validation loss end the run; empty: never",
            "3 is usual. The vector is kept as it was at the last step, not at the best one.",
        ),
        TrainField::CheckpointEvery => (
            "what can be lost by a power cut; two are kept",
            "A checkpoint holds weights and optimiser; a run resumes from it along the same curve.",
        ),
        TrainField::Seed => (
            "the same seed gives the same run",
            "Of the order of the pairs, of what is held back and of the first factors. Another \
             seed shows how much of a result is chance.",
        ),
        _ => return None,
    })
}

/// What a loss is for, in half a line; and when to take it.
pub(super) fn loss_help(loss: LossChoice) -> (&'static str, &'static str, &'static str) {
    match loss {
        LossChoice::Ipo => (
            "IPO",
            "aims at a fixed margin per token",
            "(h − 1/(2β))², per token: does not run away on pairs that are easy to tell apart. The \
             paper's choice.",
        ),
        LossChoice::Sigmoid => (
            "DPO sigmoid",
            "pushes every pair apart, less and less",
            "−log σ(βh), summed over tokens: the common one; long responses count for more.",
        ),
        LossChoice::Hinge => (
            "Hinge",
            "pushes only pairs that are not apart yet",
            "max(0, 1 − βh), summed over tokens: pairs beyond the margin are left alone.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_help_of_its_own() {
        let mut known = std::collections::BTreeSet::new();
        for field in TrainField::ALL {
            let (short, details) = help(field);
            assert!(!short.is_empty() && details.len() > short.len(), "{field:?}");
            assert!(known.insert(short) && known.insert(details), "{field:?}");
        }
    }
}
