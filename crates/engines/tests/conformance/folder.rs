//! The part store of tests keeps every promise: what is tested with it holds for others that do.

use std::ops::ControlFlow;

use mendb_engines::{
    Bringing, Engine, FreezeTable, PartFrom, PartStore, PartToBring, Result, StagedPart,
};
use mendb_model::part::TableName;

use crate::copies::Copies;
use crate::folder_store::{DISK, FolderStore, definition};
use crate::part_suite::{self, PartSubject};
use crate::suite::{self, Subject};

struct Folder {
    store: FolderStore,
    _directory: tempfile::TempDir,
}

fn table(name: &str) -> TableName {
    TableName::new("shop", name)
}

impl Folder {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = Self {
            store: FolderStore::open(directory.path()),
            _directory: directory,
        };
        folder.store.create(definition(&table("t"), "String", ""));
        folder.edit(0);
        folder
    }
}

impl PartSubject for Folder {
    fn engine(&self) -> &dyn Engine {
        &self.store
    }

    fn create(&self, table: &TableName) {
        self.store.create(definition(table, "String", ""));
    }

    fn insert(&self, table: &TableName, partition: u8, round: u32) {
        let rows = [(i64::from(round), "goods")];
        self.store.insert(table, &partition.to_string(), &rows);
    }
}

impl Subject for Folder {
    fn engine(&self) -> &dyn Engine {
        &self.store
    }

    fn edit(&self, round: i64) {
        self.store.insert(&table("t"), "all", &[(round, "goods")]);
    }

    fn contents(&self, name: &str) -> Option<String> {
        let rows = self.store.contents().remove(&table(name).to_string())?;
        (!rows.is_empty()).then(|| format!("{rows:?}"))
    }

    fn freeze(&self, operation: &str) {
        let tables = [FreezeTable {
            name: table("t"),
            partitions: None,
        }];
        PartStore::freeze(&self.store, operation, &tables).unwrap();
    }

    fn frozen_contents(&self, operation: &str) -> Result<String> {
        let frozen = self.store.frozen(operation, &table("t"))?.into_iter();
        Ok(format!("{:?}", FolderStore::contents_of(frozen)))
    }

    fn stage(&self, frozen_by: &str, operation: &str) {
        if self.store.table(&table("r")).unwrap().is_none() {
            self.store.create(definition(&table("r"), "String", ""));
        }
        for (place, part) in self.frozen(frozen_by).iter().enumerate() {
            let staged = self.staged(operation, place, part);
            let part_to_bring = PartToBring {
                staged,
                from: PartFrom::Elsewhere(0),
            };
            let copies = &mut Copies(&part.directory);
            let brought = self.store.bring(&table("r"), &[part_to_bring], copies);
            assert!(matches!(brought, Ok(Bringing::Done(_))), "{brought:?}");
        }
    }

    fn apply(&self, operation: &str) {
        let staged = self.frozen("b1");
        let staged: Vec<StagedPart> = (staged.iter().enumerate())
            .map(|(place, part)| self.staged(operation, place, part))
            .collect();
        self.store.attach(&table("r"), &staged).unwrap();
    }
}

impl Folder {
    fn frozen(&self, operation: &str) -> Vec<mendb_engines::FrozenPart> {
        self.store.frozen(operation, &table("t")).unwrap()
    }

    fn staged(
        &self,
        operation: &str,
        place: usize,
        part: &mendb_engines::FrozenPart,
    ) -> StagedPart {
        let directory = self.store.stage_directory(operation, &table("r"), DISK);
        let content = self.store.read_part(&part.directory, &part.name, DISK);
        StagedPart {
            directory: directory.unwrap().join(place.to_string()),
            name: part.name.clone(),
            disk: DISK.to_owned(),
            hash: content.unwrap().part.hash,
        }
    }
}

#[test]
fn the_part_store_of_tests_keeps_every_promise() {
    for (name, promise) in suite::ALL {
        println!("{name}");
        promise(&Folder::new());
    }
    part_suite::keeps_every_promise(&Folder::new());
}

#[test]
fn rotten_bytes_and_unknown_mutations_are_found() {
    let folder = Folder::new();
    let store = &folder.store;
    store.rot(&table("t"), "all");
    let part = store.partition(&table("t"), "all").unwrap().remove(0);
    let to_prove = mendb_engines::PartToProve {
        name: part.name.clone(),
        hash: part.hash,
        files: Vec::new(),
    };
    let mut go_on = |_| ControlFlow::Continue(());
    let found = store
        .prove_live(&table("t"), &[to_prove], &mut go_on)
        .unwrap();
    assert_eq!((found.len(), &found[0].name), (1, &part.name));
    assert_eq!(store.check_table(&table("t")).unwrap().len(), 1);
    let known = store.mutation_ids(&table("t")).unwrap();
    for _ in 0..2 {
        let command = "UPDATE text = 'other' WHERE 1";
        store.mutate(&table("t"), command, None, &known).unwrap();
        assert_eq!(store.mutation_ids(&table("t")).unwrap().len(), 1);
    }
}
