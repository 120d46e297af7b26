//! Document `leader.json`: who leads, and that it lives. It tells those who wait whom to ask, and when to stop waiting;
//! who may append is decided by the log alone.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Log;
use crate::error::Result;
use crate::holder::Holder;
use crate::objects::wait;
use crate::replace::Seen;
use crate::seal::{self, Unreadable};

/// The name of the document.
pub(super) const LEADER: &str = "leader.json";
const FORMAT_VERSION: u32 = 1;
/// So often who waits looks before it takes a silent leader for gone.
const LOOKS: u32 = 20;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    format_version: u32,
    pub(super) epoch: u64,
    /// Grows with each renewal, so that no two texts are the same.
    pub(super) renewal: u64,
    /// None has the lead where a leader has ended in order.
    pub(super) holder: Option<Holder>,
    /// Where it is asked.
    address: Option<String>,
}

impl Document {
    pub(super) fn new(epoch: u64, holder: Holder, address: Option<String>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            epoch,
            renewal: 0,
            holder: Some(holder),
            address,
        }
    }

    pub(super) fn bytes(&self) -> bytes::Bytes {
        seal::seal(self).into()
    }
}

/// Another process, which leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leading {
    /// Which process, on which host.
    pub process: String,
    /// Where it is asked, as far as it has said so.
    pub address: Option<String>,
}

impl fmt::Display for Leading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.process)?;
        match &self.address {
            Some(address) => write!(f, " leads at {address}"),
            None => f.write_str(" leads"),
        }
    }
}

/// The right to try to lead: of all who have it for one state of `leader.json`, one may.
#[derive(Debug)]
pub struct Turn {
    pub(super) seen: Option<Seen>,
}

impl Log {
    /// The turn of who knows that whoever leads is gone, or is to lead no more.
    ///
    /// # Errors
    /// The store fails.
    pub async fn turn_now(&self) -> Result<Turn> {
        let seen = self.objects.see(LEADER).await?;
        Ok(Turn { seen })
    }

    /// Who leads, as far as `leader.json` says; a leader that was killed may still be named.
    ///
    /// # Errors
    /// The document is damaged, or the store fails.
    pub async fn leading(&self) -> Result<Option<Leading>> {
        let Some(seen) = self.objects.see(LEADER).await? else {
            return Ok(None);
        };
        Ok(told(&self.read_leader(&seen)?))
    }

    /// Waits until nobody leads, or who does has said nothing for the time of the options, by the looks of this
    /// process: `tell` is called with who leads, at each look.
    ///
    /// # Errors
    /// `leader.json` is damaged or of another format, or the store refuses. What can pass is waited for.
    pub async fn wait_for_turn(&self, tell: &mut (dyn FnMut(&Leading) + Send)) -> Result<Turn> {
        let between =
            Duration::from_millis((self.objects.options().lease_ms / u64::from(LOOKS)).max(1));
        let mut watched: Option<(Document, u32)> = None;
        loop {
            match self.objects.see(LEADER).await {
                Ok(None) => return Ok(Turn { seen: None }),
                Ok(Some(seen)) => {
                    let document = self.read_leader(&seen)?;
                    let holder = document.holder.as_ref();
                    if holder.is_none_or(Holder::has_ended) {
                        return Ok(Turn { seen: Some(seen) });
                    }
                    let unchanged = match &watched {
                        Some((before, looks)) if *before == document => looks + 1,
                        _ => 0,
                    };
                    if unchanged > LOOKS {
                        return Ok(Turn { seen: Some(seen) });
                    }
                    if let Some(leading) = told(&document) {
                        tell(&leading);
                    }
                    watched = Some((document, unchanged));
                }
                // It tells nothing of the leader.
                Err(error) if error.is_retriable() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "who leads cannot be seen"
                    );
                }
                Err(error) => return Err(error),
            }
            wait(between).await;
        }
    }

    pub(super) fn read_leader(&self, seen: &Seen) -> Result<Document> {
        let read = seal::open(&seen.bytes, FORMAT_VERSION);
        read.map_err(|why| match why {
            Unreadable::Damaged(detail) => self.objects.damaged(
                LEADER,
                format!(
                    "{detail}. It only says who leads, and is written again when it was removed"
                ),
            ),
            Unreadable::UnknownFormat(version) => self.unknown_format(LEADER, version),
        })
    }
}

fn told(document: &Document) -> Option<Leading> {
    let holder = document.holder.as_ref()?;
    Some(Leading {
        process: holder.to_string(),
        address: document.address.clone(),
    })
}
