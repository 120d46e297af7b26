//! How backups and mends of part stores are printed.

pub mod backup_report;
pub mod mend_preview;
pub mod mend_report;
pub mod part_record;
pub mod table_record;
