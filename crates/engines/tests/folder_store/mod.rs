//! A part store in a directory, without a server: for the promises of the contract, and for tests of what stands on
//! it that need many stores. *Crash*: each change of what is live is one rename of its document.

mod change;
mod part;
mod place;
mod state;
mod store;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mendb_engines::{Data, Engine, FrozenPart, Hold, HoldKind, Lock, LockKind, PartStore, Result};
use mendb_model::part::{Mutation, TableDefinition, TableName};

pub use part::Rows;
use state::State;

/// The name of its only disk.
pub const DISK: &str = "default";
/// What the name of a freeze begins with by which a mend can be undone; the operation follows, and then what tells
/// its tables apart.
const UNDO: &str = "undo_";

/// What a table holds: the partition and the rows of each part, sorted.
pub type Contents = BTreeMap<String, Vec<(String, Rows)>>;

pub struct FolderStore {
    root: PathBuf,
    state: Mutex<State>,
}

/// A table of numbers and texts. Tables with another comment differ, and can be altered; those with another type of
/// the texts take no parts of each other.
pub fn definition(name: &TableName, text_type: &str, comment: &str) -> TableDefinition {
    let create_query = format!(
        "CREATE TABLE {}.{} (`number` Int64, `text` {text_type}) ENGINE = MergeTree PARTITION BY number % 10 ORDER \
         BY number SETTINGS index_granularity = 8192 COMMENT '{comment}'",
        name.database, name.table
    );
    TableDefinition {
        name: name.clone(),
        engine: "MergeTree".to_owned(),
        create_query,
        whole_query: None,
        partition_key: "number % 10".to_owned(),
        sorting_key: "number".to_owned(),
        primary_key: "number".to_owned(),
        columns: vec![
            ("number".to_owned(), "Int64".to_owned()),
            ("text".to_owned(), text_type.to_owned()),
        ],
        storage_policy: String::new(),
        has_ttl: false,
        row_policies: Some(BTreeMap::new()),
    }
}

/// What its users do.
impl FolderStore {
    pub fn open(root: &Path) -> Self {
        fs::create_dir_all(root).unwrap();
        Self {
            root: root.to_owned(),
            state: Mutex::new(State::read(root)),
        }
    }

    pub fn create(&self, definition: TableDefinition) {
        self.change(|state| {
            state.databases.insert(definition.name.database.clone());
            state.add(definition);
            Ok(())
        })
        .unwrap();
    }

    /// Makes a part of rows.
    pub fn insert(&self, name: &TableName, partition_id: &str, rows: &[(i64, &str)]) {
        let rows = rows
            .iter()
            .map(|(number, text)| (*number, (*text).to_owned()));
        let rows: Rows = rows.collect();
        self.change(|state| {
            let table = state.table_mut(name)?;
            let part = table.new_name(partition_id);
            part::write(&table.directory(&self.root).join(&part), &rows).unwrap();
            table.parts.insert(part);
            Ok(())
        })
        .unwrap();
    }

    /// Removes the parts of a partition.
    pub fn drop_partition(&self, name: &TableName, partition_id: &str) {
        self.change(|state| {
            let table = state.table_mut(name)?;
            for part in table.parts_of(partition_id) {
                table.parts.remove(&part);
            }
            Ok(())
        })
        .unwrap();
    }

    /// Gives a text to all rows of a partition, as a mutation does.
    pub fn update(&self, name: &TableName, partition_id: &str, text: &str) {
        let partitions = [partition_id.to_owned()];
        let command = format!("UPDATE text = '{text}' WHERE 1");
        let known = self.mutation_ids(name).unwrap();
        self.mutate(name, &command, Some(&partitions), &known)
            .unwrap();
    }

    /// Begins a mutation that reaches no part.
    pub fn begin_mutation(&self, name: &TableName, command: &str) {
        self.change(|state| {
            let table = state.table_mut(name)?;
            let mutation_id = format!("mutation_{}.txt", table.next_number());
            table.mutation_ids.push(mutation_id.clone());
            table.mutations.push(Mutation {
                mutation_id,
                command: command.to_owned(),
                parts_to_do: table.parts.len() as u64,
            });
            Ok(())
        })
        .unwrap();
    }

    /// Changes a byte of each part of a partition, behind the back of the store.
    pub fn rot(&self, name: &TableName, partition_id: &str) {
        let state = self.state();
        let table = state.table(name).unwrap();
        for part in table.parts_of(partition_id) {
            let file = table.directory(&self.root).join(part).join("texts.txt");
            let mut bytes = fs::read(&file).unwrap();
            bytes[0] ^= 1;
            // What is frozen shares the file.
            fs::remove_file(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        }
    }

    /// What parts in a freeze hold, as a table would.
    pub fn contents_of(frozen: impl Iterator<Item = FrozenPart>) -> Vec<(String, Rows)> {
        let mut parts: Vec<_> = frozen
            .map(|part| content(&part.name, &part.directory))
            .collect();
        parts.sort();
        parts
    }

    /// What tables hold.
    pub fn contents(&self) -> Contents {
        let state = self.state();
        let of_table = |table: &state::Table| {
            let directory = table.directory(&self.root);
            let part = |name: &String| content(name, &directory.join(name));
            let mut parts: Vec<_> = table.parts.iter().map(part).collect();
            parts.sort();
            (table.definition.name.to_string(), parts)
        };
        state.tables.iter().map(of_table).collect()
    }

    /// Names of what is left of operations: stopped merges, what they have staged, and freezes that are not kept to
    /// undo a mend by.
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.state();
        let mut left: Vec<String> = state.stopped.keys().cloned().collect();
        left.extend(state.staged.keys().cloned());
        let freezes = state.freezes.keys().cloned();
        left.extend(freezes.filter(|freeze| !freeze.starts_with(UNDO)));
        let staged = fs::read_dir(self.root.join("mendb")).into_iter().flatten();
        left.extend(staged.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        left
    }

    /// Names of the freezes by which mends can be undone.
    pub fn kept(&self) -> Vec<String> {
        let state = self.state();
        let freezes = state.freezes.keys().cloned();
        freezes.filter(|freeze| freeze.starts_with(UNDO)).collect()
    }
}

fn content(part: &str, directory: &Path) -> (String, Rows) {
    let partition = part.split('_').next().unwrap().to_owned();
    (partition, part::rows(directory).unwrap())
}

impl Engine for FolderStore {
    fn data(&self) -> Data<'_> {
        Data::Parts(self)
    }

    fn identify(&self, new_id: &str) -> Result<String> {
        self.change(|state| Ok(state.id.get_or_insert_with(|| new_id.to_owned()).clone()))
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        let state = self.state();
        let mut locks = Vec::new();
        for (freeze, tables) in &state.freezes {
            if !freeze.starts_with(UNDO) {
                locks.extend(tables.iter().map(|frozen| Lock {
                    table: frozen.table.to_string(),
                    operation: freeze.clone(),
                    kind: LockKind::Backup,
                }));
            }
        }
        for (operation, tables) in state.staged.iter().chain(&state.stopped) {
            locks.extend(tables.iter().map(|table| Lock {
                table: table.to_string(),
                operation: operation.clone(),
                kind: LockKind::Restore,
            }));
        }
        Ok(locks)
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        let mut holds: Vec<Hold> = self.locks()?.into_iter().map(Hold::from).collect();
        for (freeze, tables) in &self.state().freezes {
            let mend = freeze
                .strip_prefix(UNDO)
                .and_then(|rest| rest.rsplit_once('_'));
            if let Some((operation, _)) = mend {
                holds.extend(tables.iter().map(|frozen| Hold {
                    table: frozen.table.to_string(),
                    operation: operation.to_owned(),
                    kind: HoldKind::Kept,
                }));
            }
        }
        Ok(holds)
    }

    fn drop_kept(&self, operation: &str) -> Result<()> {
        let kept = self.kept().into_iter();
        let kept = kept.filter(|freeze| freeze.starts_with(&format!("{UNDO}{operation}_")));
        for freeze in kept {
            self.drop_freeze(&freeze)?;
        }
        Ok(())
    }

    fn is_frozen(&self, operation: &str) -> Result<bool> {
        Ok(self.state().freezes.contains_key(operation))
    }

    fn thaw(&self, operation: &str) -> Result<()> {
        self.drop_freeze(operation)
    }

    fn make_live(&self, operation: &str) -> Result<()> {
        self.remove(&self.root.join("mendb").join(operation))?;
        // Fails while others use it.
        let _ = fs::remove_dir(self.root.join("mendb"));
        self.change(|state| {
            state.stopped.remove(operation);
            state.staged.remove(operation);
            Ok(())
        })
    }

    fn drop_staged(&self, operation: &str) -> Result<()> {
        self.make_live(operation)
    }
}
