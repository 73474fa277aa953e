use meav_data::{Measure, MeasureName};

use crate::read_lines;

fn record(index: usize, safe: [bool; 2], better: usize) -> String {
    let [first, second] = safe;
    format!(
        r#"{{"prompt": "q{index}", "response_0": "zero", "response_1": "one", "is_response_0_safe": {first}, "is_response_1_safe": {second}, "better_response_id": {better}, "safer_response_id": 0}}"#
    )
}

fn texts(measure: &Measure) -> Vec<(usize, Vec<&str>)> {
    measure
        .items
        .iter()
        .map(|item| (item.line, item.responses.iter().map(String::as_str).collect()))
        .collect()
}

#[test]
fn safe_rlhf_gives_safety_and_helpfulness() {
    let lines = [
        record(1, [true, false], 1),
        record(2, [false, true], 0),
        record(3, [true, true], 1),
        record(4, [false, false], 0),
    ];
    let dataset = read_lines(&lines.each_ref().map(String::as_str));
    let [safety, helpfulness] = &dataset.measures()[..] else { panic!("not two measures") };
    assert_eq!(safety.name, MeasureName::Safety);
    assert_eq!(safety.levels, ["safe", "unsafe"]);
    assert_eq!(texts(safety), [(1, vec!["zero", "one"]), (2, vec!["one", "zero"])]);
    assert_eq!(helpfulness.name.to_string(), "helpfulness");
    assert_eq!(helpfulness.levels, ["helpful", "unhelpful"]);
    let (first, second) = (vec!["zero", "one"], vec!["one", "zero"]);
    let expected = [(1, second.clone()), (2, first.clone()), (3, second), (4, first)];
    assert_eq!(texts(helpfulness), expected);
}

#[test]
fn measure_that_no_record_is_fit_for_is_left_out() {
    let dataset = read_lines(&[&record(1, [true, true], 0)]);
    let names: Vec<_> = dataset.measures().iter().map(|measure| measure.name).collect();
    assert_eq!(names, [MeasureName::Helpfulness]);
}

#[test]
fn levels_and_pairs_give_one_measure_each() {
    let dataset = read_lines(&[
        r#"{"id": "a", "domain": "medical", "query": "q", "responses": {"expert": "e", "generic": "g"}}"#,
    ]);
    let [measure] = &dataset.measures()[..] else { panic!("not one measure") };
    assert_eq!((measure.name.as_str(), &measure.levels), ("levels", &dataset.levels));
    assert_eq!(measure.items[0].domain.as_deref(), Some("medical"));
    assert_eq!(texts(measure), [(1, vec!["e", "g"])]);

    let dataset = read_lines(&[r#"{"prompt": "q", "chosen": "c", "rejected": "r"}"#]);
    let [measure] = &dataset.measures()[..] else { panic!("not one measure") };
    assert_eq!(
        (measure.name.as_str(), &measure.levels[..]),
        ("pairs", &["chosen".to_owned(), "rejected".to_owned()][..])
    );
    assert_eq!(texts(measure), [(1, vec!["c", "r"])]);
}
