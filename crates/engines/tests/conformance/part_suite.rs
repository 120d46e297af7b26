//! The promises of the `PartStore` contract, beside those of every engine.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_engines::{
    Bringing, Engine, Exchange, FreezeTable, FrozenPart, LockKind, Origin, PartFrom, PartStore,
    PartToBring, PartToProve, Remedy, StagedPart, Supplier,
};
use mendb_model::part::{
    FileChecksum, Hash128, OnConcurrentInsert, Part, PartFile, Selection, TableName,
};

use crate::copies::{self, Copies};

/// A part store.
pub trait PartSubject {
    fn engine(&self) -> &dyn Engine;

    fn store(&self) -> &dyn PartStore {
        self.engine().parts().unwrap()
    }

    /// Creates an empty table. It has partitions `1` to `9`, and nobody merges its parts.
    fn create(&self, table: &TableName);

    /// Inserts a part into a partition, with other rows in each round.
    fn insert(&self, table: &TableName, partition: u8, round: u32);
}

/// A table of a promise, on a subject that has others.
struct Shop<'a> {
    subject: &'a dyn PartSubject,
    table: TableName,
    /// What names of operations and freezes begin with.
    name: &'a str,
}

type Promise = fn(&Shop<'_>);

/// Every promise, by name.
const ALL: [(&str, Promise); 13] = [
    ("one_state", inventories_agree),
    ("refusals", a_refused_table_keeps_no_other_from_being_frozen),
    ("files", files_are_found_where_they_are),
    ("brought", what_is_brought_is_whole_or_has_no_name),
    ("stopped", a_supplier_can_end_it),
    ("attached", attaching_again_attaches_nothing),
    ("dropped", a_part_that_is_gone_is_planned_anew),
    ("exchanged", an_exchange_gives_a_partition_just_its_parts),
    ("came", what_came_since_stops_goes_or_stays),
    ("merges", stopped_merges_are_noted_and_start_again),
    ("names", tables_are_created_renamed_and_dropped),
    ("bytes", damage_is_found_by_reading),
    ("left", an_operation_leaves_nothing),
];

pub fn keeps_every_promise(subject: &dyn PartSubject) {
    for (name, promise) in ALL {
        println!("{name}");
        let table = TableName::new("promises", name);
        subject.create(&table);
        promise(&Shop {
            subject,
            table,
            name,
        });
    }
}

impl Shop<'_> {
    fn store(&self) -> &dyn PartStore {
        self.subject.store()
    }

    fn operation(&self, number: u32) -> String {
        format!("mend-{number}-{}", self.name)
    }

    fn freeze_name(&self, number: u32) -> String {
        format!("backup-{number}-{}", self.name)
    }

    fn insert(&self, partition: u8, round: u32) {
        self.subject.insert(&self.table, partition, round);
    }

    fn partition(&self, partition: &str) -> Vec<Part> {
        self.store().partition(&self.table, partition).unwrap()
    }

    fn hashes(&self, partition: &str) -> Vec<Hash128> {
        let parts = self.partition(partition);
        parts.iter().map(|part| part.hash).collect()
    }

    fn names(&self, partition: &str) -> Vec<String> {
        let parts = self.partition(partition);
        parts.into_iter().map(|part| part.name).collect()
    }

    fn freeze(&self, number: u32) -> Vec<FrozenPart> {
        let tables = [FreezeTable {
            name: self.table.clone(),
            partitions: None,
        }];
        let frozen = self.store().freeze(&self.freeze_name(number), &tables);
        frozen.unwrap().remove(0).parts
    }

    fn thaw(&self, number: u32) {
        self.store().drop_freeze(&self.freeze_name(number)).unwrap();
    }

    /// What a part that is frozen is staged as.
    fn to_stage(&self, operation: &str, place: usize, part: &FrozenPart) -> StagedPart {
        let store = self.store();
        let stage = store.stage_directory(operation, &self.table, &part.disk);
        let content = store.read_part(&part.directory, &part.name, &part.disk);
        let hash = content.unwrap().part.hash;
        StagedPart {
            directory: stage.unwrap().join(format!("{place}-{hash}")),
            name: part.name.clone(),
            disk: part.disk.clone(),
            hash,
        }
    }

    fn bring(&self, staged: &StagedPart, from: &Path) -> mendb_engines::Result<Bringing> {
        let part = PartToBring {
            staged: staged.clone(),
            from: PartFrom::Elsewhere(0),
        };
        self.store().bring(&self.table, &[part], &mut Copies(from))
    }

    fn stage(&self, operation: &str, place: usize, part: &FrozenPart) -> StagedPart {
        let staged = self.to_stage(operation, place, part);
        let brought = self.bring(&staged, &part.directory).unwrap();
        assert!(matches!(brought, Bringing::Done(_)), "{brought:?}");
        staged
    }

    fn exchange(
        &self,
        parts: &[Origin],
        seen: &[String],
        on_concurrent_insert: OnConcurrentInsert,
    ) -> mendb_engines::Result<()> {
        let seen: HashSet<String> = seen.iter().cloned().collect();
        let exchange = Exchange {
            partition_id: "1",
            parts,
            seen: &seen,
            damaged: &[],
            on_concurrent_insert,
        };
        self.store()
            .exchange(&self.operation(1), &self.table, &exchange)
    }

    fn finish(&self) {
        self.subject.engine().make_live(&self.operation(1)).unwrap();
    }
}

fn live(part: &Part) -> Origin {
    Origin::Live {
        name: part.name.clone(),
        hash: part.hash,
    }
}

fn inventories_agree(shop: &Shop<'_>) {
    for (partition, round) in [(1, 1), (2, 2), (1, 3)] {
        shop.insert(partition, round);
    }
    let store = shop.store();
    let all = store.inventory(&shop.table).unwrap();
    let by_partition = ["1", "2"].map(|id| shop.partition(id)).concat();
    let facts = |part: &Part| (part.name.clone(), part.hash, part.rows, part.disk.clone());
    let facts_of = |parts: &[Part]| parts.iter().map(facts).collect::<Vec<_>>();
    assert_eq!(facts_of(&all.parts), facts_of(&by_partition));
    let ids = store.partitions(&shop.table).unwrap().into_iter();
    let ids: Vec<String> = ids.map(|partition| partition.id).collect();
    assert_eq!(ids, ["1", "2"]);
    let disks = store.disks_of(&shop.table).unwrap();
    assert!(all.parts.iter().all(|part| disks.contains(&part.disk)));
    let frozen = shop.freeze(1);
    let contents = frozen.iter().map(|part| {
        let content = store.read_part(&part.directory, &part.name, &part.disk);
        facts(&content.unwrap().part)
    });
    assert_eq!(contents.collect::<Vec<_>>(), facts_of(&all.parts));
    // Another table of the name is told from it.
    let definition = store.table(&shop.table).unwrap().unwrap();
    store.drop_table(&shop.table).unwrap();
    store
        .create_table(&definition, &shop.table, &HashMap::new())
        .unwrap();
    let anew = store.inventory(&shop.table).unwrap();
    assert_ne!(anew.incarnation, all.incarnation);
    assert!(anew.parts.is_empty());
    shop.thaw(1);
}

fn a_refused_table_keeps_no_other_from_being_frozen(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let store = shop.store();
    let absent = TableName::new("promises", "absent");
    let tables = [absent.clone(), shop.table.clone()].map(|name| FreezeTable {
        name,
        partitions: None,
    });
    let freeze = shop.freeze_name(1);
    let frozen = store.freeze_each(&freeze, &tables).unwrap();
    assert_eq!(frozen.tables.len(), 1);
    assert_eq!(frozen.refused.len(), 1);
    assert_eq!(frozen.refused[0].name, absent);
    assert!(frozen.refused[0].error.is_of_what_was_asked());
    assert_eq!(store.frozen(&freeze, &shop.table).unwrap().len(), 1);
    store.freeze(&freeze, &tables).unwrap_err();
    let none = store.frozen(&freeze, &shop.table).unwrap_err();
    assert_eq!(none.remedy, Remedy::Refreeze);
    assert!(!shop.subject.engine().is_frozen(&freeze).unwrap());
    assert_eq!(store.table(&absent).unwrap(), None);
    let catalogue = store.catalogue(&Selection {
        tables: "promises.refusals,promises.absent".to_owned(),
        ..Selection::default()
    });
    let catalogue = catalogue.unwrap();
    assert_eq!(catalogue.tables.len(), 1);
    assert_eq!(catalogue.unmatched.len(), 1);
}

fn files_are_found_where_they_are(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let frozen = shop.freeze(1);
    let store = shop.store();
    let part = &frozen[0];
    let content = store.read_part(&part.directory, &part.name, &part.disk);
    let files = content.unwrap().files.into_iter();
    let mut wanted: HashSet<FileChecksum> = files
        .filter_map(|file| {
            Some(FileChecksum {
                bytes: file.bytes,
                hash: file.checksum?,
            })
        })
        .collect();
    assert!(!wanted.is_empty());
    let nowhere = FileChecksum {
        bytes: 12_345,
        hash: Hash128([7; 16]),
    };
    wanted.insert(nowhere);
    // They are in what is frozen, too.
    for _ in 0..2 {
        let found = store.find_files(&shop.table, &wanted).unwrap();
        assert_eq!(found.len(), wanted.len() - 1);
        assert!(!found.contains_key(&nowhere));
        for (file, path) in &found {
            assert_eq!(fs::metadata(path).unwrap().len(), file.bytes);
        }
        store.drop_table(&shop.table).unwrap();
        shop.subject.create(&shop.table);
    }
    shop.thaw(1);
}

fn what_is_brought_is_whole_or_has_no_name(shop: &Shop<'_>) {
    shop.insert(1, 1);
    shop.insert(2, 2);
    let frozen = shop.freeze(1);
    let operation = shop.operation(1);
    let (one, two) = (&frozen[0], &frozen[1]);
    let staged = shop.to_stage(&operation, 0, one);
    // Another part is not taken for it.
    let other = shop.bring(&staged, &two.directory);
    assert!(!matches!(other, Ok(Bringing::Done(_))), "{other:?}");
    assert!(!staged.directory.exists());
    shop.stage(&operation, 0, one);
    let store = shop.store();
    let read = store.read_part(&staged.directory, &staged.name, &staged.disk);
    assert_eq!(read.unwrap().part.hash, staged.hash);
    // What has its name is left alone.
    let again = shop.bring(&staged, &two.directory).unwrap();
    let Bringing::Done(brought) = again else {
        panic!("{again:?}")
    };
    assert_eq!(brought.fetched_files + brought.linked_bytes, 0);
    // A directory is proved byte for byte.
    let damaged = tempfile::tempdir().unwrap();
    let directory = damaged.path().join("part");
    copies::copy(&two.directory, &directory);
    let largest = fs::read_dir(&directory)
        .unwrap()
        .map(|it| it.unwrap().path());
    let largest = largest.filter(|path| path.extension().is_some_and(|it| it != "txt"));
    let largest = largest.max_by_key(|path| fs::metadata(path).unwrap().len());
    let largest = largest.unwrap_or_else(|| directory.join("texts.txt"));
    let mut bytes = fs::read(&largest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&largest, bytes).unwrap();
    let staged = shop.to_stage(&operation, 1, two);
    let part = PartToBring {
        staged: staged.clone(),
        from: PartFrom::Directory(&directory),
    };
    let refused = store.bring(&shop.table, &[part], &mut Copies(&directory));
    let refused = refused.unwrap();
    assert!(matches!(refused, Bringing::Damaged { .. }), "{refused:?}");
    assert!(!staged.directory.exists());
    shop.finish();
    shop.thaw(1);
}

/// Ends it at once.
struct Ends;

impl Supplier for Ends {
    fn go_on(&mut self) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
    fn place_of(&mut self, _: &FileChecksum) -> ControlFlow<(), Option<PathBuf>> {
        ControlFlow::Break(())
    }
    fn is_gone(&mut self, _: &FileChecksum) -> ControlFlow<(), Option<PathBuf>> {
        ControlFlow::Break(())
    }
    fn is_nowhere(&mut self, _: &FileChecksum) {}
    fn fetch(&mut self, _: &[(&PartFile, PathBuf)]) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
    fn fetch_part(&mut self, _: usize, _: &Path) -> ControlFlow<(), u64> {
        ControlFlow::Break(())
    }
}

fn a_supplier_can_end_it(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let frozen = shop.freeze(1);
    let operation = shop.operation(1);
    let staged = shop.to_stage(&operation, 0, &frozen[0]);
    let part = || PartToBring {
        staged: staged.clone(),
        from: PartFrom::Elsewhere(0),
    };
    let ended = shop
        .store()
        .bring(&shop.table, &[part()], &mut Ends)
        .unwrap();
    assert_eq!(ended, Bringing::Stopped);
    assert!(!staged.directory.exists());
    // What it left is in nobody's way.
    shop.stage(&operation, 0, &frozen[0]);
    shop.finish();
    shop.thaw(1);
}

fn attaching_again_attaches_nothing(shop: &Shop<'_>) {
    shop.insert(1, 1);
    shop.insert(1, 2);
    let frozen = shop.freeze(1);
    let before = shop.hashes("1");
    shop.exchange(&[], &shop.names("1"), OnConcurrentInsert::Fail)
        .unwrap();
    assert!(shop.hashes("1").is_empty());
    let operation = shop.operation(1);
    let staged: Vec<StagedPart> = (frozen.iter().enumerate())
        .map(|(place, part)| shop.stage(&operation, place, part))
        .collect();
    for _ in 0..2 {
        shop.store().attach(&shop.table, &staged).unwrap();
        assert_eq!(shop.hashes("1"), before);
    }
    shop.finish();
    shop.thaw(1);
}

fn a_part_that_is_gone_is_planned_anew(shop: &Shop<'_>) {
    let store = shop.store();
    if !store.can_drop_parts() {
        return;
    }
    shop.insert(1, 1);
    shop.insert(1, 2);
    let names = shop.names("1");
    store.drop_parts(&shop.table, &names[..1]).unwrap();
    assert_eq!(shop.names("1"), names[1..]);
    let gone = store.drop_parts(&shop.table, &names[..1]).unwrap_err();
    assert_eq!(gone.remedy, Remedy::Replan, "{gone}");
}

fn an_exchange_gives_a_partition_just_its_parts(shop: &Shop<'_>) {
    shop.insert(1, 1);
    shop.insert(1, 2);
    let frozen = shop.freeze(1);
    let wanted = shop.hashes("1");
    let kept = shop.partition("1").remove(1);
    shop.exchange(&[live(&kept)], &shop.names("1"), OnConcurrentInsert::Fail)
        .unwrap();
    assert_eq!(shop.hashes("1"), wanted[1..]);
    shop.insert(1, 3);
    shop.insert(2, 4);
    let others = shop.hashes("2");
    let operation = shop.operation(1);
    let staged = shop.stage(&operation, 0, &frozen[0]);
    let kept = shop.partition("1").remove(0);
    let parts = [Origin::Staged(staged.clone()), live(&kept)];
    let seen = shop.names("1");
    shop.exchange(&parts, &seen, OnConcurrentInsert::Fail)
        .unwrap();
    assert_eq!(shop.hashes("1"), wanted);
    let names = shop.names("1");
    // Again, as after a crash: by content, for the names are others.
    shop.exchange(&parts, &seen, OnConcurrentInsert::Fail)
        .unwrap();
    assert_eq!(shop.names("1"), names);
    assert!(staged.directory.exists(), "it can be used again");
    shop.exchange(&[], &names, OnConcurrentInsert::Fail)
        .unwrap();
    assert!(shop.names("1").is_empty());
    assert_eq!(shop.hashes("2"), others);
    shop.finish();
    shop.thaw(1);
}

fn what_came_since_stops_goes_or_stays(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let seen = shop.names("1");
    shop.insert(1, 2);
    let before = shop.hashes("1");
    let stopped = shop.exchange(&[], &seen, OnConcurrentInsert::Fail);
    assert_eq!(stopped.unwrap_err().remedy, Remedy::Replan);
    assert_eq!(shop.hashes("1"), before);
    shop.exchange(&[], &seen, OnConcurrentInsert::Keep).unwrap();
    assert_eq!(shop.hashes("1"), before[1..]);
    shop.exchange(&[], &[], OnConcurrentInsert::Remove).unwrap();
    assert!(shop.hashes("1").is_empty());
    shop.finish();
}

fn stopped_merges_are_noted_and_start_again(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let (store, engine) = (shop.store(), shop.subject.engine());
    let operation = shop.operation(1);
    let is_noted = || {
        let locks = engine.locks().unwrap();
        locks.iter().any(|lock| lock.operation == operation)
    };
    store.start_merges(&operation, &shop.table).unwrap();
    for _ in 0..2 {
        store.stop_merges(&operation, &shop.table).unwrap();
        assert!(is_noted());
    }
    let go_on = HashSet::from([operation.clone()]);
    store.start_forgotten_merges(&go_on).unwrap();
    assert!(is_noted(), "its operation goes on");
    store.start_forgotten_merges(&HashSet::new()).unwrap();
    assert!(!is_noted());
    store
        .kill_mutations(&shop.table, &["mutation_99.txt".to_owned()])
        .unwrap();
}

fn tables_are_created_renamed_and_dropped(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let store = shop.store();
    let definition = store.table(&shop.table).unwrap().unwrap();
    let none = HashMap::new();
    let refused = store.create_table(&definition, &shop.table, &none);
    assert!(refused.is_err(), "it is there");
    let (other, third) = (
        TableName::new("promises", "other"),
        TableName::new("promises", "third"),
    );
    let here = store.relocated(&definition, &other, &none).unwrap();
    store.create_table(&definition, &other, &none).unwrap();
    let created = store.table(&other).unwrap().unwrap();
    assert_eq!(here.differences(&created), []);
    assert!(definition.obstacles(&created).is_empty());
    let hashes = shop.hashes("1");
    store.rename_table(&shop.table, &third).unwrap();
    assert_eq!(store.table(&shop.table).unwrap(), None);
    let moved = store.partition(&third, "1").unwrap();
    assert_eq!(
        moved.iter().map(|part| part.hash).collect::<Vec<_>>(),
        hashes
    );
    for name in [&other, &third, &shop.table] {
        store.drop_table(name).unwrap();
        store.drop_table(name).unwrap();
    }
    assert!(store.has_database("promises").unwrap());
    assert!(!store.has_database("nothing").unwrap());
}

fn damage_is_found_by_reading(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let part = shop.partition("1").remove(0);
    let store = shop.store();
    let to_prove = [
        PartToProve {
            name: part.name.clone(),
            hash: part.hash,
            files: Vec::new(),
        },
        // Not live: left out.
        PartToProve {
            name: "1_900_900_0".to_owned(),
            hash: part.hash,
            files: Vec::new(),
        },
    ];
    let mut read = 0;
    let mut prove = |ends: bool| {
        let found = store.prove_live(&shop.table, &to_prove, &mut |bytes| {
            read += bytes;
            match ends {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        found.unwrap()
    };
    assert_eq!(prove(false), []);
    assert_eq!(prove(true), []);
    assert!(read > 0);
}

fn an_operation_leaves_nothing(shop: &Shop<'_>) {
    shop.insert(1, 1);
    let frozen = shop.freeze(1);
    let (one, two) = (shop.operation(1), shop.operation(2));
    let (store, engine) = (shop.store(), shop.subject.engine());
    let of_one = shop.stage(&one, 0, &frozen[0]);
    let of_two = shop.stage(&two, 0, &frozen[0]);
    store.stop_merges(&one, &shop.table).unwrap();
    let locked = |operation: &str| {
        let locks = engine.locks().unwrap().into_iter();
        let mut of_it = locks.filter(|lock| lock.operation == operation);
        of_it.any(|lock| lock.kind == LockKind::Restore)
    };
    assert!(locked(&one) && locked(&two));
    store.start_merges(&one, &shop.table).unwrap();
    for _ in 0..2 {
        store.drop_stage(&one, &shop.table).unwrap();
        engine.drop_staged(&one).unwrap();
    }
    assert!(!locked(&one) && !of_one.directory.exists());
    assert!(locked(&two) && of_two.directory.exists());
    assert_eq!(shop.hashes("1").len(), 1);
    engine.drop_staged(&two).unwrap();
    shop.thaw(1);
    let holds = engine.holds().unwrap();
    let of_it = holds
        .iter()
        .filter(|hold| hold.operation.ends_with(shop.name));
    assert_eq!(of_it.count(), 0);
}
