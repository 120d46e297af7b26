//! Tables that several servers keep, as one of these servers describes them.

use std::fmt;

use mendb_model::part::TableName;

/// A table as one replica of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// The replica that this server has.
    pub own: String,
    /// The others that are at work.
    pub active: Vec<String>,
    /// Those that are not: what they lack they take when they are back.
    pub inactive: Vec<String>,
}

/// A replica whose place in its keeper is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPlace {
    /// The replica that this server has.
    pub replica: String,
    /// The table that it is of.
    pub table: TableName,
    /// What is not in the keeper any more.
    pub place: String,
    /// Whether the server can make it anew from the parts that it has.
    pub can_be_restored: bool,
}

impl LostPlace {
    /// What to do about it.
    pub fn advice(&self) -> String {
        let Self { table, .. } = self;
        let anew = format!(
            "DROP TABLE {table} on this server, then mend again: the table is created at its path in the keeper, gets what \
             other replicas have, and then what the backup has; or --rename restores it beside, with --replica-path \
             somewhere else in the keeper"
        );
        if !self.can_be_restored {
            return anew;
        }
        format!(
            "--force-untried has the server make it anew from the parts that it has (SYSTEM RESTORE REPLICA), which was never \
             tried with mendb; or {anew}"
        )
    }
}

impl fmt::Display for LostPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "replica {} has lost its place in ZooKeeper or Keeper: {} is not there any more",
            self.replica, self.place
        )
    }
}

/// Another replica beside ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Whether it is at work.
    pub is_active: bool,
    /// How its parts are to ours.
    pub agreement: Agreement,
}

/// How the parts of a replica are to those of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// The same names with the same content.
    Same,
    /// It has not done yet what the replicas have agreed on.
    Behind {
        /// Steps that it has to do.
        steps: u64,
    },
    /// It has done all of that, and its parts are others.
    Different {
        /// Names of parts that only ours has.
        missing: Vec<String>,
        /// Names of parts that only this one has.
        surplus: Vec<String>,
        /// Names of parts that both have, with other content.
        other_content: Vec<String>,
    },
}

impl Replica {
    /// Whether it is known to have what ours has.
    pub fn is_same(&self) -> bool {
        self.agreement == Agreement::Same
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            is_active,
            agreement,
        } = self;
        let rest = if *is_active {
            ""
        } else {
            ", and is not active"
        };
        match agreement {
            Agreement::Same => write!(f, "replica {name} has the same parts{rest}"),
            Agreement::Behind { steps } => {
                write!(
                    f,
                    "replica {name} has {steps} steps of replication to do{rest}"
                )
            }
            Agreement::Different {
                missing,
                surplus,
                other_content,
            } => {
                write!(f, "replica {name} differs{rest}")?;
                for (what, parts) in [
                    ("lacks", missing),
                    ("has besides", surplus),
                    ("has with other content", other_content),
                ] {
                    if !parts.is_empty() {
                        write!(f, "; it {what} {}", parts.join(", "))?;
                    }
                }
                Ok(())
            }
        }
    }
}
