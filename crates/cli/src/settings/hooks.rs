//! Who a server tells what happened.

use std::path::PathBuf;

use super::secret::Secret;
use super::value::Wanted;

/// What somebody may want to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// An operation, or a scheduled run without one, was done.
    Success,
    /// It failed.
    Failure,
    /// A scheduled run did not begin in time.
    Late,
}

impl Happening {
    const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Late];

    /// Its name, in the settings and to those who are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Late => "late",
        }
    }

    /// The ones that a comma-separated list names.
    ///
    /// # Errors
    /// It names another.
    pub fn list(text: &str) -> Result<Vec<Self>, Wanted> {
        let names = text.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(|name| {
                let mut all = Self::ALL.into_iter();
                all.find(|one| one.name() == name)
                    .ok_or("a list of success, failure and late")
            })
            .collect()
    }
}

/// Who is told, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Where it is posted.
    pub url: Option<String>,
    /// What a post is signed with; empty for no signature.
    pub secret: Secret,
    /// A program that is run.
    pub command: Option<PathBuf>,
    /// What is told.
    pub events: Vec<Happening>,
    /// A scheduled run that has not begun so many seconds after its time is late.
    pub late_after_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_a_list_of_names() {
        let list = Happening::list("failure, late").unwrap();
        assert_eq!(list, [Happening::Failure, Happening::Late]);
        assert_eq!(Happening::list(""), Ok(Vec::new()));
        assert!(Happening::list("failures").is_err());
    }
}
