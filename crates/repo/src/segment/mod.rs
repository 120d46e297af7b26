//! Segments: Parquet objects of rows or changes in key order.

pub(crate) mod encoder;
pub(crate) mod reader;
pub(crate) mod writer;
