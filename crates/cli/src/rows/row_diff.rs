//! A row that differs as a line, of text or of JSON. Values are written as in an export of JSON lines.

use mendb_model::{Malformed, TableSchema, Value};
use mendb_service::RowDiff;

use crate::formats::jsonl;

/// Appends `~ orders id=5: price 15 -> 99`: of a changed row the columns that differ, of any other all
/// of them.
///
/// # Errors
/// What was stored is no row.
pub fn write_text(line: &mut Vec<u8>, row: &RowDiff<'_>) -> Result<(), Malformed> {
    let (before, after) = (row.values_before()?, row.values_after()?);
    let before = before
        .as_deref()
        .map(|values| Row::new(row.schema_before, values));
    let after = after
        .as_deref()
        .map(|values| Row::new(row.schema_after, values));
    let sign = match (&before, &after) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    };
    line.extend_from_slice(format!("{sign} {} ", row.table).as_bytes());
    let Some(any) = after.as_ref().or(before.as_ref()) else {
        return Ok(());
    };
    for (at, name) in any.schema.key.iter().enumerate() {
        line.extend_from_slice(if at == 0 { b"" } else { b", " });
        line.extend_from_slice(format!("{name}=").as_bytes());
        any.write(line, name);
    }
    let mut separator = ": ";
    for name in columns_of(row) {
        if let (Some(before), Some(after)) = (&before, &after)
            && before.value(name) == after.value(name)
        {
            continue;
        }
        line.extend_from_slice(format!("{separator}{name} ").as_bytes());
        separator = ", ";
        if let Some(before) = &before {
            before.write(line, name);
        }
        if before.is_some() && after.is_some() {
            line.extend_from_slice(b" -> ");
        }
        if let Some(after) = &after {
            after.write(line, name);
        }
    }
    Ok(())
}

/// Appends `{"table":…,"key":{…},"change":…,"before":{…},"after":{…}}`, with `null` for a row that is
/// not there; `before` and `after` have the columns that are not of the key.
///
/// # Errors
/// What was stored is no row.
pub fn write_json(line: &mut Vec<u8>, row: &RowDiff<'_>) -> Result<(), Malformed> {
    let (before, after) = (row.values_before()?, row.values_after()?);
    let before = before
        .as_deref()
        .map(|values| Row::new(row.schema_before, values));
    let after = after
        .as_deref()
        .map(|values| Row::new(row.schema_after, values));
    line.extend_from_slice(b"{\"table\":");
    jsonl::write_text(line, row.table);
    line.extend_from_slice(b",\"key\":");
    if let Some(any) = after.as_ref().or(before.as_ref()) {
        any.write_object(line, any.schema.key.iter().map(String::as_str));
    }
    let change = match (&before, &after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    line.extend_from_slice(format!(",\"change\":\"{change}\"").as_bytes());
    for (name, side) in [("before", &before), ("after", &after)] {
        line.extend_from_slice(format!(",\"{name}\":").as_bytes());
        match side {
            Some(side) => side.write_object(line, without_key(side.schema)),
            None => line.extend_from_slice(b"null"),
        }
    }
    line.push(b'}');
    Ok(())
}

/// The columns that a line is about, those of the newer schema: older ones are the first of them.
fn columns_of<'r>(row: &RowDiff<'r>) -> impl Iterator<Item = &'r str> {
    let (before, after) = (row.schema_before, row.schema_after);
    let schema = match (row.before, row.after) {
        (_, None) => before,
        (None, _) => after,
        _ if before.columns.len() > after.columns.len() => before,
        _ => after,
    };
    without_key(schema)
}

fn without_key(schema: &TableSchema) -> impl Iterator<Item = &str> {
    let names = schema.columns.iter().map(|column| column.name.as_str());
    names.filter(|name| !schema.key.iter().any(|key| key == name))
}

/// Values with their columns.
struct Row<'a> {
    schema: &'a TableSchema,
    values: &'a [Value],
}

impl<'a> Row<'a> {
    fn new(schema: &'a TableSchema, values: &'a [Value]) -> Self {
        Self { schema, values }
    }

    /// The value of a column; NULL of one that the row does not have yet.
    fn value(&self, name: &str) -> &Value {
        let mut columns = self.schema.columns.iter().zip(self.values);
        let found = columns.find(|(column, _)| column.name == name);
        found.map_or(&Value::Null, |(_, value)| value)
    }

    fn write(&self, line: &mut Vec<u8>, name: &str) {
        match self.schema.column(name) {
            Some(column) => jsonl::write_value(line, self.value(name), column.column_type),
            None => line.extend_from_slice(b"null"),
        }
    }

    fn write_object<'n>(&self, line: &mut Vec<u8>, names: impl Iterator<Item = &'n str>) {
        line.push(b'{');
        for (at, name) in names.enumerate() {
            line.extend_from_slice(if at == 0 { b"" } else { b"," });
            jsonl::write_text(line, name);
            line.push(b':');
            self.write(line, name);
        }
        line.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::key::encode;
    use mendb_model::{Column, ColumnType, row};

    use super::*;

    fn schema(columns: &[(&str, ColumnType)]) -> TableSchema {
        let column = |(name, column_type): &(&str, ColumnType)| Column {
            name: (*name).into(),
            column_type: *column_type,
            not_null: false,
        };
        TableSchema {
            columns: columns.iter().map(column).collect(),
            key: vec!["id".into()],
            indexes: Vec::new(),
        }
    }

    /// The line of text and that of JSON.
    fn lines(row: &RowDiff<'_>) -> [String; 2] {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        write_text(&mut text, row).unwrap();
        write_json(&mut json, row).unwrap();
        let json = String::from_utf8(json).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        [String::from_utf8(text).unwrap(), json]
    }

    #[test]
    fn a_line_shows_the_key_and_what_is_before_and_after() {
        use ColumnType::{Date, Int64, Utf8};
        let old = [("id", Int64), ("day", Date), ("note", Utf8)];
        let (before, after) = (
            schema(&old),
            schema(&[&old[..], &[("more", Int64)]].concat()),
        );
        let key = encode(&[Int64], [Value::Int(5).as_ref()]);
        let note = |text: &str| Value::Text(text.into());
        let old_row = row::encode(&before.value_types(), &[Value::Int(0), note("a\n\"b\"")]);
        let new_row = row::encode(
            &after.value_types(),
            &[Value::Int(0), Value::Null, Value::Int(7)],
        );
        let changed = RowDiff {
            table: "t",
            schema_before: &before,
            schema_after: &after,
            key: &key,
            before: Some(&old_row),
            after: Some(&new_row),
        };
        assert_eq!(
            lines(&changed),
            [
                r#"~ t id=5: note "a\n\"b\"" -> null, more null -> 7"#,
                r#"{"table":"t","key":{"id":5},"change":"changed","before":{"day":"1970-01-01","note":"a\n\"b\""},"after":{"day":"1970-01-01","note":null,"more":7}}"#,
            ]
        );
        let added = RowDiff {
            before: None,
            ..changed
        };
        assert_eq!(
            lines(&added),
            [
                r#"+ t id=5: day "1970-01-01", note null, more 7"#,
                r#"{"table":"t","key":{"id":5},"change":"added","before":null,"after":{"day":"1970-01-01","note":null,"more":7}}"#,
            ]
        );
        let removed = RowDiff {
            after: None,
            ..changed
        };
        assert_eq!(
            lines(&removed),
            [
                r#"- t id=5: day "1970-01-01", note "a\n\"b\"""#,
                r#"{"table":"t","key":{"id":5},"change":"removed","before":{"day":"1970-01-01","note":"a\n\"b\""},"after":null}"#,
            ]
        );
    }
}
