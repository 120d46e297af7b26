//! The servers of a cluster, each worked on by the agent beside it: what a coordinator has in the place of a database.
//!
//! An agent takes orders over HTTP with mutual TLS and drives them itself, in the journal of its server. An order has a
//! key, by which it is one operation however often it is given.
//!
//! *Retry*: nothing is asked twice here; the error says whether it may be. *Bounds*: a connection is waited for
//! 10 seconds, an answer a minute, half an hour where tables are looked at first, a day where their bytes are read; an
//! answer has at most 64 MiB.

mod client;
mod cluster;
mod coordinator;
mod inserts;
mod rates;
mod unanswered;

pub use client::{Addresses, AgentOperation, Agents, Answer, Asked};
pub use cluster::Cluster;
pub use coordinator::{AgentTls, COORDINATOR, Coordinator, KNOWN_ONLY, SERVER, order_key};
pub use inserts::Inserts;
pub use rates::{RATES, Rates};
