//! Document `leader.json`: who leads, and that it lives. It tells those who wait whom to ask, and when to stop waiting;
//! who may append is decided by the log alone.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Log;
use crate::error::{Error, Result};
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
    /// The last entry that was there when this was written.
    #[serde(default)]
    pub(super) last: u64,
}

impl Document {
    pub(super) fn new(epoch: u64, holder: Holder, address: Option<String>, last: u64) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            epoch,
            renewal: 0,
            holder: Some(holder),
            address,
            last,
        }
    }

    pub(super) fn bytes(&self) -> Bytes {
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

/// What who waits is told at a look.
#[derive(Debug)]
pub enum Look<'a> {
    /// Another process leads.
    Leads {
        /// Which.
        leading: &'a Leading,
        /// Whether it has said so since the first look: it lives.
        has_spoken: bool,
    },
    /// Who leads cannot be seen now: the store fails in a way that can pass, or `leader.json` is damaged, which a leader
    /// that lives mends.
    Unseen(&'a Error),
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
    /// process: `tell` is called at each look that does not end it.
    ///
    /// # Errors
    /// As [`Self::check_is_there`], or the store refuses. What can pass is waited for.
    pub async fn wait_for_turn(&self, tell: &mut (dyn FnMut(Look<'_>) + Send)) -> Result<Turn> {
        let between =
            Duration::from_millis((self.objects.options().lease_ms / u64::from(LOOKS)).max(1));
        let mut watched = Watched::default();
        loop {
            match self.look(&mut watched, tell).await {
                Ok(Some(turn)) => return Ok(turn),
                Ok(None) => {}
                // It tells nothing of the leader.
                Err(error) if error.is_retriable() => tell(Look::Unseen(&error)),
                Err(error) => return Err(error),
            }
            wait(between).await;
        }
    }

    /// The turn, if it is this process's now.
    async fn look(
        &self,
        watched: &mut Watched,
        tell: &mut (dyn FnMut(Look<'_>) + Send),
    ) -> Result<Option<Turn>> {
        let seen = self.objects.see(LEADER).await?;
        if let Some(seen) = &seen {
            let has_spoken = watched.differs(seen);
            let looks = watched.look(seen);
            let read = self.read_leader(seen);
            let ends = match &read {
                Ok(document) => document.holder.as_ref().is_none_or(Holder::has_ended),
                Err(_) => false,
            };
            if !ends && looks <= LOOKS {
                match &read {
                    Ok(document) => {
                        if let Some(leading) = told(document) {
                            tell(Look::Leads {
                                leading: &leading,
                                has_spoken,
                            });
                        }
                    }
                    Err(error) => tell(Look::Unseen(error)),
                }
                return Ok(None);
            }
        }
        self.check_is_there().await?;
        Ok(Some(Turn { seen }))
    }

    pub(super) fn read_leader(&self, seen: &Seen) -> Result<Document> {
        let read = seal::open(&seen.bytes, FORMAT_VERSION);
        read.map_err(|why| match why {
            Unreadable::Damaged(detail) => self.objects.damaged(
                LEADER,
                format!("{detail}. It only says who leads: a server that leads writes it again"),
            ),
            Unreadable::UnknownFormat(version) => self.unknown_format(LEADER, version),
        })
    }
}

/// How often `leader.json` was the same.
#[derive(Debug, Default)]
struct Watched {
    before: Option<Bytes>,
    unchanged: u32,
}

impl Watched {
    /// Whether another document was seen before.
    fn differs(&self, seen: &Seen) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| *before != seen.bytes)
    }

    /// How often it was the same before.
    fn look(&mut self, seen: &Seen) -> u32 {
        self.unchanged = match self.before.as_ref() == Some(&seen.bytes) {
            true => self.unchanged + 1,
            false => 0,
        };
        self.before = Some(seen.bytes.clone());
        self.unchanged
    }
}

fn told(document: &Document) -> Option<Leading> {
    let holder = document.holder.as_ref()?;
    Some(Leading {
        process: holder.to_string(),
        address: document.address.clone(),
    })
}
