//! Orders for work on a cluster.

use std::time::Duration;

use mendb_engines::agents::Asked;
use mendb_model::name::{BackupKind, OperationId, check, matches};
use mendb_model::operation::{ClusterRequest, ClusterWork, HOLD, Request, ShardAgent, State};
use mendb_model::part::{PartStoreBackup, Selector, Unmatched};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::at_once::at_once;
use super::shard::{Shard, read};
use crate::error::{Error, Result};
use crate::front::chosen::Purpose;
use crate::front::selectors::{check_fit, check_tables};
use crate::front::{Failed, Front, in_the_way};
use crate::operations::part_backup::order::Fit;
use crate::operations::row_backup::order::check_label;
use crate::task_error::TaskResult;

/// Work on a cluster as a user orders it.
#[derive(Debug, Clone)]
pub struct ClusterOrder {
    /// The cluster.
    pub cluster: String,
    /// The collection.
    pub collection: String,
    /// The shards, each with the agent that is to do its part.
    pub shards: Vec<ShardAgent>,
    /// The other replicas, which may do the part of one whose agent is lost.
    pub others: Vec<ShardAgent>,
    /// An agent that is not heard for so long is lost; 0 has it waited for.
    pub take_over_after_ms: u64,
    /// What agents are told beside, as arguments of the command.
    pub arguments: Map<String, Value>,
}

/// What the agent of a shard would do, or has done, as it prints it.
#[derive(Debug, Clone)]
pub struct ToldByShard {
    /// The agent.
    pub at: ShardAgent,
    /// What it told; `None` where it does, or did, nothing.
    pub told: Option<String>,
    /// Whether something is not as it should be.
    pub drift: bool,
}

impl Front {
    /// Checks an order for a backup of a cluster and makes it an operation.
    ///
    /// # Errors
    /// [`Error::BackupFailed`]: an earlier one failed; resume or cancel it. [`Error::NothingFits`]: a pattern fits nothing on
    /// any shard. Else no shard has a table that is meant, the label is taken, another operation of the cluster is not
    /// over, an agent does not answer or is not that of its server, or the repository cannot be reached.
    pub fn request_cluster_backup(
        &self,
        order: ClusterOrder,
        label: Option<String>,
        new_repository: bool,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        check(&order.collection)?;
        let collection = &order.collection;
        let header_id = self.repository_id()?;
        let repository = &self.tools.repository;
        let backups = self.runtime().block_on(repository.list(collection))?;
        if let Some(label) = &label {
            check_label(label, &backups)?;
        }
        self.check_cluster_free()?;
        self.give_up_left(&order.shards)?;
        self.check_something_fits(&order)?;
        if header_id.is_none() {
            self.check_may_be_made(collection, &backups, new_repository)?;
        }
        let repository_id = self.make_if_absent(header_id)?;
        let backup_id = self.claim_id(collection, BackupKind::Full)?;
        let request = order.request(ClusterWork::Backup { backup_id, label });
        self.create(Request::Cluster(request), repository_id, &[])
    }

    /// Checks an order for a mend of a cluster to a backup and makes it an operation.
    ///
    /// # Errors
    /// There is no such backup, it is not one of these shards, a pattern fits nothing of it, another operation of the
    /// cluster is not over, or an agent does not answer or is not that of its server.
    pub fn request_cluster_mend(
        &self,
        order: ClusterOrder,
        to: Option<&str>,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let request = self.cluster_mend(order, to)?;
        self.check_cluster_free()?;
        self.check_agents(&request.shards)?;
        self.give_up_left(&request.shards)?;
        self.check_partitions_fit(&request)?;
        self.create(Request::Cluster(request), self.known_id()?, &[])
    }

    /// Makes an operation that takes a mend of the cluster back.
    ///
    /// # Errors
    /// There is no such mend, it is not over, it has kept nothing to be undone by, rows came since that are neither to be
    /// kept nor removed, or an agent does not answer or is not that of its server.
    pub fn request_cluster_undo(
        &self,
        id: &OperationId,
        arguments: Map<String, Value>,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let request = self.cluster_undo(id, arguments)?;
        self.check_cluster_free()?;
        // An operation that cannot be carried out would be in the way.
        let agents = self.tools.engine.agents()?;
        let operation = "preview".parse()?;
        let told = each(&request.shards, |at| {
            let shard = Shard {
                agents,
                operation: &operation,
                request: &request,
                at,
            };
            Ok((shard.planned()?, false))
        })?;
        if told.iter().all(|told| told.told.is_none()) {
            return Err(Error::refused(
                format!("operation {id} has changed nothing on any shard that could be undone"),
                "mendb operation show tells what it has done",
            ));
        }
        self.create(Request::Cluster(request), self.known_id()?, &[])
    }

    /// What a mend of a cluster would do, shard by shard. Nothing is changed.
    ///
    /// # Errors
    /// As [`Self::request_cluster_mend`], or an agent refuses.
    pub fn plan_cluster_mend(
        &self,
        order: ClusterOrder,
        to: Option<&str>,
        text: bool,
    ) -> Result<Vec<ToldByShard>> {
        self.look_at_shards(&self.cluster_mend(order, to)?, text)
    }

    /// The same of an undo.
    ///
    /// # Errors
    /// As [`Self::request_cluster_undo`], or an agent refuses.
    pub fn plan_cluster_undo(
        &self,
        id: &OperationId,
        arguments: Map<String, Value>,
        text: bool,
    ) -> Result<Vec<ToldByShard>> {
        self.look_at_shards(&self.cluster_undo(id, arguments)?, text)
    }

    /// What each agent finds where it compares the tables of its server with what a backup has of the shard, by the
    /// arguments of `mendb verify --live`.
    ///
    /// # Errors
    /// As [`Self::request_cluster_mend`], or an agent refuses.
    pub fn compare_cluster(
        &self,
        order: ClusterOrder,
        to: Option<&str>,
        text: bool,
    ) -> Result<Vec<ToldByShard>> {
        let request = self.cluster_mend(order, to)?;
        let agents = self.tools.engine.agents()?;
        let backup = format!("{}/{}", request.collection, request.backup_id());
        each(&request.shards, |at| {
            let mut arguments = request.arguments.clone();
            arguments.remove(HOLD);
            arguments.insert("live".to_owned(), true.into());
            arguments.insert("live_only".to_owned(), true.into());
            arguments.insert("shard".to_owned(), at.shard.as_str().into());
            let reads = arguments.contains_key("bytes");
            let asked = Asked {
                path: &["collections", &backup, "verify"],
                arguments: &arguments,
                key: None,
                known_only: false,
                text,
            };
            let (told, drift) = agents.look(at, &asked, reads)?;
            Ok((Some(told), drift))
        })
    }

    /// What each agent says of its part of an operation that is over.
    ///
    /// # Errors
    /// There is no such operation on a cluster, or an agent does not answer.
    pub fn cluster_reports(&self, id: &OperationId, text: bool) -> Result<Vec<ToldByShard>> {
        let head = self.journal.operation_head(id)?;
        let request = of_cluster(id, &head.request)?;
        let agents = self.tools.engine.agents()?;
        let shards: Vec<ShardAgent> = request.shards.iter().map(|at| agents.now(at)).collect();
        each(&shards, |at| {
            let shard = Shard {
                agents,
                operation: id,
                request,
                at,
            };
            let known = shard.known()?;
            Ok(match known {
                None => (None, false),
                Some(known) => {
                    let (told, drift) = agents.report(at, &known, text)?;
                    (Some(told), drift)
                }
            })
        })
    }

    fn look_at_shards(&self, request: &ClusterRequest, text: bool) -> Result<Vec<ToldByShard>> {
        let agents = self.tools.engine.agents()?;
        // The key of an order that is not given is never seen.
        let operation = "preview".parse()?;
        each(&request.shards, |at| {
            let shard = Shard {
                agents,
                operation: &operation,
                request,
                at,
            };
            Ok((shard.look(text)?, false))
        })
    }

    fn cluster_mend(&self, order: ClusterOrder, to: Option<&str>) -> Result<ClusterRequest> {
        let chosen = self.chosen(&order.collection, to, Purpose::Overwrite)?;
        let Some(stored) = chosen.chain.last() else {
            return Err(Error::refused(
                format!(
                    "collection {} has no backup in {}",
                    order.collection,
                    self.tools.repository.url()
                ),
                "mendb list shows what there is; --repository names another repository",
            ));
        };
        let id = &stored.manifest.backup_id;
        let store = stored.manifest.part_store.as_ref();
        let Some(store) = store.filter(|store| !store.shards.is_empty()) else {
            return Err(Error::refused(
                format!("backup {id} is of one database, not of the shards of a cluster"),
                "leave --cluster out to mend that one, or name a backup that mendb backup --cluster has taken",
            ));
        };
        if chosen.only_into_absent {
            return Err(Error::refused(
                format!("backup {id} is of {}", chosen.whose.describe()),
                format!("to bring this cluster to it all the same, name it by its id: {id}"),
            ));
        }
        let ours: Vec<&str> = order.shards.iter().map(|at| at.shard.as_str()).collect();
        let theirs: Vec<&str> = store
            .shards
            .iter()
            .map(|shard| shard.shard.as_str())
            .collect();
        if let Some(lost) = theirs.iter().find(|shard| !ours.contains(*shard)) {
            return Err(other_shape(
                &order.cluster,
                &format!("backup {id} has a shard {lost}, and the cluster has none"),
            ));
        }
        if let Some(new) = ours.iter().find(|shard| !theirs.contains(*shard)) {
            return Err(other_shape(
                &order.cluster,
                &format!("the cluster has a shard {new}, and backup {id} has none"),
            ));
        }
        check_tables_fit(&order.arguments, store)?;
        let backup_id = id.clone();
        Ok(order.request(ClusterWork::Mend { backup_id }))
    }

    fn cluster_undo(
        &self,
        id: &OperationId,
        arguments: Map<String, Value>,
    ) -> Result<ClusterRequest> {
        let head = self.journal.operation_head(id)?;
        let mended = of_cluster(id, &head.request)?;
        let ClusterWork::Mend { backup_id } = &mended.work else {
            return Err(Error::refused(
                format!(
                    "operation {id} is {}, and only mends are undone",
                    head.request.a_kind()
                ),
                "mendb operation list shows the mends there are",
            ));
        };
        if head.state != State::Done {
            return Err(in_the_way("the cluster", &head));
        }
        let agents = self.tools.engine.agents()?;
        Ok(ClusterRequest {
            shards: mended.shards.iter().map(|at| agents.now(at)).collect(),
            left: Vec::new(),
            others: Vec::new(),
            work: ClusterWork::Undo {
                operation_id: id.clone(),
                arguments: mended.arguments.clone(),
                backup_id: backup_id.clone(),
            },
            arguments: holding(arguments),
            on_concurrent_insert: None,
            ..mended.clone()
        })
    }

    /// Refuses where an agent does not answer, or is not beside the server that is meant: an operation would have it for
    /// good.
    fn check_agents(&self, shards: &[ShardAgent]) -> Result<()> {
        let agents = self.tools.engine.agents()?;
        each(shards, |at| {
            agents.check(at)?;
            Ok((None, false))
        })
        .map(drop)
    }

    /// Refuses a backup where no shard has a table that is meant, or a pattern fits nothing on any of them. The agents say
    /// by that, too, that they take orders.
    fn check_something_fits(&self, order: &ClusterOrder) -> Result<()> {
        let agents = self.tools.engine.agents()?;
        let mut arguments = order.arguments.clone();
        arguments.insert("what_fits".to_owned(), true.into());
        let asked = Asked {
            path: &["collections", &order.collection, "backups"],
            arguments: &arguments,
            key: None,
            known_only: false,
            text: false,
        };
        let told = each(&order.shards, |at| {
            let (told, _) = agents.look(at, &asked, false)?;
            Ok((Some(told), false))
        })?;
        let mut fits: Vec<Fit> = Vec::new();
        for ToldByShard { at, told, .. } in &told {
            fits.push(read(at, told.as_deref().unwrap_or_default())?);
        }
        let unmatched = unmatched_everywhere(fits.iter().map(|fit| fit.unmatched.as_slice()));
        let is_empty = fits.iter().all(|fit| fit.tables == 0);
        if is_empty && unmatched.is_empty() {
            let mut patterns: Vec<&str> = fits.iter().map(|fit| fit.patterns.as_str()).collect();
            patterns.dedup();
            return Err(Error::refused(
                format!(
                    "no shard of cluster {} has a table that matches {}, or all are left out",
                    order.cluster,
                    patterns.join(", ")
                ),
                "name tables as database.table: --tables 'analytics.*'",
            ));
        }
        check_fit(&unmatched, may_fit_nothing(&order.arguments) && !is_empty)
    }

    /// Refuses a mend of which patterns fit no partition, or no disk, on any shard.
    fn check_partitions_fit(&self, request: &ClusterRequest) -> Result<()> {
        let is_asked = |name| request.arguments.contains_key(name);
        if may_fit_nothing(&request.arguments)
            || !(is_asked("partitions") || is_asked("exclude_disks"))
        {
            return Ok(());
        }
        let mut unmatched: Vec<Vec<Unmatched>> = Vec::new();
        for ToldByShard { at, told, .. } in &self.look_at_shards(request, false)? {
            let told: Fitting = read(at, told.as_deref().unwrap_or("{}"))?;
            // A shard without tables has no partitions that could fit.
            if !told.tables.is_empty() {
                unmatched.push(told.unmatched);
            }
        }
        check_fit(
            &unmatched_everywhere(unmatched.iter().map(Vec::as_slice)),
            false,
        )
    }

    /// Has agents that come back after another replica took their place give up what they wait with: it would be in the way.
    fn give_up_left(&self, shards: &[ShardAgent]) -> Result<()> {
        let agents = self.tools.engine.agents()?;
        for operation in self.journal.operations()? {
            let Some(request) = operation.request.cluster() else {
                continue;
            };
            for left in &request.left {
                let is_it = |at: &&ShardAgent| at.shard == left.shard && at.replica == left.replica;
                let Some(at) = shards.iter().find(is_it) else {
                    continue;
                };
                let shard = Shard {
                    agents,
                    operation: &operation.operation_id,
                    request,
                    at,
                };
                shard.give_up_left(|| self.runtime().block_on(a_moment()))?;
            }
        }
        Ok(())
    }

    /// Refuses where an operation of the cluster is not over: each has all of its shards.
    fn check_cluster_free(&self) -> Result<()> {
        for operation in self.journal.open_operations()? {
            match Failed::of(&operation) {
                Some(Failed::Abandoned) => {}
                Some(Failed::Cancellable) => {
                    return Err(Error::BackupFailed {
                        collection: operation.request.collection().to_owned(),
                        operation_id: operation.operation_id.clone(),
                    });
                }
                None => return Err(in_the_way("the cluster", &operation)),
            }
        }
        Ok(())
    }
}

impl ClusterOrder {
    fn request(self, work: ClusterWork) -> ClusterRequest {
        ClusterRequest {
            cluster: self.cluster,
            collection: self.collection,
            work,
            shards: self.shards,
            left: Vec::new(),
            others: self.others,
            take_over_after_ms: self.take_over_after_ms,
            arguments: holding(self.arguments),
            on_concurrent_insert: None,
        }
    }
}

/// A pause between two looks at an agent.
async fn a_moment() {
    let _ = tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await;
}

/// The arguments of an order by which all shards wait for each other.
fn holding(mut arguments: Map<String, Value>) -> Map<String, Value> {
    arguments.insert(HOLD.to_owned(), true.into());
    arguments
}

/// What an agent says of a mend that it would make: its tables, and the patterns that fit nothing there.
#[derive(Deserialize)]
struct Fitting {
    #[serde(default)]
    tables: Vec<IgnoredAny>,
    #[serde(default)]
    unmatched: Vec<Unmatched>,
}

/// Whether patterns may fit nothing.
fn may_fit_nothing(arguments: &Map<String, Value>) -> bool {
    arguments.get("if_exists") == Some(&Value::Bool(true))
}

/// Refuses patterns of a mend that fit no table of any shard.
fn check_tables_fit(arguments: &Map<String, Value>, store: &PartStoreBackup) -> Result<()> {
    let text = |name| {
        let said = arguments.get(name).and_then(Value::as_str);
        said.unwrap_or_default()
    };
    let a_table = |pattern: &str| (store.tables.iter()).any(|table| table.name().matches(pattern));
    let an_engine = |pattern: &str| {
        let mut tables = store.tables.iter();
        tables.any(|table| matches(pattern, &table.definition.engine))
    };
    let if_exists = may_fit_nothing(arguments);
    check_tables(text("tables"), if_exists, a_table)?;
    let mut excluded = Selector::ExcludeTables.unmatched(text("exclude_tables"), a_table);
    excluded.extend(Selector::ExcludeEngines.unmatched(text("exclude_engines"), an_engine));
    check_fit(&excluded, if_exists)
}

/// The patterns that fit nothing on any shard.
fn unmatched_everywhere<'a>(by_shard: impl Iterator<Item = &'a [Unmatched]>) -> Vec<Unmatched> {
    let everywhere = by_shard.map(<[Unmatched]>::to_vec).reduce(|known, more| {
        let mut known = known;
        known.retain(|unmatched| more.contains(unmatched));
        known
    });
    everywhere.unwrap_or_default()
}

/// Asks the agents of all shards at once.
fn each(
    shards: &[ShardAgent],
    ask: impl Fn(&ShardAgent) -> TaskResult<(Option<String>, bool)> + Sync,
) -> Result<Vec<ToldByShard>> {
    let answers = at_once(shards, |at| {
        let (told, drift) = ask(at)?;
        Ok(ToldByShard {
            at: at.clone(),
            told,
            drift,
        })
    })?;
    answers.into_iter().collect()
}

fn of_cluster<'a>(id: &OperationId, request: &'a Request) -> Result<&'a ClusterRequest> {
    request.cluster().ok_or_else(|| {
        Error::refused(
            format!("operation {id} is {} of one target", request.a_kind()),
            "leave --cluster out",
        )
    })
}

fn other_shape(cluster: &str, why: &str) -> Error {
    Error::refused(
        format!("cluster {cluster} has another shape than the backup: {why}"),
        "a mend brings each shard to what the backup has of it: name a backup of these shards",
    )
}
