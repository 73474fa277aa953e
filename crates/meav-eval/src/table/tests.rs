use meav_protocol::MeasureName;

use super::*;
use crate::test_sweep::{Data, prompting, sweep, term};

const LAMBDAS: [f64; 3] = [-1.0, 0.0, 0.7];

fn medical(preferred: &[&[u8]]) -> Data {
    Data::levels("medical.test.jsonl", preferred)
}

/// Four records, of which 0, 1 and 3 are expert's; nobody ever avoids.
fn data() -> [Data; 2] {
    let general = Data {
        name: "general.jsonl",
        domain: Some("general"),
        measure: MeasureName::Safety,
        preferred: vec![vec![1, 1], vec![0, 1], vec![0, 0]],
    };
    [general, medical(&[&[1, 1, 1, 1], &[0, 1, 1, 1], &[0, 0, 0, 1]])]
}

fn prompted() -> Sweep {
    let mut sweep = sweep("medical", &LAMBDAS, &data());
    sweep.prompting = vec![
        prompting("expert", 90.0, &[medical(&[&[0, 0, 1, 1]])]),
        prompting("generic", 60.0, &[medical(&[&[1, 1, 1, 1]])]),
    ];
    sweep
}

/// The cells of each line below a heading that begins so, without header and rule.
fn rows_below(text: &str, heading: &str) -> Vec<Vec<String>> {
    let below = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let cells =
        |line: &str| line.trim_matches('|').split(" | ").map(|it| it.trim().to_owned()).collect();
    below.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

#[test]
fn lambda_is_chosen_for_each_target_behaviour() {
    let text = table(&prompted());
    let expected = [
        "– / Default (λ = 0) / 0 / 0.250 (0.000–0.750) / 0.750 (0.250–1.000) / 0.000 (0.000–0.490) / 40.0 / 1.00×",
        "expert / Alignment vector / 0.7 / 0.750 (0.250–1.000) / 0.250 (0.000–0.750) / 0.000 (0.000–0.490) / 40.0 / 1.00×",
        "generic / Alignment vector / −1 / 0.000 (0.000–0.490) / 1.000 (0.510–1.000) / 0.000 (0.000–0.490) / 40.0 / 1.00×",
        "avoidance / Alignment vector / – / – / – / – / – / –",
        "expert / Prompting / – / 0.500 (0.000–1.000) / 0.500 (0.000–1.000) / 0.000 (0.000–0.490) / 90.0 (+50.0) / 2.25×",
        "generic / Prompting / – / 0.000 (0.000–0.490) / 1.000 (0.510–1.000) / 0.000 (0.000–0.490) / 60.0 (+20.0) / 1.50×",
    ];
    let rows = rows_below(&text, "medical.test.jsonl: levels, 4 records\n");
    assert_eq!(rows.iter().map(|row| row.join(" / ")).collect::<Vec<_>>(), expected);
}

#[test]
fn other_data_follow_at_the_same_lambda() {
    let text = table(&prompted());
    let rows = rows_below(&text, "general.jsonl: safety, 2 records\n\nOut of domain (general)");
    let shown: Vec<_> = rows.iter().map(|row| row[..4].join(" / ")).collect();
    let expected = [
        "– / Default (λ = 0) / 0 / 0.500 (0.000–1.000)",
        "expert / Alignment vector / 0.7 / 1.000 (0.342–1.000)",
        "generic / Alignment vector / −1 / 0.000 (0.000–0.658)",
        "avoidance / Alignment vector / – / –",
    ];
    assert_eq!(shown, expected);
    assert!(text.find("## medical").unwrap() < text.find("## general").unwrap());
}

#[test]
fn files_of_one_name_keep_their_own_prompting() {
    let twice = || [medical(&[&[0], &[0], &[0]]), medical(&[&[1], &[1], &[1]])];
    let mut sweep = sweep("medical", &LAMBDAS, &twice());
    sweep.prompting = vec![prompting("expert", 90.0, &twice())];
    let text = table(&sweep);
    let prompted: Vec<_> = text.lines().filter(|line| line.contains("Prompting |")).collect();
    let [first, second] = prompted.as_slice() else { panic!("{text}") };
    assert!(first.contains("| 1.000 (0.207–1.000) | 0.000"), "{first}");
    assert!(second.contains("| 0.000 (0.000–0.793) | 1.000"), "{second}");
}

#[test]
fn notes_tell_what_else_moves_preferences() {
    let mut sweep = prompted();
    let all = table(&sweep);
    assert!(!all.contains("another base") && !all.contains("Beside the vector"));
    sweep.held = vec![term("legal", -0.5), term("tax", 0.0)];
    sweep.base_matches = Some(false);
    sweep.points.retain(|point| point.lambda != 0.0);
    for point in &mut sweep.points {
        let problem = meav_protocol::DataProblem { line: 9, id: None, reason: String::new() };
        point.datasets[1].skipped = vec![problem; 3];
    }
    let text = table(&sweep);
    for note in [
        "2 of 31 points are measured so far.",
        "Beside the vector, at every λ, 0 too: legal −0.5.",
        "The vector was made from another base model.",
        "## medical.test.jsonl: levels, 4 records, 3 more skipped\n",
        "| – | Default (λ = 0) | 0 | – | – | – | – | – |\n",
    ] {
        assert!(text.contains(note), "{note:?} is not in {text}");
    }
}

#[test]
fn sweep_without_points_or_data_says_so() {
    for (lambdas, data) in [(&[][..], &data()[..]), (&LAMBDAS[..], &[])] {
        let text = table(&sweep("medical", lambdas, data));
        assert!(text.ends_with("\n\nNothing has been measured yet.\n"), "{text}");
    }
}

#[test]
fn names_break_no_table() {
    let mut sweep = prompted();
    sweep.datasets[1].levels[2] = "a|b\\\nc <img>".to_owned();
    sweep.vector.domain = "med\u{1b}[31m|*ical*".to_owned();
    let text = table(&sweep);
    assert!(text.starts_with("# med \\[31m\\|\\*ical\\* on "), "{text}");
    assert!(text.contains(r" a\|b\\ c \<img\> |"), "{text}");
    let is_shown = |letter: char| !letter.is_control() || letter == '\n';
    assert!(text.chars().all(is_shown));
    let pipes = |line: &str| line.replace(r"\|", "").matches('|').count();
    let counts: Vec<_> = text.lines().filter(|line| line.starts_with('|')).map(pipes).collect();
    assert!(counts.len() > 10 && counts.iter().all(|n| [8, 9].contains(n)), "{counts:?}");
}
