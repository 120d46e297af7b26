//! Commands that are about a cluster: an operation of its coordinator, whose parts are commands of the agents.
//!
//! What is said beside the cluster is what each agent is told, by the same names.

use std::collections::BTreeMap;

use mendb_engines::clickhouse::ServerSurvey;
use mendb_model::name::OperationId;
use mendb_model::operation::{ShardAgent, State};
use mendb_service::journal::command::Command;
use mendb_service::{ClusterOrder, Error, Service, ToldByShard};
use serde::Serialize;
use serde_json::{Map, Value};

use super::survey::{ClusterSurvey, Found};
use super::topology::Topology;
use crate::commands::restore::find;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::output::OutputFormat;

/// What an agent of a shard told, as JSON.
#[derive(Serialize)]
struct ShardRecord {
    shard: String,
    replica: String,
    agent: String,
    /// Null where it does, or did, nothing.
    told: Option<Value>,
}

/// What agents told.
#[derive(Serialize)]
struct ClusterRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<String>,
    cluster: String,
    shards: Vec<ShardRecord>,
}

/// A command about a cluster.
struct OnCluster<'a> {
    context: &'a Context,
    topology: Topology,
    /// What was said beside the cluster.
    fields: Map<String, Value>,
}

/// Runs a command of these words, with what was said beside.
///
/// # Errors
/// It is none that works on clusters; the cluster is not found; or as the command.
pub fn run(
    context: &Context,
    words: &[&str],
    mut fields: Map<String, Value>,
    (cluster, http_port): (&str, Option<u16>),
) -> Result<Verdict, Failure> {
    for name in ["cluster", "http_port"] {
        fields.remove(name);
    }
    let on = OnCluster {
        context,
        topology: Topology::find(context, cluster, http_port)?,
        fields,
    };
    match words {
        ["backup"] => on.backup(),
        ["restore"] => on.mend(),
        ["undo"] => on.undo(),
        _ => Err(Failure::misuse(format!(
            "mendb {} does not work on clusters",
            words.join(" ")
        ))
        .hint("leave --cluster out")),
    }
}

impl OnCluster<'_> {
    fn backup(mut self) -> Result<Verdict, Failure> {
        self.refuse(&[(
            "incremental",
            "every backup of a ClickHouse server is complete by itself",
        )])?;
        let collection = self.take_text("collection")?.unwrap_or_default();
        let label = self.take_text("label")?;
        let new_repository = self.fields.remove("new_repository").is_some();
        let allow_incomplete = self.fields.remove("allow_incomplete").is_some();
        let service = self.open()?;
        // What was cut off goes on first.
        self.context.drive_all(&service)?;
        let order = self.order(collection)?;
        let request =
            || service.request_cluster_backup(order.clone(), label.clone(), new_repository);
        let id = match request() {
            Err(Error::BackupFailed { operation_id, .. }) => {
                self.context.say(&format!(
                    "operation {operation_id} failed before: rolling it back"
                ));
                service.command(&operation_id, Command::Cancel(None))?;
                self.context
                    .drive(&service, &operation_id, State::Cancelled)?;
                request()?
            }
            requested => requested?,
        };
        self.context.say(&format!("operation {id}"));
        match self.context.drive(&service, &id, State::Done)? {
            Verdict::Drift if allow_incomplete => Ok(Verdict::Done),
            verdict => Ok(verdict),
        }
    }

    fn mend(mut self) -> Result<Verdict, Failure> {
        self.refuse(&[
            ("plan", "plans are for row stores"),
            ("from", "agents read backups that mendb made"),
            (
                "rename",
                "the tables of a cluster are mended where they are",
            ),
            (
                "database_mapping",
                "the tables of a cluster are mended where they are",
            ),
            (
                "shard",
                "every shard is brought to what the backup has of it",
            ),
            (
                "if_different",
                "agents begin nothing where nothing would be changed",
            ),
        ])?;
        match self.fields.remove("in_place") {
            Some(Value::String(text)) if text == "true" => {}
            Some(Value::Array(texts)) if texts.iter().all(|text| text == "true") => {}
            _ => {
                return Err(Failure::misuse(
                    "--cluster mends tables where they are, and to create them beside is not in this version",
                )
                .hint("add --in-place; where a table is missing it is created"));
            }
        }
        let what = self.take_text("what")?.unwrap_or_default();
        let to = self.take_text("to")?;
        let dry_run = self.fields.remove("dry_run").is_some();
        let service = self.open()?;
        let (collection, to) = find(&service, what, to)?;
        let order = self.order(collection)?;
        if dry_run {
            let told = service.plan_cluster_mend(order, to.as_deref(), self.is_text())?;
            return self.tell(None, told);
        }
        let id = service.request_cluster_mend(order, to.as_deref())?;
        self.see_through(&service, &id)
    }

    fn undo(mut self) -> Result<Verdict, Failure> {
        self.refuse(&[("include_conflicting", "it is for row stores")])?;
        let mended = self
            .take_text("operation")?
            .unwrap_or_default()
            .parse::<OperationId>()
            .map_err(|error| Failure::of(FailureKind::FixCommand, &error))?;
        let dry_run = self.fields.remove("dry_run").is_some();
        let service = self.open()?;
        let arguments = std::mem::take(&mut self.fields);
        if dry_run {
            let told = service.plan_cluster_undo(&mended, arguments, self.is_text())?;
            return self.tell(None, told);
        }
        let id = service.request_cluster_undo(&mended, arguments)?;
        self.see_through(&service, &id)
    }

    /// Drives a mend to its end and tells what it did on each shard.
    fn see_through(&self, service: &Service, id: &OperationId) -> Result<Verdict, Failure> {
        self.context.say(&format!("operation {id}"));
        self.context.drive_all(service)?;
        crate::operations::ending::check_end(&service.journal().operation_head(id)?, State::Done)?;
        let told = service.cluster_reports(id, self.is_text())?;
        self.tell(Some(id), told)
    }

    fn open(&self) -> Result<crate::service::OpenService, Failure> {
        let state = &self.context.settings.cluster_state;
        self.context
            .open_cluster_in(&state.join(&self.topology.cluster))
    }

    /// What is ordered of one replica of each shard.
    fn order(&mut self, collection: String) -> Result<ClusterOrder, Failure> {
        Ok(ClusterOrder {
            cluster: self.topology.cluster.clone(),
            collection,
            shards: self.choose()?,
            arguments: std::mem::take(&mut self.fields),
        })
    }

    /// One replica of each shard: of those that answer the one that is least behind, the first of several.
    fn choose(&self) -> Result<Vec<ShardAgent>, Failure> {
        let mut chosen: BTreeMap<usize, (u64, u64, ShardAgent)> = BTreeMap::new();
        let survey = ClusterSurvey::of(self.context, &self.topology)?;
        let mut shards: Vec<&str> = Vec::new();
        for (member, found) in self.topology.servers.iter().zip(&survey.servers) {
            if !shards.contains(&member.shard.as_str()) {
                shards.push(&member.shard);
            }
            let place = shards.len() - 1;
            let Found::Told(told) = &found.found else {
                continue;
            };
            let Some((delay_s, queue)) = lag(told) else {
                continue;
            };
            let is_better = chosen
                .get(&place)
                .is_none_or(|(delay, steps, _)| (delay_s, queue) < (*delay, *steps));
            if is_better {
                let at = ShardAgent {
                    shard: member.shard.clone(),
                    replica: member.replica.clone(),
                    agent: member.agent.clone(),
                    server: told.place.clone(),
                };
                chosen.insert(place, (delay_s, queue, at));
            }
        }
        if let Some((_, lost)) = shards
            .iter()
            .enumerate()
            .find(|(at, _)| !chosen.contains_key(at))
        {
            return Err(Failure::new(
                FailureKind::FixEnvironment,
                format!(
                    "no server of shard {lost} of cluster {} answers and has tables that take inserts",
                    self.topology.cluster
                ),
            )
            .hint("mendb cluster show shows each server; nothing was begun"));
        }
        Ok(chosen.into_values().map(|(_, _, at)| at).collect())
    }

    fn tell(&self, id: Option<&OperationId>, told: Vec<ToldByShard>) -> Result<Verdict, Failure> {
        let verdict = match told.iter().any(|told| told.drift) {
            true => Verdict::Drift,
            false => Verdict::Done,
        };
        if self.is_text() {
            let text = told.into_iter().map(|ToldByShard { at, told, .. }| {
                let told = told.unwrap_or_else(|| "nothing to do\n".to_owned());
                format!("shard {} ({}):\n{told}\n", at.shard, at.agent)
            });
            let text = text.collect::<String>();
            self.context.output.record(&(), |_| text)?;
            return Ok(verdict);
        }
        let shards = told
            .into_iter()
            .map(|ToldByShard { at, told, .. }| ShardRecord {
                shard: at.shard,
                replica: at.replica,
                agent: at.agent,
                told: told.map(|told| serde_json::from_str(&told).unwrap_or(Value::String(told))),
            });
        let record = ClusterRecord {
            operation_id: id.map(ToString::to_string),
            cluster: self.topology.cluster.clone(),
            shards: shards.collect(),
        };
        self.context.output.record(&record, |_| String::new())?;
        Ok(verdict)
    }

    fn is_text(&self) -> bool {
        self.context.output.format == OutputFormat::Text
    }

    /// Refuses what has no meaning for a cluster.
    fn refuse(&self, flags: &[(&str, &str)]) -> Result<(), Failure> {
        match flags
            .iter()
            .find(|(flag, _)| self.fields.contains_key(*flag))
        {
            None => Ok(()),
            Some((flag, why)) => Err(Failure::misuse(format!(
                "--{} and --cluster do not go together: {why}",
                flag.replace('_', "-")
            ))
            .hint("leave one of them out")),
        }
    }

    fn take_text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.fields.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Array(texts)) => match texts.as_slice() {
                [Value::String(text)] => Ok(Some(text.clone())),
                _ => Err(Failure::misuse(format!("{name} is given several times"))),
            },
            Some(_) => Err(Failure::misuse(format!("{name} is no text"))),
        }
    }
}

/// Seconds that a server is behind and steps that it has to do; `None` of one that has a replica that is read-only.
fn lag(told: &ServerSurvey) -> Option<(u64, u64)> {
    let tables = &told.replicated;
    if tables.iter().any(|table| table.is_read_only) {
        return None;
    }
    let delay_s = tables.iter().map(|table| table.delay_s).max().unwrap_or(0);
    Some((delay_s, tables.iter().map(|table| table.queue).sum()))
}
