//! Orders for work on a cluster.

use mendb_model::name::{BackupKind, OperationId, check};
use mendb_model::operation::{ClusterRequest, ClusterWork, Request, ShardAgent, State};
use serde_json::{Map, Value};

use super::shard::Shard;
use crate::error::{Error, Result};
use crate::front::chosen::Purpose;
use crate::front::{Failed, Front, in_the_way};
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
    /// [`Error::BackupFailed`]: an earlier one failed; resume or cancel it. Else the label is taken, another operation of
    /// the cluster is not over, an agent does not answer or is not that of its server, or the repository cannot be reached.
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
        self.check_agents(&order.shards)?;
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
    /// There is no such backup, it is not one of these shards, another operation of the cluster is not over, or an agent
    /// does not answer or is not that of its server.
    pub fn request_cluster_mend(
        &self,
        order: ClusterOrder,
        to: Option<&str>,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let request = self.cluster_mend(order, to)?;
        self.check_cluster_free()?;
        self.check_agents(&request.shards)?;
        self.create(Request::Cluster(request), self.known_id()?, &[])
    }

    /// Makes an operation that takes a mend of the cluster back.
    ///
    /// # Errors
    /// There is no such mend, it is not over, or an agent does not answer or is not that of its server.
    pub fn request_cluster_undo(
        &self,
        id: &OperationId,
        arguments: Map<String, Value>,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let request = self.cluster_undo(id, arguments)?;
        self.check_cluster_free()?;
        self.check_agents(&request.shards)?;
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

    /// What each agent says of its part of an operation that is over.
    ///
    /// # Errors
    /// There is no such operation on a cluster, or an agent does not answer.
    pub fn cluster_reports(&self, id: &OperationId, text: bool) -> Result<Vec<ToldByShard>> {
        let head = self.journal.operation_head(id)?;
        let request = of_cluster(id, &head.request)?;
        let agents = self.tools.engine.agents()?;
        each(&request.shards, |at| {
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
        let shards = store
            .map(|store| store.shards.as_slice())
            .unwrap_or_default();
        if shards.is_empty() {
            return Err(Error::refused(
                format!("backup {id} is of one database, not of the shards of a cluster"),
                "leave --cluster out to mend that one, or name a backup that mendb backup --cluster has taken",
            ));
        }
        if chosen.only_into_absent {
            return Err(Error::refused(
                format!("backup {id} is of {}", chosen.whose.describe()),
                format!("to bring this cluster to it all the same, name it by its id: {id}"),
            ));
        }
        let ours: Vec<&str> = order.shards.iter().map(|at| at.shard.as_str()).collect();
        let theirs: Vec<&str> = shards.iter().map(|shard| shard.shard.as_str()).collect();
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
                    "operation {id} is a {}, and only mends are undone",
                    mended.kind()
                ),
                "mendb operation list shows the mends there are",
            ));
        };
        if head.state != State::Done {
            return Err(in_the_way("the cluster", &head));
        }
        Ok(ClusterRequest {
            work: ClusterWork::Undo {
                operation_id: id.clone(),
                arguments: mended.arguments.clone(),
                backup_id: backup_id.clone(),
            },
            arguments,
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
            arguments: self.arguments,
            on_concurrent_insert: None,
        }
    }
}

/// Asks the agents of all shards at once.
fn each(
    shards: &[ShardAgent],
    ask: impl Fn(&ShardAgent) -> TaskResult<(Option<String>, bool)> + Sync,
) -> Result<Vec<ToldByShard>> {
    let ask = &ask;
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = (shards.iter())
            .map(|at| {
                (
                    at,
                    std::thread::Builder::new().spawn_scoped(scope, move || ask(at)),
                )
            })
            .collect();
        let answers = asked.into_iter().map(|(at, thread)| {
            let thread = thread.map_err(|source| Error::Io {
                action: "cannot ask the agents".to_owned(),
                source,
            })?;
            let Ok(told) = thread.join() else {
                return Err(Error::Refused {
                    message: format!("the thread died that asked the agent of shard {}", at.shard),
                    hint: None,
                });
            };
            let (told, drift) = told?;
            Ok(ToldByShard {
                at: at.clone(),
                told,
                drift,
            })
        });
        answers.collect::<Vec<Result<ToldByShard>>>()
    });
    answers.into_iter().collect()
}

fn of_cluster<'a>(id: &OperationId, request: &'a Request) -> Result<&'a ClusterRequest> {
    request.cluster().ok_or_else(|| {
        Error::refused(
            format!("operation {id} is a {} of one target", request.kind()),
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
