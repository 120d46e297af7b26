//! One suite for every engine: what the service relies on. An engine joins by implementing
//! [`suite::Subject`].

mod row;
mod suite;
