use std::collections::BTreeSet;

use meav_data::{Dataset, Part, Split, SplitError, SplitSpec, leakage, split, write_jsonl};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{read_as, read_lines};

const PAPER: SplitSpec = SplitSpec { test: 0.2, validation: 0.03, seed: 7 };

/// One record per persona and query; an empty persona is none.
fn dataset(records: &[(usize, usize)]) -> Dataset {
    let lines: Vec<_> = records
        .iter()
        .map(|(persona, query)| {
            let persona = if *persona == 0 { String::new() } else { format!("person {persona}") };
            format!(
                r#"{{"persona": "{persona}", "query": "question {query}", "responses": {{"a": "x", "b": "y"}}}}"#
            )
        })
        .collect();
    read_lines(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn part(dataset: &Dataset, indices: &[usize]) -> Dataset {
    let records = indices.iter().map(|index| dataset.records[*index].clone()).collect();
    Dataset { records, ..dataset.clone() }
}

fn check_sound(dataset: &Dataset, split: &Split) {
    let parts = [&split.train, &split.validation, &split.test];
    for part in parts {
        assert!(part.is_sorted());
    }
    let mut all: Vec<usize> = parts.into_iter().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..dataset.records.len()).collect::<Vec<_>>());
    for (left, right) in [
        (&split.train, &split.test),
        (&split.train, &split.validation),
        (&split.validation, &split.test),
    ] {
        assert_eq!(leakage(&part(dataset, left), &part(dataset, right)).leaked_records, 0);
    }
}

#[test]
fn shares_are_exact_where_nothing_is_shared() {
    let dataset = dataset(&(1..=200).map(|index| (index, index)).collect::<Vec<_>>());
    let split = split(&dataset, &PAPER).unwrap();
    check_sound(&dataset, &split);
    assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (154, 6, 40));
    assert_eq!(split.groups, 200);
}

/// `SplitMix64` and the shuffle written down in Python give the same.
#[test]
fn seed_names_one_split_for_ever() {
    let dataset = dataset(&(1..=20).map(|index| (0, index)).collect::<Vec<_>>());
    let split = |seed| split(&dataset, &SplitSpec { seed, ..PAPER }).unwrap();
    assert_eq!(split(7).test, EXPECTED_TEST);
    assert_eq!(split(7).validation, EXPECTED_VALIDATION);
    let different: BTreeSet<_> = (0..50).map(|seed| split(seed).test).collect();
    assert!(different.len() > 40, "{different:?}");
}

const EXPECTED_TEST: [usize; 4] = [10, 14, 17, 18];
const EXPECTED_VALIDATION: [usize; 1] = [2];

/// 1 and 2 share a persona, 2 and 3 a query, 3 and 4 a persona.
#[test]
fn records_stay_together_by_way_of_others() {
    let dataset = dataset(&[(1, 1), (1, 2), (2, 2), (2, 3), (3, 4), (4, 5), (0, 6), (0, 7)]);
    for seed in 0..20 {
        let split = split(&dataset, &SplitSpec { test: 0.5, validation: 0.1, seed }).unwrap();
        check_sound(&dataset, &split);
        assert_eq!(split.groups, 5);
        assert_eq!((split.test.len(), split.validation.len()), (4, 1));
    }
}

/// Of groups of 5 and 7, 12 records are a sum where 10, the share, is not.
#[test]
fn closest_sum_of_large_groups_is_found() {
    let sizes = [7, 7, 7, 5, 7, 7];
    let records: Vec<_> = sizes
        .iter()
        .enumerate()
        .flat_map(|(persona, size)| {
            (0..*size).map(move |query| (persona + 1, 10 * persona + query))
        })
        .collect();
    let dataset = dataset(&records);
    for (share, expected) in [(0.3, 12), (0.12, 5), (0.19, 7), (0.36, 14), (0.01, 5)] {
        for seed in 0..5 {
            let spec = SplitSpec { test: share, validation: 0.0, seed };
            let split = split(&dataset, &spec).unwrap();
            check_sound(&dataset, &split);
            assert_eq!(split.test.len(), expected, "{share}");
            assert!(split.validation.is_empty());
        }
    }
}

#[test]
fn share_that_cannot_be_is_refused() {
    let whole = dataset(&[(1, 1), (1, 2), (1, 3)]);
    let err = split(&whole, &PAPER).unwrap_err();
    assert_eq!(err, SplitError::EmptyPart { part: Part::Test, groups: 1 });
    assert_eq!(
        err.to_string(),
        "nothing is left for the test set: the records form only 1 separate groups"
    );
    for (test, validation) in [(-0.1, 0.0), (0.5, 0.5), (f64::NAN, 0.1), (0.2, f64::INFINITY)] {
        let spec = SplitSpec { test, validation, seed: 0 };
        assert!(matches!(split(&whole, &spec), Err(SplitError::Shares { .. })));
    }
    let two = dataset(&[(1, 1), (2, 2)]);
    let err = split(&two, &PAPER).unwrap_err();
    assert_eq!(err, SplitError::EmptyPart { part: Part::Test, groups: 2 });
    assert!(split(&two, &SplitSpec { validation: 0.0, ..PAPER }).is_ok());
}

#[test]
fn part_that_is_written_keeps_the_names_of_its_records() {
    let dataset = dataset(&(1..=30).map(|index| (index, index)).collect::<Vec<_>>());
    let split = split(&dataset, &PAPER).unwrap();
    let part = part(&dataset, &split.test);
    let read = read_as("test.jsonl", write_jsonl(&part.records)).unwrap();
    assert_eq!(crate::contents(&read), crate::contents(&part));
    assert_ne!(read.records[0].line, part.records[0].line);
}

proptest! {
    #[test]
    fn any_split_is_disjoint_complete_and_without_leakage(
        records in vec((0..12_usize, 0..40_usize), 1..60),
        test in 0.0..0.6_f64,
        validation in 0.0..0.3_f64,
        seed in any::<u64>(),
    ) {
        let dataset = dataset(&records);
        let spec = SplitSpec { test, validation, seed };
        match split(&dataset, &spec) {
            Ok(found) => {
                check_sound(&dataset, &found);
                prop_assert!(!found.train.is_empty());
                prop_assert_eq!(test > 0.0, !found.test.is_empty());
                prop_assert_eq!(validation > 0.0, !found.validation.is_empty());
                prop_assert_eq!(split(&dataset, &spec), Ok(found));
            }
            Err(SplitError::EmptyPart { groups, .. }) => prop_assert!(groups < 60),
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    /// Small enough to try all choices of groups.
    #[test]
    fn test_set_is_as_close_to_its_share_as_groups_allow(
        sizes in vec(1..9_usize, 2..9),
        share in 0.01..0.9_f64,
        seed in any::<u64>(),
    ) {
        let records: Vec<_> = sizes
            .iter()
            .enumerate()
            .flat_map(|(persona, size)| (0..*size).map(move |query| (persona + 1, 10 * persona + query)))
            .collect();
        let found = split(&dataset(&records), &SplitSpec { test: share, validation: 0.0, seed });
        let target = ((share * records.len() as f64).round() as usize).max(1);
        let closest = (1_u32..(1 << sizes.len()) - 1)
            .map(|choice| {
                let sum: usize = (0..sizes.len()).filter(|it| choice >> it & 1 == 1).map(|it| sizes[it]).sum();
                sum.abs_diff(target)
            })
            .min()
            .unwrap();
        prop_assert_eq!(found.unwrap().test.len().abs_diff(target), closest);
    }
}
