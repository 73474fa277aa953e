use meav_data::{DamageReason, DataError, Format, Responses, Shape};

use crate::written::as_parquet;
use crate::{chain, ids, problems, read_as, talk};

const LEVELS: &[u8] = include_bytes!("../fixtures/levels.parquet");
const PKU: &[u8] = include_bytes!("../fixtures/pku.parquet");
const PAIRS: &[u8] = include_bytes!("../fixtures/pairs.parquet");

#[test]
fn groups_of_columns_are_levels() {
    let dataset = read_as("data.parquet", LEVELS).unwrap();
    assert_eq!((dataset.format, dataset.shape), (Format::Parquet, Shape::Levels));
    assert_eq!(dataset.levels, ["generic", "expert", "avoidance"]);
    assert_eq!(ids(&dataset), ["medical-1", "medical-2"]);
    let record = &dataset.records[1];
    assert_eq!((record.line, record.method.as_deref()), (2, None));
    assert_eq!(record.persona.as_deref(), Some("Nurse 1"));
    assert_eq!(talk(&record.query), ["user: How much water should I drink on day 2?"]);
    assert_eq!(record.responses.texts(), ["It varies.", "2 litres.", "Oh dear."]);
    let expected = [
        (3, "there is no response at level \"avoidance\", which the first record (row 1) has"),
        (4, "the query is empty"),
    ];
    assert_eq!(problems(&dataset), expected.map(|(row, reason)| (row, reason.to_owned())));
    assert_eq!(dataset.format.unit().to_string(), "row");
}

#[test]
fn columns_have_their_types() {
    let dataset = read_as("data.parquet", PKU).unwrap();
    let responses: Vec<_> = dataset.records.iter().map(|record| &record.responses).collect();
    let expected = |is_safe, better| Responses::SafeRlhf {
        texts: ["Of course, jump.".to_owned(), "Call a roofer.".to_owned()],
        is_safe,
        better,
        safer: 1,
    };
    let (first, second) = (expected([false, true], 1), expected([false, false], 0));
    assert_eq!(responses, [&first, &second, &first]);
    assert_eq!(ids(&dataset), ["line-1", "line-2", "line-3"]);
    assert!(dataset.records[0].source.contains(r#""severity":0.5"#), "{:?}", dataset.records[0]);
}

#[test]
fn lists_of_groups_are_messages() {
    let dataset = read_as("data.parquet", PAIRS).unwrap();
    assert_eq!(dataset.shape, Shape::Pairs);
    let record = &dataset.records[0];
    assert_eq!(talk(&record.query), ["user: Hello", "assistant: Hi", "user: What is 1 + 1?"]);
    assert_eq!(record.responses.texts(), ["2.", "No idea."]);
    let [(2, reason)] = &problems(&dataset)[..] else { panic!("{:?}", dataset.problems) };
    assert!(reason.starts_with("\"rejected\" is not one turn of the assistant"), "{reason}");
    assert_eq!(dataset.records.len(), 2);
}

#[test]
fn damaged_container_is_refused() {
    let refused = |bytes: &[u8]| match read_as("data.parquet", bytes) {
        Err(DataError::Damaged { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", &LEVELS[..LEVELS.len() - 1], &LEVELS[4..40]] {
        assert!(matches!(refused(bytes), DamageReason::Footer), "{bytes:?}");
    }
    let mut far = LEVELS.to_vec();
    let length = far.len() - 8;
    far[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refused(&far), DamageReason::Footer));
    // The footer is whole, and what it speaks of is gone.
    let text = "x".repeat(5000);
    let long = as_parquet(&[("q".to_owned(), text.clone(), text)]);
    let length = long.len() - 8;
    let footer = u32::from_le_bytes(long[length..length + 4].try_into().unwrap()) as usize;
    let alone = [b"PAR1", &long[length - footer..]].concat();
    assert!(matches!(refused(&alone), DamageReason::OutsideFile { group: 0, .. }));
    // Zeros where a page begins.
    let mut blank = LEVELS.to_vec();
    blank[4..40].fill(0);
    assert!(matches!(refused(&blank), DamageReason::Page { group: 0, .. }));
}

#[test]
fn compression_that_is_not_built_in_is_named() {
    let err = read_as("data.parquet", include_bytes!("../fixtures/brotli.parquet")).unwrap_err();
    let expected =
        "column \"prompt\" is packed by brotli, only snappy, zstd and gzip can be unpacked";
    assert!(chain(&err).ends_with(expected), "{}", chain(&err));
}

/// A schema of groups in groups, as deep as the bytes allow; the library would go down it by
/// recursion.
#[test]
fn deeply_nested_columns_are_refused() {
    // FileMetaData { 1: version 1, 2: schema [SchemaElement { 4: name "a", 5: num_children 1 }, …]
    let mut footer = vec![0x15, 0x02, 0x19, 0xFC];
    let n_groups: u32 = 100_000;
    footer.extend_from_slice(&[0xA0, 0x8D, 0x06]);
    assert_eq!(0x20 | 0x0D << 7 | 0x06 << 14, n_groups);
    for _ in 0..n_groups {
        footer.extend_from_slice(&[0x48, 0x01, b'a', 0x15, 0x02, 0x00]);
    }
    footer.push(0);
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    let bytes = [b"PAR1", &footer[..], &length, b"PAR1"].concat();
    let err = read_as("data.parquet", bytes).unwrap_err();
    assert!(chain(&err).ends_with("columns are nested more than 32 deep"), "{}", chain(&err));
}
