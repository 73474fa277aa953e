//! Preference records: queries whose responses stand at different levels.
//!
//! [`read_jsonl`] reads three shapes of JSONL, told apart by their keys:
//!
//! - levels: `{"query", "responses": {"expert": …, "generic": …, …}}`, any level names;
//! - PKU-SafeRLHF: `{"prompt", "response_0", "response_1", "better_response_id", …}`, read as the
//!   levels `helpful` and `unhelpful`;
//! - pairs as TRL has them: `{"prompt", "chosen", "rejected"}`, as text.

mod error;
mod jsonl;

pub use error::{DataError, LineError};
pub use jsonl::read_jsonl;

/// A query and its responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// As the file has it, else `line-N`.
    pub id: String,
    /// What is asked.
    pub query: String,
    /// What is answered, in the order of the file.
    pub responses: Vec<Response>,
}

/// A response at a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `expert`, `generic`, …
    pub level: String,
    /// What is said.
    pub text: String,
}
