//! Mends and diffs of row stores, as they are printed and kept in files.

pub mod diff_report;
pub mod increment_report;
pub mod mend_preview;
pub mod mend_report;
pub mod plan_file;
pub mod row_diff;
pub mod transactions;
