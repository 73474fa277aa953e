//! Files that are not what their name says.

/// A safetensors file with this header, right or wrong, in front of `data`.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

/// Every safetensors file of this module that can't be opened, by the name of its maker.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("empty", empty()),
        ("three_bytes", three_bytes()),
        ("header_beyond_file", header_beyond_file()),
        ("header_too_long", header_too_long()),
        ("header_not_json", header_not_json()),
        ("header_not_utf8", header_not_utf8()),
        ("overlapping_offsets", overlapping_offsets()),
        ("duplicate_names", duplicate_names()),
        ("gap_between_tensors", gap_between_tensors()),
        ("backward_offsets", backward_offsets()),
        ("offsets_beyond_file", offsets_beyond_file()),
        ("truncated_data", truncated_data()),
        ("trailing_data", trailing_data()),
        ("shape_without_room", shape_without_room()),
        ("endless_shape", endless_shape()),
        ("endless_file", endless_file()),
        ("unknown_dtype", unknown_dtype()),
    ]
}

/// No bytes at all.
pub fn empty() -> Vec<u8> {
    Vec::new()
}

/// Less than the length of a header.
pub fn three_bytes() -> Vec<u8> {
    vec![1, 2, 3]
}

/// A header of 1000 bytes of which only 2 are there.
pub fn header_beyond_file() -> Vec<u8> {
    [&1000_u64.to_le_bytes()[..], b"{}"].concat()
}

/// A header longer than the format allows (100 MB).
pub fn header_too_long() -> Vec<u8> {
    [&200_000_000_u64.to_le_bytes()[..], b"{}"].concat()
}

/// A header that is a sentence.
pub fn header_not_json() -> Vec<u8> {
    with_header("this is not JSON", &[])
}

/// A header whose bytes are no text.
pub fn header_not_utf8() -> Vec<u8> {
    [&2_u64.to_le_bytes()[..], &[0xFF, 0xFE]].concat()
}

/// Two tensors that share bytes.
pub fn overlapping_offsets() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    with_header(header, &[0; 12])
}

/// One name for two tensors.
pub fn duplicate_names() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    with_header(header, &[0; 8])
}

/// Bytes that belong to no tensor.
pub fn gap_between_tensors() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    with_header(header, &[0; 12])
}

/// A tensor that ends before it starts.
pub fn backward_offsets() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, &[0; 4])
}

/// A tensor of 4,000 bytes in front of none.
pub fn offsets_beyond_file() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}"#, &[])
}

/// A tensor of which half is there, as after an interrupted download.
pub fn truncated_data() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 4])
}

/// More bytes than the tensors have.
pub fn trailing_data() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 12])
}

/// A shape with more elements than the offsets leave room for.
pub fn shape_without_room() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8])
}

/// A shape whose number of elements no integer holds.
pub fn endless_shape() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],
        "data_offsets":[0,4]}}"#;
    with_header(header, &[0; 4])
}

/// Eight tensors that are each possible, and end beyond what an integer holds together with the
/// header.
pub fn endless_file() -> Vec<u8> {
    const SIZE: u64 = (1 << 61) - 1;
    let entries: Vec<_> = (0..8)
        .map(|index| {
            let (start, end) = (index * SIZE, (index + 1) * SIZE);
            format!(r#""{index}":{{"dtype":"U8","shape":[{SIZE}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    with_header(&format!("{{{}}}", entries.join(",")), &[])
}

/// A type that the format does not have.
pub fn unknown_dtype() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4])
}

/// A sound file of one tensor `a`, of integers where weights should be.
pub fn integers() -> Vec<u8> {
    with_header(r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, &[0; 8])
}

/// A sound file of one tensor `a` = [1, 2], whose values start at an odd byte.
pub fn misaligned() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let padding = 1 - header.len() % 2;
    let header = format!("{header}{}", " ".repeat(padding));
    with_header(&header, &[1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat())
}
