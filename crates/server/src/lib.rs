//! Speaks HTTP for mendb.
//!
//! What is asked is done by a [`Desk`], which is the program: here stands who may ask ([`guard`]), which ways there are
//! to ask ([`route`]), how an answer travels ([`app`]), and what is kept beside the journal ([`store`]): tokens, what
//! was asked, schedules. [`schedule`] decides what is due, [`cron`] knows when.
//!
//! *Crash*: at any instant. What was ordered is an operation of the journal before anybody is told of it; a token, an
//! audit record and a schedule are on disk when they are said to be.
//! *Others*: a client that is slow, silent or wrong costs its own connection and nothing else ([`door`]).

pub mod app;
pub mod compat;
mod cookie;
pub mod cron;
pub mod dashboard;
pub mod desk;
pub mod door;
pub mod events;
pub mod gate;
pub mod guard;
mod header;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod role;
pub mod route;
pub mod schedule;
pub mod store;
pub mod tls;
pub mod upload;
pub mod validity;
mod verb;

pub use app::{App, AppSettings};
pub use desk::{Asked, Caller, Desk, Field, FieldKind, Format};
pub use door::{Door, DoorError};
pub use events::{Events, Pace};
pub use gate::Gate;
pub use listener::{End, Listener, Told};
pub use problem::Problem;
pub use role::Role;
pub use route::{Does, Route, Verb};
pub use store::Store;
