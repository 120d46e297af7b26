//! Fields written so that they read back as they were.

use mendb_model::{ColumnType, Value, text};

/// Whether empty text is a value of the type.
pub fn is_text(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Utf8 | ColumnType::String)
}

/// Appends a field; NULL is the marker, and text that could be taken for something else is quoted.
pub fn write_field(out: &mut Vec<u8>, value: &Value, column_type: ColumnType, null: &str) {
    let Some(text) = text::format(value.as_ref(), column_type) else {
        return out.extend_from_slice(null.as_bytes());
    };
    let special = |byte: u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    // A byte order mark at the start of a file would be taken off.
    if text == null || text.is_empty() || text.bytes().any(special) || text.starts_with('\u{feff}')
    {
        out.push(b'"');
        for byte in text.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}
