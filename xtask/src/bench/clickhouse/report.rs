//! What mendb says at the end of an operation, as JSON.

use serde_json::Value;

/// Bytes that a backup brought into the repository.
///
/// # Errors
/// It is no report of a backup that was done.
pub fn uploaded_bytes(report: &str) -> Result<u64, String> {
    number(report, "/totals/new_bytes")
}

/// Bytes that a mend read from the repository.
///
/// # Errors
/// It is no report of a mend that was done.
pub fn downloaded_bytes(report: &str) -> Result<u64, String> {
    number(report, "/done/download_bytes")
}

fn number(report: &str, place: &str) -> Result<u64, String> {
    let read = || {
        let report: Value = serde_json::from_str(report).ok()?;
        let done = report.pointer("/state")?.as_str()? == "done";
        let number = report.pointer(place)?.as_u64()?;
        done.then_some(number)
    };
    read().ok_or_else(|| {
        format!("mendb was to report that it is done, with a number at {place}, but said\n{report}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_reports_of_what_was_done() {
        let backup =
            r#"{"operation_id": "b", "state": "done", "totals": {"bytes": 9, "new_bytes": 7}}"#;
        assert_eq!(uploaded_bytes(backup), Ok(7));
        let mend =
            r#"{"state": "done", "planned": {"download_bytes": 1}, "done": {"download_bytes": 5}}"#;
        assert_eq!(downloaded_bytes(mend), Ok(5));
    }

    #[test]
    fn anything_else_is_shown_instead_of_a_number() {
        for wrong in [
            "",
            "{}",
            r#"{"state": "failed", "done": {"download_bytes": 5}}"#,
        ] {
            let message = downloaded_bytes(wrong).unwrap_err();
            assert!(message.ends_with(wrong), "{message}");
        }
    }
}
