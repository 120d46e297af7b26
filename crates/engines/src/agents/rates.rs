//! How fast the agents of a cluster may speak with the repository, all together.
//!
//! No data goes through the coordinator, so it tells each agent its share whenever it looks at what that does: as much as
//! all those get that are at work at that moment. Shares follow within half a second when one begins or ends; an agent
//! that is not looked at keeps its last one.

use std::fmt;

/// The header field in which a coordinator says how fast an agent may be.
pub const RATES: &str = "mendb-rates";

/// Bytes a second; `None` for as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// To the repository.
    pub upload: Option<u64>,
    /// From it.
    pub download: Option<u64>,
}

impl Rates {
    /// The share of each of so many; at least a byte a second.
    pub fn shared_by(self, agents: u64) -> Self {
        let share = |rate: Option<u64>| rate.map(|rate| (rate / agents.max(1)).max(1));
        Self {
            upload: share(self.upload),
            download: share(self.download),
        }
    }

    /// The slower of both, each way.
    pub fn and(self, other: Self) -> Self {
        let slower = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            upload: slower(self.upload, other.upload),
            download: slower(self.download, other.download),
        }
    }

    /// Reads a header field; `None` of what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let rate = |text: &str| match text {
            "-" => Some(None),
            text => text.parse().ok().filter(|rate| *rate > 0).map(Some),
        };
        let (upload, download) = text.split_once(';')?;
        Some(Self {
            upload: rate(upload)?,
            download: rate(download)?,
        })
    }
}

/// As it stands in the header field.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [upload, download] = [self.upload, self.download]
            .map(|rate| rate.map_or("-".to_owned(), |rate| rate.to_string()));
        write!(f, "{upload};{download}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rates_are_read_as_they_are_written_and_shares_are_never_more_than_all(
            upload in proptest::option::of(1..u64::MAX),
            download in proptest::option::of(1..u64::MAX),
            agents in 0..1000u64,
        ) {
            let rates = Rates { upload, download };
            prop_assert_eq!(Rates::parse(&rates.to_string()), Some(rates));
            let share = rates.shared_by(agents);
            prop_assert_eq!(share.upload.is_some(), upload.is_some());
            if let (Some(share), Some(all)) = (share.upload, upload) {
                prop_assert!(share == 1 || u128::from(share) * u128::from(agents) <= u128::from(all));
            }
            prop_assert_eq!(rates.and(Rates::default()), rates);
            prop_assert_eq!(share.and(rates), share);
        }
    }

    #[test]
    fn what_are_no_rates_is_refused() {
        for wrong in ["", "1", "0;1", "a;-", "1;2;3", "-1;-"] {
            assert_eq!(Rates::parse(wrong), None, "{wrong}");
        }
    }
}
