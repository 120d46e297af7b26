//! A cluster of ClickHouse servers, as the program sees it: which servers there are, and how each is.

pub mod survey;
pub mod topology;
