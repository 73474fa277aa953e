use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use crate::ProblemKind;

/// How long the texts of a row are together.
pub(super) fn text_bytes(row: &Row) -> u64 {
    row.get_column_iter().map(|(_, field)| field_bytes(field)).sum()
}

fn field_bytes(field: &Field) -> u64 {
    match field {
        Field::Str(text) => text.len() as u64,
        Field::Bytes(bytes) => bytes.len() as u64,
        Field::Group(row) => text_bytes(row),
        Field::ListInternal(list) => list.elements().iter().map(field_bytes).sum(),
        Field::MapInternal(map) => {
            map.entries().iter().map(|(key, value)| field_bytes(key) + field_bytes(value)).sum()
        }
        _ => 1,
    }
}

/// A row as an object. Bytes without a type are text, as older writers leave it; dates and times
/// are the numbers that the file has.
pub(super) fn object(row: Row) -> Result<Map<String, Value>, ProblemKind> {
    row.into_columns().into_iter().map(|(key, field)| Ok((key, value(field)?))).collect()
}

fn value(field: Field) -> Result<Value, ProblemKind> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => number.into(),
        Field::Long(number)
        | Field::TimeMicros(number)
        | Field::TimestampMillis(number)
        | Field::TimestampMicros(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => float(number.into()),
        Field::Float(number) => float(number.into()),
        Field::Double(number) => float(number),
        Field::Decimal(decimal) => Field::Decimal(decimal).to_string().into(),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => super::super::utf8(bytes.data())?.into(),
        Field::Group(row) => object(row)?.into(),
        Field::ListInternal(list) => {
            let elements = list.elements().iter().cloned().map(value);
            Value::Array(elements.collect::<Result<_, _>>()?)
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, entry)| {
                let key = match key {
                    Field::Str(key) => key.clone(),
                    key => key.to_string(),
                };
                Ok((key, value(entry.clone())?))
            });
            Value::Object(entries.collect::<Result<_, _>>()?)
        }
    })
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
