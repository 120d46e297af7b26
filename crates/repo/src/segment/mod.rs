//! Segments: Parquet objects of rows or changes in key order, in row groups that can be read alone.

mod content_digest;
pub(crate) mod encoder;
pub(crate) mod groups;
pub(crate) mod proof;
pub(crate) mod reader;
mod sparse;
mod whole;
pub(crate) mod writer;
