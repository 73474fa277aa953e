//! A sweep as the tables of a paper.

use meav_protocol::{DatasetScores, StampTerm, Sweep, SweptData};

use crate::sweep::{best_lambdas, home};

/// A sweep in Markdown, laid out as Table 1 of arXiv 2410.19206: for each level as target behaviour
/// the λ that leads to most of it, and the preference accuracies there, beside those of the default
/// (λ = 0) and of prompting.
///
/// λ is chosen on the vector's own data set, the one that [`calibration`](crate::calibration) takes.
/// The other data sets follow with the same λ, as in the paper's Tables 2 and 6.
///
/// ```text
/// prompt cost = prompt tokens with the instruction / prompt tokens without
/// ```
///
/// Both are means over the records. An instruction that doubles the prompt costs 2.00×; the paper's
/// "half the inference cost" is the inverse.
pub fn table(sweep: &Sweep) -> String {
    let title = format!("# {} on {}\n", escaped(&sweep.vector.domain), escaped(&sweep.model));
    let Some(own) = home(sweep).filter(|_| !sweep.points.is_empty()) else {
        return title + "\nNothing has been measured yet.\n";
    };
    let best = best_lambdas(sweep, own);
    let others = (0..sweep.datasets.len()).filter(|place| *place != own);
    let section = |place| section(sweep, own, place, &best);
    title + &notes(sweep, own) + &[own].into_iter().chain(others).map(section).collect::<String>()
}

fn notes(sweep: &Sweep, own: usize) -> String {
    let mut notes = vec![format!(
        "Preference accuracies, with 95 % intervals by bootstrap over the records. Each λ is the one \
         that leads to most of its target behaviour on {}: since it was chosen there, the \
         accuracies there flatter it a little. The cost of a prompt is its tokens, on average, over \
         those of the prompt without an instruction. Prompting is measured on the base model.",
        escaped(&sweep.datasets[own].name)
    )];
    let (n_points, n_wanted) = (sweep.points.len(), sweep.spec.range.points().len());
    if n_points < n_wanted {
        notes.push(format!("{n_points} of {n_wanted} points are measured so far."));
    }
    let held: Vec<_> = sweep.held.iter().filter(|term| term.coefficient != 0.0).collect();
    if !held.is_empty() {
        let term =
            |term: &&StampTerm| format!("{} {}", escaped(&term.domain), signed(term.coefficient));
        let terms: Vec<_> = held.iter().map(term).collect();
        notes.push(format!("Beside the vector, at every λ, 0 too: {}.", terms.join(", ")));
    }
    if sweep.base_matches == Some(false) {
        notes.push("The vector was made from another base model.".to_owned());
    }
    format!("\n{}\n", notes.join("\n\n"))
}

/// What was measured on the data set at this place, at the λ chosen on the vector's `own`.
fn section(sweep: &Sweep, own: usize, place: usize, best: &[Option<f64>]) -> String {
    let data = &sweep.datasets[place];
    let name = escaped(&data.name);
    let heading = format!("\n## {name}: {}, {}\n\n", data.measure, records(sweep, place));
    let lines = rows(sweep, own, place, best)
        .into_iter()
        .map(|row| row.markdown(&data.levels, default_prompt(sweep, place)));
    [heading, origin(sweep, own, place), header(&data.levels)].into_iter().chain(lines).collect()
}

/// Where the λ of a section come from.
fn origin(sweep: &Sweep, own: usize, place: usize) -> String {
    if place == own {
        return String::new();
    }
    let name = escaped(&sweep.datasets[own].name);
    match &sweep.datasets[place].domain {
        Some(domain) if *domain != sweep.vector.domain => {
            format!("Out of domain ({}), each λ as chosen on {name}.\n\n", escaped(domain))
        }
        _ => format!("Each λ as chosen on {name}.\n\n"),
    }
}

fn records(sweep: &Sweep, place: usize) -> String {
    let Some(scores) = sweep.points[0].datasets.get(place) else {
        return "not measured".to_owned();
    };
    match scores.skipped.len() {
        0 => format!("{} records", scores.n),
        n_skipped => format!("{} records, {n_skipped} more skipped", scores.n),
    }
}

fn header(levels: &[String]) -> String {
    let names: Vec<_> = levels.iter().map(|level| escaped(level)).collect();
    let names = names.join(" | ");
    let rule = "---:|".repeat(levels.len());
    format!(
        "| Target behaviour | Method | λ | {names} | Prompt tokens | Prompt cost |\n\
         |:---|:---|---:|{rule}---:|---:|\n"
    )
}

/// A line of a table.
struct Row<'a> {
    target: &'a str,
    method: &'static str,
    lambda: Option<f64>,
    scores: Option<&'a DatasetScores>,
}

fn rows<'a>(sweep: &'a Sweep, own: usize, place: usize, best: &[Option<f64>]) -> Vec<Row<'a>> {
    let at = |lambda: f64| {
        sweep.points.iter().find(|point| (point.lambda - lambda).abs() < 1e-9)?.datasets.get(place)
    };
    let default =
        Row { target: NOTHING, method: "Default (λ = 0)", lambda: Some(0.0), scores: at(0.0) };
    let vector = |(target, lambda): (&'a String, &Option<f64>)| Row {
        target,
        method: "Alignment vector",
        lambda: *lambda,
        scores: lambda.and_then(at),
    };
    let vectors = sweep.datasets[own].levels.iter().zip(best).map(vector);
    [default].into_iter().chain(vectors).chain(prompting(sweep, place)).collect()
}

fn prompting(sweep: &Sweep, place: usize) -> impl Iterator<Item = Row<'_>> {
    let data = &sweep.datasets;
    let is_alike = |other: &SweptData| {
        let SweptData { name, measure, levels, .. } = &data[place];
        other.name == *name && other.measure == *measure && other.levels == *levels
    };
    // Files of the same name are told apart by their order, which is that of the sweep.
    let n_before = data[..place].iter().filter(|it| is_alike(it)).count();
    let is_it = move |scores: &&DatasetScores| {
        let SweptData { name, measure, levels, .. } = &data[place];
        scores.file == *name
            && scores.measure == *measure
            && scores.preference_accuracy.keys().eq(levels)
    };
    sweep.prompting.iter().filter_map(move |it| {
        let scores = it.datasets.iter().filter(is_it).nth(n_before)?;
        Some(Row { target: &it.level, method: "Prompting", lambda: None, scores: Some(scores) })
    })
}

/// Prompt tokens without an instruction, which λ does not change.
fn default_prompt(sweep: &Sweep, place: usize) -> f64 {
    sweep.points[0].datasets.get(place).map_or(0.0, |scores| scores.prompt_tokens)
}

/// In place of a value.
const NOTHING: &str = "–";

impl Row<'_> {
    fn markdown(&self, levels: &[String], default_prompt: f64) -> String {
        let accuracies = levels.iter().map(|level| accuracy(self.scores?, level));
        let tokens = self.scores.map(|scores| scores.prompt_tokens);
        let cost = tokens.map(|tokens| tokens / default_prompt).filter(|cost| cost.is_finite());
        let cells: Vec<_> = [self.lambda.map(signed)]
            .into_iter()
            .chain(accuracies)
            .chain([tokens.map(|tokens| prompt(tokens, default_prompt))])
            .chain([cost.map(|cost| format!("{cost:.2}×"))])
            .map(|cell| cell.unwrap_or_else(|| NOTHING.to_owned()))
            .collect();
        format!("| {} | {} | {} |\n", escaped(self.target), self.method, cells.join(" | "))
    }
}

fn accuracy(scores: &DatasetScores, level: &str) -> Option<String> {
    let share = scores.preference_accuracy.get(level)?;
    let interval = scores.intervals.get(level);
    let interval = interval.map(|[lower, upper]| format!(" ({lower:.3}–{upper:.3})"));
    Some(format!("{share:.3}{}", interval.unwrap_or_default()))
}

/// Tokens, and by how many they exceed those of the prompt without an instruction.
fn prompt(tokens: f64, default: f64) -> String {
    let more = tokens - default;
    if more.abs() < 0.05 {
        return format!("{tokens:.1}");
    }
    format!("{tokens:.1} ({}{:.1})", if more < 0.0 { '−' } else { '+' }, more.abs())
}

/// With the typographic minus, which stays apart from hyphens in names.
fn signed(lambda: f64) -> String {
    format!("{}{}", if lambda < 0.0 { "−" } else { "" }, lambda.abs())
}

/// A name as plain text in a cell: neither Markdown nor HTML, and on one line.
fn escaped(name: &str) -> String {
    let escaped = |letter: char| {
        let is_special = r"\|`*[]<>&".contains(letter);
        let shown = if letter.is_control() { ' ' } else { letter };
        is_special.then_some('\\').into_iter().chain([shown])
    };
    name.chars().flat_map(escaped).collect()
}

#[cfg(test)]
mod tests;
