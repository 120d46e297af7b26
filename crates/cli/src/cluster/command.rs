//! Commands that are about a cluster: an operation of its coordinator, whose parts are commands of the agents.
//!
//! What is said beside the cluster is what each agent is told, by the same names.

use std::collections::BTreeMap;

use mendb_engines::clickhouse::ServerSurvey;
use mendb_model::name::OperationId;
use mendb_model::names;
use mendb_model::operation::{ShardAgent, State};
use mendb_service::{ClusterOrder, Error, Service, ToldByShard};
use serde::Serialize;
use serde_json::{Map, Value};

use super::survey::{ClusterSurvey, Found};
use super::topology::{ClusterServer, Topology};
use crate::commands::restore::find;
use crate::commands::selectors::unless_nothing_fits;
use crate::commands::verify::{Proof, VerifyCommand};
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::operations::ending::check_end;
use crate::output::OutputFormat;
use crate::service::OpenService;

/// What an agent of a shard told, as JSON.
#[derive(Serialize)]
struct ShardRecord {
    shard: String,
    replica: String,
    agent: String,
    /// Null where it does, or did, nothing.
    told: Option<Value>,
}

impl ShardRecord {
    fn new(told: ToldByShard) -> Self {
        let ToldByShard { at, told, .. } = told;
        Self {
            shard: at.shard,
            replica: at.replica,
            agent: at.agent,
            told: told.map(|told| serde_json::from_str(&told).unwrap_or(Value::String(told))),
        }
    }
}

/// What was proved of backups, and what agents found beside them.
#[derive(Serialize)]
struct VerifiedCluster {
    #[serde(flatten)]
    proof: Proof,
    cluster: String,
    shards: Vec<ShardRecord>,
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
    on.topology.check_agents()?;
    let if_exists = on.fields.contains_key("if_exists");
    match words {
        ["backup"] => unless_nothing_fits(context, if_exists, on.backup()),
        ["restore"] => unless_nothing_fits(context, if_exists, on.mend()),
        ["undo"] => on.undo(),
        ["verify"] => on.verify(),
        _ => Err(Failure::misuse(format!(
            "mendb {} does not work on clusters",
            words.join(" ")
        ))
        .hint("leave --cluster out")),
    }
}

/// Takes note of where the list of a cluster says that agents are, for its operations.
///
/// # Errors
/// The cluster is not found, or another process works on it.
pub fn note_addresses(
    context: &Context,
    (cluster, http_port): (&str, Option<u16>),
) -> Result<(), Failure> {
    let topology = Topology::find(context, cluster, http_port)?;
    topology.check_agents()?;
    open(context, &topology).map(drop)
}

/// The agent of a replica that the list of a cluster has, with the server that is there now.
///
/// # Errors
/// There is none, or its server does not answer or takes no inserts.
pub fn agent_of(
    context: &Context,
    named: Option<(&str, Option<u16>)>,
    shard: &str,
    replica: &str,
) -> Result<ShardAgent, Failure> {
    let topology = match (named, context.target_cluster()?) {
        (Some((cluster, http_port)), _) => Topology::find(context, cluster, http_port)?,
        (None, Some(cluster)) => cluster,
        (None, None) => {
            return Err(
                Failure::misuse("no list of servers says where the replica is")
                    .hint("name it: --cluster ./cluster.yml"),
            );
        }
    };
    let is_it = |server: &&ClusterServer| server.shard == shard && server.replica == replica;
    let Some(server) = topology.servers.iter().find(is_it) else {
        let known = topology.servers.iter();
        let known: Vec<String> = known
            .map(|server| format!("{}={}", server.shard, server.replica))
            .collect();
        return Err(Failure::input(format!(
            "cluster {} has no replica {replica} of a shard {shard}",
            topology.cluster
        ))
        .hint(format!("it has {}", names(&known))));
    };
    let alone = Topology {
        cluster: topology.cluster.clone(),
        servers: vec![server.clone()],
    };
    let survey = ClusterSurvey::of(context, &alone)?;
    let told = match survey.servers.first().map(|server| &server.found) {
        Some(Found::Told(told)) if lag(told).is_some() => told,
        _ => {
            return Err(Failure::new(
                FailureKind::FixEnvironment,
                format!(
                    "replica {replica} of shard {shard}, {}, does not answer or has tables that take no inserts",
                    server.server.place()
                ),
            )
            .hint("mendb cluster show tells why; name another replica"));
        }
    };
    Ok(agent_at(server, told))
}

fn agent_at(server: &ClusterServer, told: &ServerSurvey) -> ShardAgent {
    ShardAgent {
        shard: server.shard.clone(),
        replica: server.replica.clone(),
        agent: server.agent.clone(),
        server: told.place.clone(),
    }
}

fn open(context: &Context, topology: &Topology) -> Result<OpenService, Failure> {
    context.open_cluster_in(&context.cluster_directory(topology), Some(topology))
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
                self.context.give_up(&service, &operation_id)?;
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

    /// Proves backups once, and has each agent compare its server with what the backup has of its shard.
    fn verify(mut self) -> Result<Verdict, Failure> {
        self.refuse(&[
            (
                "rename",
                "the tables of a cluster are compared as they are named",
            ),
            (
                "shard",
                "every shard is compared with what the backup has of it",
            ),
        ])?;
        let what = self.take_text("what")?.unwrap_or_default();
        let fold = self.fields.remove("fold").is_some();
        let command = VerifyCommand::of_backup(what.clone(), fold);
        if self.fields.remove("live").is_none() {
            return command.run(self.context);
        }
        let service = self.open()?;
        let (collection, to) = find(&service, what, None)?;
        let order = self.order(collection)?;
        let told = service.compare_cluster(order, to.as_deref(), self.is_text())?;
        // Nobody need wait until all of the backup is read.
        drop(service);
        let proof = command.proof(self.context)?.unwrap_or_default();
        let is_well = proof.verdict() == Verdict::Done && !told.iter().any(|told| told.drift);
        if self.is_text() {
            let text = format!(
                "{}\n{}",
                proof.describe(),
                describe(told, "nothing to compare\n")
            );
            self.context.output.record(&(), |_| text)?;
        } else {
            let cluster = self.topology.cluster.clone();
            let shards = told.into_iter().map(ShardRecord::new).collect();
            let record = VerifiedCluster {
                proof,
                cluster,
                shards,
            };
            self.context.output.record(&record, |_| String::new())?;
        }
        Ok(if is_well {
            Verdict::Done
        } else {
            Verdict::Drift
        })
    }

    /// Drives a mend to its end and tells what it did on each shard.
    fn see_through(&self, service: &Service, id: &OperationId) -> Result<Verdict, Failure> {
        self.context.say(&format!("operation {id}"));
        self.context.bring_to_end(service, id)?;
        check_end(&service.journal().operation_head(id)?, State::Done)?;
        let told = service.cluster_reports(id, self.is_text())?;
        self.tell(Some(id), told)
    }

    fn open(&self) -> Result<OpenService, Failure> {
        open(self.context, &self.topology)
    }

    /// What is ordered of one replica of each shard.
    fn order(&mut self, collection: String) -> Result<ClusterOrder, Failure> {
        let (shards, others) = self.choose()?;
        let take_over_after_s = self.context.settings.cluster_take_over_after_s;
        Ok(ClusterOrder {
            cluster: self.topology.cluster.clone(),
            collection,
            shards,
            others,
            take_over_after_ms: take_over_after_s.saturating_mul(1000),
            arguments: std::mem::take(&mut self.fields),
        })
    }

    /// One replica of each shard: of those that answer the one that is least behind, the first of several. And the others,
    /// those that are less behind first.
    fn choose(&self) -> Result<(Vec<ShardAgent>, Vec<ShardAgent>), Failure> {
        let mut found_of: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        let survey = ClusterSurvey::of(self.context, &self.topology)?;
        survey.check_each_is_another()?;
        let mut shards: Vec<&str> = Vec::new();
        for (member, found) in self.topology.servers.iter().zip(&survey.servers) {
            if !shards.contains(&member.shard.as_str()) {
                shards.push(&member.shard);
            }
            let place = shards.len() - 1;
            let Found::Told(told) = &found.found else {
                continue;
            };
            if let Some(lag) = lag(told) {
                let of_shard = found_of.entry(place).or_default();
                of_shard.push((lag, agent_at(member, told)));
            }
        }
        if let Some((_, lost)) = shards
            .iter()
            .enumerate()
            .find(|(at, _)| !found_of.contains_key(at))
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
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for mut of_shard in found_of.into_values() {
            of_shard.sort_by_key(|(lag, _)| *lag);
            let mut agents = of_shard.into_iter().map(|(_, at)| at);
            chosen.extend(agents.next());
            others.extend(agents);
        }
        Ok((chosen, others))
    }

    fn tell(&self, id: Option<&OperationId>, told: Vec<ToldByShard>) -> Result<Verdict, Failure> {
        let verdict = match told.iter().any(|told| told.drift) {
            true => Verdict::Drift,
            false => Verdict::Done,
        };
        if self.is_text() {
            let text = describe(told, "nothing to do\n");
            self.context.output.record(&(), |_| text)?;
            return Ok(verdict);
        }
        let shards = told.into_iter().map(ShardRecord::new);
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

/// What agents told, for people.
fn describe(told: Vec<ToldByShard>, nothing: &str) -> String {
    let text = told.into_iter().map(|ToldByShard { at, told, .. }| {
        let told = told.filter(|told| !told.is_empty());
        let told = told.unwrap_or_else(|| nothing.to_owned());
        let told = told.trim_start_matches('\n');
        format!("shard {} ({}):\n{told}\n", at.shard, at.agent)
    });
    text.collect()
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
