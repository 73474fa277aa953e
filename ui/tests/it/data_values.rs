//! Data and judgements, as an engine would tell of them.

use std::path::{Path, PathBuf};

use meav_protocol::{
    DataProblem, DataRecord, DataReport, JudgeReport, JudgeSpec, JudgedAnswer, JudgedPair,
    JudgedRecipe, LeakageReport, LengthSummary, MeasureName, MeasureSummary, RecordPage, Setup,
    VectorTerm,
};

use crate::values::stamp;

/// The files of the demo.
pub(crate) fn demo_data() -> Vec<PathBuf> {
    let name = |name: &str| PathBuf::from(format!("/home/me/demo/{name}.jsonl"));
    ["financial.test", "general.test", "legal.test", "medical.test", "medical.train"]
        .map(name)
        .to_vec()
}

fn levels() -> Vec<String> {
    ["expert", "generic", "avoidance"].map(str::to_owned).to_vec()
}

/// What a file of so many sound records holds.
pub(crate) fn data_report(file: &Path, records: usize) -> DataReport {
    let length = |name: &str, at: f64| LengthSummary {
        name: name.to_owned(),
        n: records,
        quantiles: [at * 0.5, at * 0.8, at, at * 1.25, at * 2.0],
        mean: at * 1.04,
    };
    let count = |value: &str, count: usize| (value.to_owned(), count);
    DataReport {
        file: file.to_owned(),
        path: file.to_owned(),
        fingerprint: "blake3:6b0f9a2c41d87e35a9c0d1e2f30415263748596a7b8c9dae".to_owned(),
        format: "JSONL".to_owned(),
        shape: "levels".to_owned(),
        is_demo: file.starts_with("/home/me/demo"),
        measures: vec![MeasureSummary {
            measure: MeasureName::Levels,
            levels: levels(),
            n: records,
        }],
        records,
        problems: vec![
            problem(7, Some("medical-0007"), "the response at “generic” is empty"),
            problem(19, None, "line is not UTF-8"),
        ],
        n_problems: 2,
        counts: vec![
            ("domain".to_owned(), vec![count("medical", records)]),
            (
                "method".to_owned(),
                vec![count("persona_hub", records / 2), count("create_persona", records / 3)],
            ),
        ],
        personas: records - 1,
        lengths: vec![
            length("query", 61.0),
            length("expert", 118.0),
            length("generic", 83.0),
            length("avoidance", 72.0),
        ],
        duplicate_queries: vec![(3, 17)],
        identical_responses: Vec::new(),
    }
}

pub(crate) fn problem(line: usize, id: Option<&str>, reason: &str) -> DataProblem {
    DataProblem { line, id: id.map(str::to_owned), reason: reason.to_owned() }
}

/// The record at a place.
pub(crate) fn record(index: usize) -> DataRecord {
    let response = |level: &str, words: &str| (level.to_owned(), words.to_owned());
    DataRecord {
        line: index + 1,
        id: format!("medical-{:04}", index + 1),
        domain: Some("medical".to_owned()),
        method: Some("create_persona".to_owned()),
        persona: Some("A night-shift nurse who trains for a half marathon.".to_owned()),
        query: format!(
            "Question {index}: my knee hurts after every long run, and the pain is worse on \
             stairs. Should I stop training four weeks before the race?"
        ),
        responses: vec![
            response(
                "expert",
                "Patellofemoral pain is the likeliest cause: pain behind the kneecap that rises \
                 with load on a bent knee. Cut the weekly distance by 30 %, keep the cadence \
                 above 170, and add heavy slow squats to 60 degrees three times a week.",
            ),
            response(
                "generic",
                "Knee pain in runners is common and often comes from doing too much too soon. \
                 Rest, ice and good shoes help many people. Build up slowly again.",
            ),
            response(
                "avoidance",
                "I am sorry that your knee hurts so close to the race. Please talk to a doctor \
                 or a physiotherapist, who can look at it.",
            ),
        ],
    }
}

/// Records of a file that has `total` of them, all of which have what is looked for.
pub(crate) fn page(
    file: &Path,
    search: &str,
    (start, count): (usize, usize),
    total: usize,
) -> RecordPage {
    let records = (start..total.min(start + count)).map(record).collect();
    RecordPage { file: file.to_owned(), search: search.to_owned(), total, start, records }
}

pub(crate) fn leakage() -> LeakageReport {
    LeakageReport { records: 24, personas: vec![(4, 2), (9, 11)], queries: Vec::new() }
}

/// What a judge said of what was asked for.
pub(crate) fn judge_report(spec: &JudgeSpec) -> JudgeReport {
    let levels: Vec<_> = spec.rubric.levels.iter().map(|level| level.name.clone()).collect();
    let recipe = |coefficients: &Vec<f64>| {
        let terms = spec.setup.vectors.iter().zip(coefficients);
        let vectors = terms.map(|(term, at)| VectorTerm::new(&term.file, *at)).collect();
        stamp(&Setup { vectors, ..spec.setup.clone() })
    };
    let recipes = spec.recipes.iter().map(|it| (recipe(it), None));
    let base = recipe(&vec![0.0; spec.setup.vectors.len()]);
    let instructions = spec.prompting.iter().flat_map(|prompting| prompting.instructions.keys());
    let prompted = instructions.map(|level| (base.clone(), Some(level.clone())));
    let rows: Vec<_> = recipes
        .chain(prompted)
        .enumerate()
        .map(|(index, (recipe, instruction))| judged(index, recipe, instruction, &levels))
        .collect();
    let pair = |(a, b)| JudgedPair {
        a,
        b,
        a_wins: 7 + a,
        b_wins: 4,
        disagreements: 8,
        unclear: 1,
        first_share: 0.715,
    };
    let pairs = (0..rows.len()).flat_map(|a| (a + 1..rows.len()).map(move |b| (a, b)));
    JudgeReport {
        judge: "SmolLM2-135M-Instruct".to_owned(),
        data: spec.data.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        levels,
        pairs: if spec.compares { pairs.map(pair).collect() } else { Vec::new() },
        rows,
        elapsed_secs: 74.0,
    }
}

fn judged(
    index: usize,
    recipe: meav_protocol::RecipeStamp,
    instruction: Option<String>,
    levels: &[String],
) -> JudgedRecipe {
    let n = levels.len();
    let answer = |place: usize| {
        let level = (place % 7 != 6).then_some((place + index) % n);
        JudgedAnswer {
            id: format!("medical-{:04}", place + 1),
            query: record(place).query,
            answer: format!("Answer {place} of row {index}. {}", record(place).responses[1].1),
            level,
            probabilities: (0..n).map(|at| if level == Some(at) { 0.6 } else { 0.2 }).collect(),
        }
    };
    let share = |at: usize| if at == index % n { 0.5 } else { 0.5 / (n - 1) as f64 };
    let shares: Vec<_> = (0..n).map(share).collect();
    JudgedRecipe {
        recipe,
        instruction,
        intervals: shares.iter().map(|share| [share - 0.19, share + 0.21]).collect(),
        preference_accuracy: Some((0..n).map(|at| share((at + 1) % n)).collect()),
        shares,
        unclear: 2,
        agreement: Some(0.45),
        answers: (0..20).map(answer).collect(),
    }
}
