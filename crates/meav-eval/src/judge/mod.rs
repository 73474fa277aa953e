//! Judges: another model that says at which level an answer stands.
//!
//! Where the preference accuracy asks which of some given responses the model finds most likely, a
//! judge reads what the model itself says. A [`Rubric`](meav_protocol::Rubric) says what the levels mean and makes the
//! prompt; a model loaded here answers by the log-probabilities of the names of the levels
//! ([`verdict_from_log_probs`]), an [`Endpoint`] in words ([`level_from_text`]).
//! [`LevelShares`] counts the verdicts of a recipe, [`PairStats`] those of comparisons asked in
//! both orders.
//!
//! # Example
//!
//! ```
//! use meav_eval::judge::{LevelShares, check_rubric, level_from_text, level_prompt};
//! use meav_eval::judge::verdict_from_log_probs;
//! use meav_protocol::Rubric;
//!
//! let rubric = Rubric::of(["expert", "generic", "avoidance"]);
//! check_rubric(&rubric)?;
//! let messages = level_prompt(&rubric, "What is asthma?", "Ask your doctor.");
//! assert!(messages[1].content.ends_with("expert, generic, avoidance"));
//!
//! let mut shares = LevelShares::new(rubric.levels.len());
//! let local = verdict_from_log_probs(&[-4.0, -3.0, -0.1]);
//! shares.add(local.map(|verdict| verdict.level), None);
//! shares.add(level_from_text(&rubric, "**Avoidance**."), None);
//! shares.add(level_from_text(&rubric, "I cannot say."), None);
//! assert_eq!((shares.shares()[2].n, shares.n_judged(), shares.n_unclear()), (2, 2, 1));
//! # Ok::<(), meav_eval::judge::RubricError>(())
//! ```

mod endpoint;
mod pairwise;
mod reply;
mod rubric;
mod sample;
mod shares;

pub use endpoint::{
    Address, ApiKey, Endpoint, EndpointError, EndpointSettings, InvalidAddress, InvalidKey, Reply,
    Timeouts,
};
pub use pairwise::{
    PairStats, PairVerdict, Position, combine_orders, pair_prompt, position_from_log_probs,
    position_from_text,
};
pub use rubric::{
    Message, RubricError, Verdict, check_rubric, level_from_text, level_prompt,
    verdict_from_log_probs,
};
pub use sample::sample;
pub use shares::{LevelShares, Share};
