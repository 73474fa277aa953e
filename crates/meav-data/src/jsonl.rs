use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::{DataError, LineError, Record, Response};

/// One line, in any of the shapes.
#[derive(Deserialize)]
struct Line {
    id: Option<Id>,
    query: Option<String>,
    responses: Option<IndexMap<String, String>>,
    prompt: Option<String>,
    response_0: Option<String>,
    response_1: Option<String>,
    better_response_id: Option<u64>,
    chosen: Option<String>,
    rejected: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

/// Reads the first `limit` records of a file; lines without a letter are passed over.
///
/// # Errors
///
/// [`DataError`] for the first line that is no record, with its number and what is wrong with it.
pub fn read_jsonl(path: &Path, limit: usize) -> Result<Vec<Record>, DataError> {
    let read = |source| DataError::Read { path: path.to_owned(), source };
    let file = BufReader::new(File::open(path).map_err(read)?);
    let mut records = Vec::new();
    for (index, text) in file.lines().enumerate() {
        if records.len() == limit {
            break;
        }
        let text = text.map_err(read)?;
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let record = parse(&text, line).map_err(|source| {
            let path = path.to_owned();
            DataError::Line { path, line, source }
        })?;
        records.push(record);
    }
    if records.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(records)
}

fn parse(text: &str, line: usize) -> Result<Record, LineError> {
    let line_id = format!("line-{line}");
    let line: Line = serde_json::from_str(text)?;
    let id = match line.id {
        Some(Id::Text(id)) => id,
        Some(Id::Number(id)) => id.to_string(),
        None => line_id,
    };
    let response = |level: &str, text: String| Response { level: level.to_owned(), text };
    let (query, responses) = match line {
        Line { query: Some(query), responses: Some(responses), .. } => {
            let responses =
                responses.into_iter().map(|(level, text)| Response { level, text }).collect();
            (query, responses)
        }
        Line { prompt: Some(query), response_0: Some(first), response_1: Some(second), .. } => {
            let levels = match line.better_response_id {
                None | Some(0) => ["helpful", "unhelpful"],
                Some(1) => ["unhelpful", "helpful"],
                Some(other) => return Err(LineError::ResponseId(other)),
            };
            (query, vec![response(levels[0], first), response(levels[1], second)])
        }
        Line { prompt: Some(query), chosen: Some(chosen), rejected: Some(rejected), .. } => {
            (query, vec![response("chosen", chosen), response("rejected", rejected)])
        }
        _ => return Err(LineError::UnknownShape),
    };
    let record = Record { id, query, responses };
    check(&record)?;
    Ok(record)
}

fn check(record: &Record) -> Result<(), LineError> {
    if record.responses.len() < 2 {
        return Err(LineError::TooFewResponses);
    }
    let texts = record.responses.iter().map(|response| (&response.level, &response.text));
    for (name, text) in texts.chain([(&"query".to_owned(), &record.query)]) {
        if text.trim().is_empty() {
            return Err(LineError::EmptyText(name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<Vec<Record>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        fs::write(&path, text).unwrap();
        read_jsonl(&path, usize::MAX)
    }

    #[test]
    fn every_shape_is_read_with_its_levels_in_order() {
        let records = read(concat!(
            r#"{"id": "m-1", "query": "q", "responses": {"generic": "g", "expert": "e"}}"#,
            "\n\n",
            r#"{"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1}"#,
            "\n",
            r#"{"id": 7, "prompt": "q", "chosen": "c", "rejected": "r"}"#,
        ))
        .unwrap();
        let levels: Vec<Vec<&str>> = records
            .iter()
            .map(|record| record.responses.iter().map(|it| it.level.as_str()).collect())
            .collect();
        assert_eq!(
            levels,
            [["generic", "expert"], ["unhelpful", "helpful"], ["chosen", "rejected"]]
        );
        let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["m-1", "line-3", "7"]);
    }

    #[test]
    fn bad_line_is_named_by_number_and_reason() {
        let good = r#"{"query": "q", "responses": {"expert": "e", "generic": "g"}}"#;
        for (bad, reason) in [
            (r#"{"query": "q"}"#, "it has neither"),
            (r#"{"query": "q", "responses": {"expert": "e"}}"#, "fewer than two"),
            (r#"{"query": " ", "responses": {"a": "e", "b": "g"}}"#, "\"query\" is empty"),
            (r#"{"prompt": "q", "chosen": "c", "rejected": ""}"#, "\"rejected\" is empty"),
            (
                r#"{"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2}"#,
                "neither 0 nor 1",
            ),
            ("not json", "expected ident"),
        ] {
            match read(&format!("{good}\n{bad}\n")) {
                Err(DataError::Line { line: 2, source, .. }) => {
                    assert!(source.to_string().contains(reason), "{bad}: {source}");
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
        assert!(matches!(read("\n"), Err(DataError::Empty { .. })));
    }
}
