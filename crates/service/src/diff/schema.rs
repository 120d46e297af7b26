//! How the schemas of a table differ.

use mendb_model::schema::TableSchema;

/// What is different in the second, in words; nothing where they are the same.
pub(super) fn differences(before: &TableSchema, after: &TableSchema) -> Vec<String> {
    let mut found = Vec::new();
    if before.key != after.key {
        found.push(format!(
            "the key is ({}), it was ({})",
            after.key.join(", "),
            before.key.join(", ")
        ));
    }
    for column in &before.columns {
        match after.column(&column.name) {
            None => found.push(format!("column {} is gone", column.name)),
            Some(other) if other != column => {
                let not_null = |not_null: bool| if not_null { " NOT NULL" } else { "" };
                found.push(format!(
                    "column {} is {}{}, it was {}{}",
                    column.name,
                    other.column_type,
                    not_null(other.not_null),
                    column.column_type,
                    not_null(column.not_null)
                ));
            }
            Some(_) => {}
        }
    }
    for column in &after.columns {
        if before.column(&column.name).is_none() {
            found.push(format!(
                "column {} {} came",
                column.name, column.column_type
            ));
        }
    }
    for index in &before.indexes {
        match after.index(&index.name) {
            None => found.push(format!("index {} is gone", index.name)),
            Some(other) if other != index => {
                found.push(format!("index {} is another", index.name));
            }
            Some(_) => {}
        }
    }
    for index in &after.indexes {
        if before.index(&index.name).is_none() {
            found.push(format!("index {} came", index.name));
        }
    }
    if found.is_empty() && before != after {
        found.push("columns or indexes are in another order".to_owned());
    }
    found
}

/// Whether a row is the same bytes in both: one schema is the other with columns added behind.
pub(super) fn are_comparable(before: &TableSchema, after: &TableSchema) -> bool {
    before.key == after.key
        && (before.columns.starts_with(&after.columns)
            || after.columns.starts_with(&before.columns))
}
