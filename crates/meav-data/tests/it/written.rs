use std::sync::Arc;

use meav_data::{Dataset, write_jsonl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::{contents, read_as};

/// Query, chosen and rejected text of a record.
pub(crate) type Texts = (String, String, String);

fn columns(records: &[Texts]) -> [(&'static str, Vec<String>); 4] {
    let column = |text: fn(&Texts) -> &String| records.iter().map(text).cloned().collect();
    [
        ("id", (0..records.len()).map(|index| format!("record {index}")).collect()),
        ("prompt", column(|texts| &texts.0)),
        ("chosen", column(|texts| &texts.1)),
        ("rejected", column(|texts| &texts.2)),
    ]
}

fn objects(records: &[Texts]) -> Vec<serde_json::Value> {
    let columns = columns(records);
    let object = |index: usize| -> serde_json::Value {
        columns.iter().map(|(name, texts)| ((*name).to_owned(), json!(texts[index]))).collect()
    };
    (0..records.len()).map(object).collect()
}

fn as_csv(records: &[Texts]) -> String {
    let mut text = "id,prompt,chosen,rejected\n".to_owned();
    let columns = columns(records);
    for index in 0..records.len() {
        let cells = columns
            .each_ref()
            .map(|(_, texts)| format!("\"{}\"", texts[index].replace('"', "\"\"")));
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

pub(crate) fn as_parquet(records: &[Texts]) -> Vec<u8> {
    let schema = "message schema { required binary id (UTF8); required binary prompt (UTF8);
        required binary chosen (UTF8); required binary rejected (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::default()))
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, texts) in columns(records) {
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = texts.iter().map(|text| ByteArray::from(text.as_str())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn in_each_format(records: &[Texts]) -> [Dataset; 5] {
    let objects = objects(records);
    let lines: Vec<_> = objects.iter().map(ToString::to_string).collect();
    let list = serde_json::to_string_pretty(&objects).unwrap();
    [
        read_as("a.jsonl", lines.join("\n")),
        read_as("a.json", &list),
        read_as("a.json", format!("{{\"data\": {list}}}")),
        read_as("a.csv", as_csv(records)),
        read_as("a.parquet", as_parquet(records)),
    ]
    .map(Result::unwrap)
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé,;\"'\\\\\\[{\r\n\t ]{0,12}[a-z😀]"
}

proptest! {
    #[test]
    fn every_format_holds_the_same_records_and_so_does_what_is_written(
        records in vec((text(), text(), text()), 1..12),
    ) {
        let datasets = in_each_format(&records);
        for dataset in &datasets {
            prop_assert_eq!(&dataset.problems, &[]);
            prop_assert_eq!(dataset.records.len(), records.len());
            prop_assert_eq!(contents(dataset), contents(&datasets[0]));
            for (record, (query, chosen, rejected)) in dataset.records.iter().zip(&records) {
                prop_assert_eq!(&record.query[0].content, query);
                prop_assert_eq!(record.responses.texts(), [chosen, rejected]);
            }
            let again = read_as("again.jsonl", write_jsonl(&dataset.records)).unwrap();
            prop_assert_eq!(contents(&again), contents(dataset));
            prop_assert_eq!(write_jsonl(&again.records), write_jsonl(&dataset.records));
        }
    }
}
