//! Which descriptor of which thread stands for which file, and where in it; and the working directories.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use crate::call::Call;
use crate::tree::Node;

/// What an open gave; duplicates share it.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) node: Node,
    /// The path below the root at its open.
    pub(crate) path: PathBuf,
    pub(crate) position: Cell<usize>,
    pub(crate) appends: Cell<bool>,
}

/// What the threads of a process share.
#[derive(Debug, Clone, Default)]
struct Table {
    descriptors: HashMap<i32, Rc<Description>>,
    /// The working directory, as an absolute path.
    directory: Vec<u8>,
}

/// The descriptors of all threads.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    tables: Vec<Table>,
    /// The table of each thread that was seen.
    of_thread: HashMap<u32, usize>,
    /// Who made each thread, and whether both have one table.
    parents: HashMap<u32, (u32, bool)>,
    first_directory: Vec<u8>,
}

impl Descriptors {
    /// Learns from all calls who made whom: a child can be seen before the call that made it ends.
    /// The first process begins in a working directory.
    pub(crate) fn new(calls: &[Call], directory: &[u8]) -> Self {
        let mut parents = HashMap::new();
        for call in calls {
            if !matches!(call.name.as_str(), "clone" | "clone3" | "fork" | "vfork") {
                continue;
            }
            if let Some(child) = call.result.and_then(|child| u32::try_from(child).ok()) {
                let shares = call
                    .arguments
                    .iter()
                    .any(|part| part.contains("CLONE_FILES"));
                parents.insert(child, (call.thread, shares));
            }
        }
        Self {
            parents,
            first_directory: directory.to_vec(),
            ..Self::default()
        }
    }

    /// Gives a thread its table: that of its parent, or a copy as of now.
    pub(crate) fn know(&mut self, thread: u32) -> usize {
        if let Some(table) = self.of_thread.get(&thread) {
            return *table;
        }
        let table = match self.parents.get(&thread).copied() {
            Some((parent, true)) => self.know(parent),
            Some((parent, false)) => {
                let parent = self.know(parent);
                self.add(self.tables[parent].clone())
            }
            None => {
                let directory = self.first_directory.clone();
                self.add(Table {
                    directory,
                    ..Table::default()
                })
            }
        };
        self.of_thread.insert(thread, table);
        table
    }

    fn add(&mut self, table: Table) -> usize {
        self.tables.push(table);
        self.tables.len() - 1
    }

    pub(crate) fn get(&mut self, thread: u32, number: i32) -> Option<Rc<Description>> {
        let table = self.know(thread);
        self.tables[table].descriptors.get(&number).cloned()
    }

    pub(crate) fn put(&mut self, thread: u32, number: i32, description: Option<Rc<Description>>) {
        let table = self.know(thread);
        let descriptors = &mut self.tables[table].descriptors;
        match description {
            Some(description) => descriptors.insert(number, description),
            None => descriptors.remove(&number),
        };
    }

    /// The working directory of a thread.
    pub(crate) fn directory(&mut self, thread: u32) -> &mut Vec<u8> {
        let table = self.know(thread);
        &mut self.tables[table].directory
    }
}
