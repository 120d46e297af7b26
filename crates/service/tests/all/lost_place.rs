//! Tables that have lost their place among their replicas.

use std::sync::Arc;

use mendb_model::operation::State;
use mendb_model::part::{TableDefinition, TableName};
use mendb_repo::Repository;
use mendb_service::{Error, MendFrom, MendOrder, PartBackupOrder, Service, Settings};

use crate::folder_store::{Contents, FolderStore, definition};
use crate::world::{options, quick_limits, runtime};

struct World {
    _directory: tempfile::TempDir,
    store: Arc<FolderStore>,
    service: Service,
    backed_up: Contents,
}

fn orders() -> TableName {
    TableName::new("shop", "orders")
}

impl World {
    /// A replicated table that was backed up, and lacks a partition since.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let url = format!("file://{}", directory.path().join("repository").display());
        let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
        let store = Arc::new(FolderStore::open(&directory.path().join("store")));
        store.create(TableDefinition {
            engine: "ReplicatedMergeTree".to_owned(),
            ..definition(&orders(), "String", "")
        });
        for partition in ["1", "2", "3"] {
            store.insert(&orders(), partition, &[(1, "one"), (2, "two")]);
        }
        let settings = Settings {
            limits: quick_limits(),
            target_url: "folder".to_owned(),
            host: None,
        };
        let engine = Arc::<FolderStore>::clone(&store);
        let service = Service::new(engine, repository, runtime, directory.path(), settings);
        let world = Self {
            _directory: directory,
            backed_up: store.contents(),
            store,
            service: service.unwrap(),
        };
        let backup = world.service.request_part_backup(&PartBackupOrder {
            collection: "shop".to_owned(),
            tables: Some("shop.*".to_owned()),
            ..PartBackupOrder::default()
        });
        world.done(&backup.unwrap());
        world.store.drop_partition(&orders(), "2");
        world
    }

    fn done(&self, id: &mendb_model::name::OperationId) {
        self.service.drive(&mut |_| {}).unwrap();
        let operation = self.service.journal().operation(id).unwrap();
        assert_eq!(operation.state, State::Done, "{:?}", operation.error);
    }

    /// Why nothing can be planned, and what to do.
    fn refused(&self, order: &MendOrder) -> (String, String) {
        assert!(self.service.request_mend(order).is_err());
        match self.service.plan_mend(order, &mut |_| {}) {
            Err(Error::Refused { message, hint }) => (message, hint.unwrap_or_default()),
            planned => panic!("{planned:?}"),
        }
    }
}

fn order(force_untried: bool) -> MendOrder {
    MendOrder {
        in_place: true,
        force_untried,
        ..MendOrder::new(MendFrom::Collection {
            collection: "shop".to_owned(),
            to: None,
            shard: None,
        })
    }
}

#[test]
fn a_table_whose_place_cannot_be_made_anew_is_left_as_it_is_and_the_plan_says_what_to_do() {
    let world = World::new();
    let damaged = world.store.contents();
    world.store.lose_place(&orders(), false);
    for force_untried in [false, true] {
        let (why, advice) = world.refused(&order(force_untried));
        let lost = "/orders/replicas/here is not there any more";
        assert!(why.contains(lost), "{why}");
        assert!(advice.starts_with("DROP TABLE shop.orders"), "{advice}");
        assert!(advice.contains("--replica-path"), "{advice}");
    }
    assert_eq!(world.store.contents(), damaged);
}

#[test]
fn a_place_is_made_anew_only_where_that_is_insisted_on_and_then_the_table_is_mended() {
    let world = World::new();
    let damaged = world.store.contents();
    world.store.lose_place(&orders(), true);
    let (_, advice) = world.refused(&order(false));
    let forced = "--force-untried has the server";
    assert!(advice.starts_with(forced), "{advice}");

    let planned = world.service.plan_mend(&order(true), &mut |_| {});
    let preview = planned.unwrap();
    assert!(preview.stopped.is_empty());
    let notes = preview.tables[0].notes.join("; ");
    assert!(notes.contains("SYSTEM RESTORE REPLICA"), "{notes}");
    assert_eq!(world.store.contents(), damaged);
    assert!(world.store.lost_place_of(&orders()).is_some());

    let mend = world.service.request_mend(&order(true)).unwrap();
    world.done(&mend);
    assert_eq!(world.store.lost_place_of(&orders()), None);
    assert_eq!(world.store.contents(), world.backed_up);
}
