//! Mends of row stores, as they are printed and kept in files.

pub mod mend_preview;
pub mod mend_report;
pub mod plan_file;
