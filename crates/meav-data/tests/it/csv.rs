use meav_data::{DataError, Responses, Shape};

use crate::{ids, problems, read_as, talk};

#[test]
fn levels_are_the_columns_that_are_no_metadata() {
    for header in [
        "id,domain,method,persona,query,expert,generic",
        "id,domain,method,persona,query,responses.expert,responses.generic",
        "id,domain,method,persona,query,response_expert,response_generic",
    ] {
        let text = format!(
            "{header}\nm-1,medical,,A nurse.,How much?,Two.,\"It, \"\"well\"\", varies.\"\n"
        );
        let dataset = read_as("data.csv", text).unwrap();
        assert_eq!(dataset.shape, Shape::Levels);
        assert_eq!(dataset.levels, ["expert", "generic"], "{header}");
        let record = &dataset.records[0];
        assert_eq!(record.id, "m-1");
        assert_eq!(record.domain.as_deref(), Some("medical"));
        assert_eq!(record.method, None);
        assert_eq!(talk(&record.query), ["user: How much?"]);
        assert_eq!(record.responses.texts(), ["Two.", "It, \"well\", varies."]);
    }
}

#[test]
fn named_response_columns_leave_the_others_as_they_are() {
    let dataset = read_as("data.csv", "query,responses.a,responses.b,note\nq,x,y,n\n").unwrap();
    assert_eq!(dataset.levels, ["a", "b"]);
    assert!(dataset.records[0].source.contains(r#""note":"n""#));
}

#[test]
fn rows_are_counted_by_the_line_that_they_begin_on() {
    let text = "\u{FEFF}\r\nid,query,a,b\r\n1,\"two\r\n\r\nlines\",x,y\r\n\r\n2,q,\"\",y\r\n,,,\r\n3,q,x,y,z\r\n4,q,x,y";
    let dataset = read_as("data.csv", text).unwrap();
    assert_eq!(ids(&dataset), ["1", "4"]);
    let lines: Vec<_> = dataset.records.iter().map(|record| record.line).collect();
    assert_eq!(lines, [3, 10]);
    assert_eq!(talk(&dataset.records[0].query), ["user: two\r\n\r\nlines"]);
    let expected = [(7, "the response \"a\" is empty"), (9, "it has 5 cells, the header has 4")];
    assert_eq!(problems(&dataset), expected.map(|(line, reason)| (line, reason.to_owned())));
}

#[test]
fn safe_rlhf_columns_are_read_as_other_programs_write_them() {
    let header = "prompt,response_0,response_1,is_response_0_safe,is_response_1_safe,better_response_id,safer_response_id,response_0_severity";
    let text = format!(
        "{header}\nq,x,y,True,0,1,0,3\nq,x,y,false,TRUE,0.0,1,3\nq,x,y,,1,0,1,3\nq,x,y,1,1,2,1,3\n"
    );
    let dataset = read_as("data.csv", text).unwrap();
    assert_eq!(dataset.shape, Shape::SafeRlhf);
    let judged: Vec<_> = dataset
        .records
        .iter()
        .map(|record| match record.responses {
            Responses::SafeRlhf { is_safe, better, safer, .. } => (is_safe, better, safer),
            _ => panic!("another shape"),
        })
        .collect();
    assert_eq!(judged, [([true, false], 1, 0), ([false, true], 0, 1)]);
    let expected = [
        (4, "\"is_response_0_safe\" is missing"),
        (5, "\"better_response_id\" is \"2\", neither 0 nor 1"),
    ];
    assert_eq!(problems(&dataset), expected.map(|(line, reason)| (line, reason.to_owned())));
}

#[test]
fn messages_are_cells_of_json() {
    let text = r#"chosen,rejected
"[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""c""}]","[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""r""}]"
"#;
    let dataset = read_as("data.csv", text).unwrap();
    assert_eq!(talk(&dataset.records[0].query), ["user: q"]);
    assert_eq!(dataset.records[0].responses.texts(), ["c", "r"]);
    let dataset = read_as("data.csv", "prompt,chosen,rejected\n[1],[sic] yes,[]\n").unwrap();
    assert_eq!(talk(&dataset.records[0].query), ["user: [1]"]);
}

#[test]
fn missing_columns_are_named() {
    for (text, reason) in [
        ("query,other\nq,\n", "it has fewer than two responses"),
        ("prompt,chosen\nq,c\n", "\"rejected\" is missing"),
        ("a,b\nx,y\n", "it has neither"),
    ] {
        match read_as("data.csv", text) {
            Err(DataError::NoRecords { line: 2, source, .. }) => {
                assert!(source.to_string().starts_with(reason), "{text}: {source}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let err = read_as("data.csv", "query,a,a\nq,x,y\n").unwrap_err();
    assert!(crate::chain(&err).ends_with("there are two columns \"a\""), "{err:?}");
    assert!(matches!(read_as("data.csv", "query,a,b\n"), Err(DataError::Empty { .. })));
}

#[test]
fn quote_that_never_ends_takes_no_memory() {
    let mut text = "id,prompt,chosen,rejected\n1,q,c,r\n2,q,\"".to_owned();
    for _ in 0..300_000 {
        text.push_str("cccc,\ncccc");
    }
    let dataset = read_as("data.csv", &text).unwrap();
    assert_eq!(ids(&dataset), ["1"]);
    assert_eq!(problems(&dataset), [(3, "3000005 bytes long, the limit is 1048576".to_owned())]);
    // As many cells as there is room for, and then too many.
    let commas = format!(
        "prompt,chosen,rejected\nq,c,r\n{}\n{}\nq,c,s\n",
        ",".repeat(3_000_000),
        "x,".repeat(1000)
    );
    let dataset = read_as("data.csv", commas).unwrap();
    assert_eq!(dataset.problems.len(), 2);
    assert_eq!(dataset.records.len(), 2);
}

#[test]
fn row_that_is_not_utf8_is_passed_over() {
    let dataset =
        read_as("data.csv", b"prompt,chosen,rejected\nq,c,r\ncaf\xE9,c,r\nq,c,s\n").unwrap();
    assert_eq!(problems(&dataset), [(3, "not UTF-8, from byte 4 on".to_owned())]);
    assert_eq!(dataset.records.len(), 2);
}
