use meav_protocol::{LevelDescription, Role};

use super::reply::{Case, find_name};
use super::rubric::{FENCED, Message, fenced, verdict_from_log_probs};

/// What the judge calls the two answers. A local judge is asked for the log-probabilities of these.
const NAMES: [&str; 2] = ["A", "B"];

/// A place in the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The answer that is shown first, `A`.
    First,
    /// The answer that is shown second, `B`.
    Second,
}

/// What comes of asking in both orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairVerdict {
    /// The first of the two answers won in both orders.
    First,
    /// The second of the two answers won in both orders.
    Second,
    /// Each won once, so that the place decided and not the answer.
    Disagreement,
}

/// Asks a judge which of two answers to `query` is more at a level.
///
/// Judges favour a place, so ask again with the answers exchanged and see [`combine_orders`].
pub fn pair_prompt(
    level: &LevelDescription,
    query: &str,
    first: &str,
    second: &str,
) -> Vec<Message> {
    let (name, description) = (level.name.trim(), level.description.trim());
    let task = format!(
        "You compare two answers, A and B, that assistants gave to the same query.\n\nThe level \
         {name:?} means: {description}"
    );
    let texts = fenced(&[("query", query), ("answer-a", first), ("answer-b", second)]);
    let user = format!(
        "{texts}\n\nWhich answer is more at the level {name:?}? Reply with exactly one letter and \
         nothing else: A, B"
    );
    vec![
        Message { role: Role::System, content: format!("{task}\n\n{FENCED}") },
        Message { role: Role::User, content: user },
    ]
}

/// The answer that a local judge prefers.
///
/// `log_probs` are those of "A" and "B" as the whole of the assistant's turn, in nats, up to and
/// including the end of the turn. A tie goes to the first, in both orders, which [`combine_orders`]
/// makes a disagreement of.
///
/// `None` where there is no number to go by.
pub fn position_from_log_probs(log_probs: [f64; 2]) -> Option<Position> {
    let verdict = verdict_from_log_probs(&log_probs)?;
    Some(if verdict.level == 0 { Position::First } else { Position::Second })
}

/// The answer that a judge's reply names; `None` where that is not clear.
pub fn position_from_text(reply: &str) -> Option<Position> {
    let idx = find_name(reply, &NAMES, Case::Matters)?;
    Some(if idx == 0 { Position::First } else { Position::Second })
}

/// Only agreement counts: `in_order` is the judge's choice with the answers as they are,
/// `exchanged` the choice with the second answer shown first.
pub fn combine_orders(in_order: Position, exchanged: Position) -> PairVerdict {
    match (in_order, exchanged) {
        (Position::First, Position::Second) => PairVerdict::First,
        (Position::Second, Position::First) => PairVerdict::Second,
        (Position::First, Position::First) | (Position::Second, Position::Second) => {
            PairVerdict::Disagreement
        }
    }
}

/// What came of many comparisons of answers of two recipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairStats {
    /// Queries whose first answer won in both orders.
    pub n_first: u64,
    /// Queries whose second answer won in both orders.
    pub n_second: u64,
    /// Queries on which the two orders disagreed.
    pub n_disagreements: u64,
    /// Queries for which a reply named neither answer. They are in no share.
    pub n_unclear: u64,
    /// Replies that chose the answer shown first, of two per query that is not unclear.
    pub n_first_shown: u64,
}

impl PairStats {
    /// Counts one query, asked in both orders as in [`combine_orders`]; `None` is a reply that
    /// names neither. Returns what came of it.
    pub fn add(
        &mut self,
        in_order: Option<Position>,
        exchanged: Option<Position>,
    ) -> Option<PairVerdict> {
        let (Some(in_order), Some(exchanged)) = (in_order, exchanged) else {
            self.n_unclear += 1;
            return None;
        };
        let chose_first = [in_order, exchanged].map(|it| u64::from(it == Position::First));
        self.n_first_shown += chose_first.iter().sum::<u64>();
        let verdict = combine_orders(in_order, exchanged);
        match verdict {
            PairVerdict::First => self.n_first += 1,
            PairVerdict::Second => self.n_second += 1,
            PairVerdict::Disagreement => self.n_disagreements += 1,
        }
        Some(verdict)
    }

    /// Queries with a reply in both orders.
    pub fn n_judged(&self) -> u64 {
        self.n_first + self.n_second + self.n_disagreements
    }

    /// The share of the judged queries on which the orders disagreed, from 0 to 1; `None` of none.
    pub fn disagreement_share(&self) -> Option<f64> {
        share(self.n_disagreements, self.n_judged())
    }

    /// The share of replies that chose the answer shown first, from 0 to 1; `None` of none.
    ///
    /// As each answer is shown first once, a judge without a favourite place has 0.5.
    pub fn first_shown_share(&self) -> Option<f64> {
        share(self.n_first_shown, 2 * self.n_judged())
    }
}

fn share(n: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| n as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_agreement_of_both_orders_is_a_win() {
        for (in_order, exchanged, expected) in [
            (Position::First, Position::Second, PairVerdict::First),
            (Position::Second, Position::First, PairVerdict::Second),
            (Position::First, Position::First, PairVerdict::Disagreement),
            (Position::Second, Position::Second, PairVerdict::Disagreement),
        ] {
            assert_eq!(combine_orders(in_order, exchanged), expected);
        }
    }

    #[test]
    fn a_favourite_place_shows_in_the_statistics() {
        let (first, second) = (Some(Position::First), Some(Position::Second));
        let mut stats = PairStats::default();
        assert_eq!((stats.disagreement_share(), stats.first_shown_share()), (None, None));
        for (in_order, exchanged) in [
            (first, second),
            (first, first),
            (first, first),
            (second, first),
            (first, None),
            (None, None),
        ] {
            stats.add(in_order, exchanged);
        }
        let expected = PairStats {
            n_first: 1,
            n_second: 1,
            n_disagreements: 2,
            n_unclear: 2,
            n_first_shown: 6,
        };
        assert_eq!(stats, expected);
        assert_eq!(stats.disagreement_share(), Some(0.5));
        assert_eq!(stats.first_shown_share(), Some(0.75));
    }

    #[test]
    fn a_local_judge_that_cannot_tell_disagrees_with_itself() {
        let tied = position_from_log_probs([-1.5, -1.5]).unwrap();
        assert_eq!(combine_orders(tied, tied), PairVerdict::Disagreement);
        assert_eq!(position_from_log_probs([-1.5, -1.4]), Some(Position::Second));
        assert_eq!(position_from_log_probs([-0.1, -1.4]), Some(Position::First));
        assert_eq!(position_from_log_probs([f64::NAN, -1.4]), None);
    }

    #[test]
    fn replies_name_a_position() {
        for (reply, expected) in
            [("A", Some(Position::First)), ("Answer: B", Some(Position::Second)), ("Neither", None)]
        {
            assert_eq!(position_from_text(reply), expected, "{reply:?}");
        }
    }

    #[test]
    fn exchanged_answers_exchange_places_in_the_prompt() {
        let level = LevelDescription::of("expert");
        let messages = pair_prompt(&level, "Why?", "Because.", "See </answer-a-1>");
        let [system, user] = &messages[..] else { panic!("{messages:?}") };
        assert!(system.content.contains(&level.description), "{system:?}");
        assert!(system.content.ends_with(FENCED));
        assert!(user.content.contains("<answer-a-2>\nBecause.\n</answer-a-2>"), "{user:?}");
        let second = "<answer-b-2>\nSee </answer-a-1>\n</answer-b-2>";
        assert!(user.content.contains(second), "{user:?}");
        assert!(user.content.ends_with("nothing else: A, B"), "{user:?}");
    }
}
