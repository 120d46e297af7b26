//! The parts that each replica of a table has registered in the keeper, beside those of the replica here.
//!
//! *Proof*: a server registers a part with its checksums before the part counts as its own, and takes it off when it
//! finds it missing or broken. Equal names with equal checksums are equal files as far as each server has looked: no
//! byte of another server's disks is read. A part of the old form of header costs one more answer of the keeper, and
//! [`HEADERS_A_QUESTION`] of them are asked for at once.

use std::collections::BTreeMap;

use mendb_model::part::TableName;
use serde::Deserialize;

use super::ClickHouse;
use super::client::literal;
use super::replica::OwnReplica;
use crate::contract::replicas::{Agreement, Replica};
use crate::error::{EngineError, Remedy, Result};

/// Parts whose checksums one question asks for.
const HEADERS_A_QUESTION: usize = 50;
/// How often parts are compared again that differ although nothing is left to be done: a look at the keeper is
/// several questions, and a server may be at work between them.
const LOOKS_MAX: u32 = 8;

/// Parts by name, with their checksums.
type Registered = BTreeMap<String, String>;

impl ClickHouse {
    /// The other replicas of a table beside the one here. Those that are at work are waited for while they have
    /// something to do.
    pub(super) fn compare_replicas(&self, told: &TableName) -> Result<Vec<Replica>> {
        let Some(own) = self.own_replica(told)? else {
            return Ok(Vec::new());
        };
        let (mut looks, mut differed) = (self.replica_looks(), 0);
        loop {
            let found = self.look_at_replicas(&own);
            let mut is_busy = false;
            match &found {
                // What was listed went away in between.
                Err(error) if error.remedy == Remedy::Retry => is_busy = true,
                Err(_) => {}
                Ok(found) => {
                    for replica in found.iter().filter(|replica| replica.is_active) {
                        match replica.agreement {
                            Agreement::Same => {}
                            Agreement::Behind { .. } => is_busy = true,
                            Agreement::Different { .. } => {
                                differed += 1;
                                is_busy |= differed < LOOKS_MAX;
                            }
                        }
                    }
                }
            }
            if !is_busy || !looks.pause(&self.client)? {
                return found;
            }
        }
    }

    fn look_at_replicas(&self, own: &OwnReplica) -> Result<Vec<Replica>> {
        let log_end = self.log_end(own)?;
        let own_steps = self.steps(own, &own.name, log_end)?;
        let ours = self.registered(own, &own.name)?;
        let mut replicas = Vec::new();
        for name in self.replica_names(own)? {
            if name == own.name {
                continue;
            }
            let is_active = self.is_active(own, &name)?;
            let steps = self.steps(own, &name, log_end)?;
            let theirs = self.registered(own, &name)?;
            let agreement = self.agreement(own, &name, &ours, &theirs)?;
            let agreement = match agreement {
                Agreement::Different { .. } if steps + own_steps > 0 => Agreement::Behind {
                    steps: steps.max(own_steps),
                },
                agreement => agreement,
            };
            replicas.push(Replica {
                name,
                is_active,
                agreement,
            });
        }
        Ok(replicas)
    }

    /// What a replica has to do, of the log and of its queue.
    fn steps(&self, own: &OwnReplica, replica: &str, log_end: u64) -> Result<u64> {
        let unread = log_end.saturating_sub(self.log_pointer(own, replica)?);
        Ok(unread + self.queue(own, replica)?.len() as u64)
    }

    /// The parts that a replica has registered, with the header that newer servers write to them.
    fn registered(&self, own: &OwnReplica, replica: &str) -> Result<Registered> {
        let nodes = self.nodes(&own.node(&format!("replicas/{replica}/parts")))?;
        Ok(nodes
            .into_iter()
            .map(|node| (node.name, node.value))
            .collect())
    }

    fn agreement(
        &self,
        own: &OwnReplica,
        replica: &str,
        ours: &Registered,
        theirs: &Registered,
    ) -> Result<Agreement> {
        let only_in = |these: &Registered, those: &Registered| -> Vec<String> {
            let lacking = these.keys().filter(|name| !those.contains_key(*name));
            lacking.cloned().collect()
        };
        let both: Vec<&str> = (ours.iter())
            .filter(|(name, _)| theirs.contains_key(*name))
            .map(|(name, _)| name.as_str())
            .collect();
        let (missing, surplus) = (only_in(ours, theirs), only_in(theirs, ours));
        let mut other_content = Vec::new();
        let mut old_form = Vec::new();
        for name in both {
            match (&ours[name], &theirs[name]) {
                (here, there) if here.is_empty() && there.is_empty() => old_form.push(name),
                (here, there) if here.is_empty() || there.is_empty() => {
                    let message = format!(
                        "part {name} is registered in two forms by replicas {} and {replica} at {}, which cannot be \
                         compared: give their servers one value of use_minimalistic_part_header_in_zookeeper",
                        own.name,
                        own.node("replicas")
                    );
                    return Err(EngineError::new(Remedy::Request, message));
                }
                (here, there) if here != there => other_content.push(name.to_owned()),
                _ => {}
            }
        }
        let our_sums = self.checksums(own, &own.name, &old_form)?;
        let their_sums = self.checksums(own, replica, &old_form)?;
        let differs = |name: &&&str| our_sums.get(**name) != their_sums.get(**name);
        other_content.extend(
            old_form
                .iter()
                .filter(differs)
                .map(|name| (*name).to_owned()),
        );
        if missing.is_empty() && surplus.is_empty() && other_content.is_empty() {
            return Ok(Agreement::Same);
        }
        Ok(Agreement::Different {
            missing,
            surplus,
            other_content,
        })
    }

    /// Digests of the checksums of parts, where each part has a node of its own for them.
    fn checksums(&self, own: &OwnReplica, replica: &str, parts: &[&str]) -> Result<Registered> {
        #[derive(Deserialize)]
        struct Row {
            part: String,
            content: String,
        }
        let mut sums = Registered::new();
        for parts in parts.chunks(HEADERS_A_QUESTION) {
            let questions = parts.iter().map(|part| {
                let path = own.node(&format!("replicas/{replica}/parts/{part}"));
                format!(
                    "SELECT {} AS part, hex(sipHash128(value)) AS content FROM system.zookeeper \
                     WHERE path = {} AND name = 'checksums'",
                    literal(part),
                    literal(&path)
                )
            });
            let questions: Vec<String> = questions.collect();
            let rows: Vec<Row> = self.client.rows(&questions.join(" UNION ALL "))?;
            sums.extend(rows.into_iter().map(|row| (row.part, row.content)));
        }
        if let Some(part) = parts.iter().find(|part| !sums.contains_key(**part)) {
            let message = format!(
                "part {part} of replica {replica} at {} went away while it was looked at",
                own.node("replicas")
            );
            return Err(EngineError::new(Remedy::Retry, message));
        }
        Ok(sums)
    }
}
