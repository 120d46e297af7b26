//! A table of parts in memory that does what servers do to parts, and knows what rows are in which:
//! what plans and proofs are held against in tests.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::*;

/// A row: its key and its value.
pub type Row = (u8, u16);

/// What happens to a table.
#[derive(Debug, Clone)]
pub enum Happening {
    /// Rows arrive. Few seeds, so that the same rows arrive again.
    Insert { partition: u8, seed: u8, rows: u8 },
    /// Parts that follow each other are merged.
    Merge {
        at: prop::sample::Index,
        parts: usize,
    },
    /// Rows of some keys change.
    Mutate { key: u8 },
    /// A part goes.
    Drop { at: prop::sample::Index },
    /// Rows arrive in a part that is attached, of which the log does not tell.
    Attach { partition: u8, rows: u8 },
    /// A part is set aside. Old servers do not log that.
    Detach { at: prop::sample::Index },
    /// What was set aside last is attached: the log does not tell.
    Reattach,
    /// Rows arrive that were in a part once, to the byte.
    Again { at: prop::sample::Index },
    /// A partition gets its own parts anew: a mend, or `REPLACE PARTITION` from a copy.
    Exchange { partition: u8 },
    /// The server starts again. Numbers go on from the highest that a surviving part has, and the last
    /// line of the log may be lost.
    Restart,
    /// The table is detached and attached, in one run of the server: numbers go on as after a start.
    Reload,
}

pub fn happenings(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Happening>> {
    let at = any::<prop::sample::Index>;
    let happening = prop_oneof![
        4 => (0u8..3, 0u8..6, 1u8..3)
            .prop_map(|(partition, seed, rows)| Happening::Insert { partition, seed, rows }),
        4 => (at(), 1usize..4).prop_map(|(at, parts)| Happening::Merge { at, parts }),
        1 => (0u8..4).prop_map(|key| Happening::Mutate { key }),
        2 => at().prop_map(|at| Happening::Drop { at }),
        1 => (0u8..3, 1u8..3).prop_map(|(partition, rows)| Happening::Attach { partition, rows }),
        1 => at().prop_map(|at| Happening::Detach { at }),
        1 => Just(Happening::Reattach),
        1 => at().prop_map(|at| Happening::Again { at }),
        1 => (0u8..3).prop_map(|partition| Happening::Exchange { partition }),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Reload),
    ];
    prop::collection::vec(happening, count)
}

/// More than a second: what was written before a state was taken is told from what came after.
const A_WHILE_MS: u64 = 1003;

/// A table, and what ever was in its parts.
#[derive(Debug, Clone)]
pub struct World {
    pub parts: Vec<Part>,
    pub log: Vec<PartEvent>,
    pub now_ms: u64,
    /// The server is of an age that does not log what is detached.
    pub is_old: bool,
    /// Merges keep the last row of a key only.
    pub replacing: bool,
    /// Rows of every part there ever was, in order.
    contents: HashMap<Hash128, Vec<Row>>,
    /// What was in the parts that were detached, the last one last, and where.
    detached: Vec<(String, Hash128)>,
    next_block: i64,
    next_value: u16,
    runs: i64,
}

impl World {
    pub fn new(replacing: bool) -> Self {
        Self {
            parts: Vec::new(),
            log: Vec::new(),
            now_ms: 1_000_000,
            is_old: false,
            replacing,
            contents: HashMap::new(),
            detached: Vec::new(),
            next_block: 1,
            next_value: 1000,
            runs: 0,
        }
    }

    pub fn after(happenings: &[Happening], replacing: bool) -> Self {
        let mut world = Self::new(replacing);
        happenings
            .iter()
            .for_each(|happening| world.apply(happening));
        world
    }

    pub fn apply(&mut self, happening: &Happening) {
        self.pass_time();
        match happening {
            Happening::Insert {
                partition,
                seed,
                rows,
            } => {
                let rows = (0..*rows)
                    .map(|row| ((seed + row) % 4, u16::from(*seed)))
                    .collect();
                let name = self.add(&partition.to_string(), rows);
                self.tell(&name, PartEventKind::Came);
            }
            Happening::Attach { partition, rows } => {
                self.next_value += 1;
                let value = self.next_value;
                let rows = (0..*rows).map(|row| (row % 4, value)).collect();
                self.add(&partition.to_string(), rows);
            }
            Happening::Merge { at, parts } => {
                if !self.parts.is_empty() {
                    self.merge(at.index(self.parts.len()), *parts);
                }
            }
            Happening::Mutate { key } => self.mutate(*key),
            Happening::Drop { at } if !self.parts.is_empty() => {
                self.remove(at.index(self.parts.len()));
            }
            Happening::Detach { at } if !self.parts.is_empty() => {
                self.detach(at.index(self.parts.len()));
            }
            Happening::Again { at } if !self.parts.is_empty() => {
                self.insert_again(at.index(self.parts.len()));
            }
            Happening::Drop { .. } | Happening::Detach { .. } | Happening::Again { .. } => {}
            Happening::Reattach => self.reattach(),
            Happening::Exchange { partition } => self.exchange(&partition.to_string()),
            Happening::Restart => self.restart(),
            Happening::Reload => self.load(),
        }
    }

    pub fn pass_time(&mut self) {
        self.now_ms += 2 * A_WHILE_MS;
    }

    pub fn remove(&mut self, at: usize) {
        let gone = self.parts.remove(at);
        self.tell(&gone.name, PartEventKind::Went);
    }

    pub fn detach(&mut self, at: usize) {
        let gone = self.parts.remove(at);
        self.detached.push((gone.partition_id, gone.hash));
        if !self.is_old {
            self.tell(&gone.name, PartEventKind::Went);
        }
    }

    pub fn reattach(&mut self) {
        if let Some((partition, hash)) = self.detached.pop() {
            self.take_in(&partition, hash);
        }
    }

    /// Inserts what a part has once more, to the byte.
    pub fn insert_again(&mut self, at: usize) {
        let again = self.parts[at].clone();
        let name = self.take_in(&again.partition_id, again.hash);
        self.tell(&name, PartEventKind::Came);
    }

    pub fn exchange(&mut self, partition_id: &str) {
        let (old, others): (Vec<Part>, Vec<Part>) =
            (self.parts.drain(..)).partition(|part| part.partition_id == partition_id);
        self.parts = others;
        for part in &old {
            self.take_in(partition_id, part.hash);
        }
        for part in old {
            self.tell(&part.name, PartEventKind::Went);
        }
    }

    /// What the log has not written yet is lost.
    pub fn restart(&mut self) {
        self.runs += 1;
        self.log.pop();
        self.load();
    }

    /// Loads the table: numbers go on from the highest that is there.
    pub fn load(&mut self) {
        let highest = self.parts.iter().map(Part::highest_number).max();
        self.next_block = highest.unwrap_or(0) + 1;
    }

    /// A row that there never was arrives. Returns the name of its part.
    pub fn insert(&mut self, partition: &str) -> String {
        self.next_value += 1;
        let name = self.add(partition, vec![(0, self.next_value)]);
        self.tell(&name, PartEventKind::Came);
        name
    }

    /// A part of these rows, under the next number. Returns its name.
    pub fn add(&mut self, partition: &str, rows: Vec<Row>) -> String {
        let block = self.next_block;
        self.next_block += 1;
        let name = format!("{partition}_{block}_{block}_0");
        let part = self.part(&name, rows, "inserted");
        self.parts.push(part);
        self.sort();
        name
    }

    /// Merges a part with those that follow it in its partition.
    pub fn merge(&mut self, at: usize, parts: usize) {
        let partition_id = self.parts[at].partition_id.clone();
        let sources: Vec<Part> = self.parts[at..]
            .iter()
            .take(parts)
            .take_while(|part| part.partition_id == partition_id)
            .cloned()
            .collect();
        let mut rows: Vec<Row> = sources
            .iter()
            .flat_map(|part| self.rows(part.hash))
            .collect();
        if self.replacing {
            rows = last_of_each_key(&rows).into_iter().collect();
        }
        let name = PartName {
            partition_id,
            min_block: sources[0].min_block,
            max_block: sources[sources.len() - 1].max_block,
            level: sources.iter().map(|part| part.level).max().unwrap() + 1,
            mutation: sources.iter().map(|part| part.mutation).max().unwrap(),
            days: None,
        }
        .to_string();
        let merged = self.part(&name, rows, "merged");
        self.parts.splice(at..at + sources.len(), [merged]);
        let names: Vec<String> = sources.into_iter().map(|part| part.name).collect();
        self.tell(&name, PartEventKind::Merged(names.clone()));
        for name in names {
            self.tell(&name, PartEventKind::Went);
        }
    }

    fn mutate(&mut self, key: u8) {
        let number = self.next_block;
        self.next_block += 1;
        for at in 0..self.parts.len() {
            let part = self.parts[at].clone();
            let mut rows = self.rows(part.hash);
            let reached = rows.iter().any(|row| row.0 == key);
            self.next_value += 1;
            let value = self.next_value;
            rows.iter_mut()
                .filter(|row| row.0 == key)
                .for_each(|row| row.1 = value);
            let name = PartName {
                partition_id: part.partition_id.clone(),
                min_block: part.min_block,
                max_block: part.max_block,
                level: part.level,
                mutation: number,
                days: None,
            };
            let name = name.to_string();
            self.parts[at] = if reached {
                self.part(&name, rows, "mutated")
            } else {
                Part {
                    name: name.clone(),
                    mutation: number,
                    ..part.clone()
                }
            };
            self.tell(&name, PartEventKind::Came);
            self.tell(&part.name, PartEventKind::Went);
        }
    }

    /// Does what a plan says, with the parts it wants.
    pub fn carry_out(&mut self, plan: &TablePlan, wanted: &[Wanted]) {
        for partition in &plan.partitions {
            let gone = |name: &str| partition.remove.iter().any(|part| part.name == name);
            match partition.action {
                Action::Nothing => {}
                Action::Drop => {
                    assert!(partition.fetch.is_empty());
                    self.parts.retain(|part| !gone(&part.name));
                }
                Action::Attach => {
                    assert!(partition.remove.is_empty());
                    for part in &partition.fetch {
                        self.attach(&wanted[part.wanted as usize].part);
                    }
                }
                Action::Swap | Action::RemoveFirst => {
                    let kept = partition.keep.iter().map(|kept| {
                        let live = self.parts.iter().find(|part| part.name == kept.name);
                        let at = kept.holds.first().copied();
                        (at, live.expect("what is kept is live").clone())
                    });
                    let mut content: Vec<(Option<u32>, Part)> = kept.collect();
                    let fetched = partition.fetch.iter();
                    content.extend(fetched.map(|part| {
                        (Some(part.wanted), wanted[part.wanted as usize].part.clone())
                    }));
                    // What the backup does not know came last.
                    content.sort_by_key(|(at, part)| match at {
                        Some(at) => (false, wanted[*at as usize].part.order()),
                        None => (true, part.order()),
                    });
                    self.parts
                        .retain(|part| part.partition_id != partition.partition_id);
                    content.iter().for_each(|(_, part)| self.attach(part));
                }
            }
        }
    }

    fn attach(&mut self, part: &Part) {
        self.take_in(&part.partition_id, part.hash);
    }

    /// A part of content that there was before, under the next number. Returns its name.
    fn take_in(&mut self, partition: &str, hash: Hash128) -> String {
        let block = self.next_block;
        self.next_block += 1;
        let name = format!("{partition}_{block}_{block}_0");
        let rows = self.rows(hash).len() as u64;
        let part = self.written(&name, rows, hash);
        self.parts.push(part);
        self.sort();
        name
    }

    /// The part log of a server that keeps one.
    pub fn part_log(&self) -> PartLog {
        PartLog {
            begins_at_ms: Some(0),
            tells_what_went: !self.is_old,
            events: self.log.clone(),
        }
    }

    pub fn inventory(&self) -> Inventory {
        Inventory {
            taken_at_ms: self.now_ms + A_WHILE_MS,
            incarnation: "the table".to_owned(),
            run: ServerRun {
                host: "here".to_owned(),
                started_at_s: self.runs * 100,
            },
            parts: self.parts.clone(),
            mutations: Vec::new(),
            patches: Vec::new(),
            partitions: BTreeMap::new(),
            is_replicated: false,
        }
    }

    /// All parts, as a backup wants them.
    pub fn wanted(&self) -> Vec<Wanted> {
        let wanted = |(at, part): (usize, &Part)| Wanted {
            part: part.clone(),
            list: 0,
            position: at as u32,
            is_empty: part.rows == 0,
        };
        self.parts.iter().enumerate().map(wanted).collect()
    }

    /// Rows of what has this hash, here or ever before.
    pub fn rows(&self, hash: Hash128) -> Vec<Row> {
        self.contents[&hash].clone()
    }

    /// Rows by partition, in the order of parts.
    pub fn rows_by_partition(&self) -> BTreeMap<String, Vec<Row>> {
        let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for part in &self.parts {
            rows.entry(part.partition_id.clone())
                .or_default()
                .extend(self.rows(part.hash));
        }
        rows
    }

    fn part(&mut self, name: &str, rows: Vec<Row>, made: &str) -> Part {
        let hash = Hash128(xxh3_128(format!("{made}{rows:?}").as_bytes()).to_be_bytes());
        let count = rows.len() as u64;
        self.contents.insert(hash, rows);
        self.written(name, count, hash)
    }

    fn written(&self, name: &str, rows: u64, hash: Hash128) -> Part {
        Part {
            modified_at_s: Some(self.now_ms.cast_signed() / 1000),
            ..Part::new(name, rows, rows * 10, hash, "default").unwrap()
        }
    }

    /// Lines of one happening follow each other in time.
    fn tell(&mut self, part: &str, kind: PartEventKind) {
        let before = self.log.last().map_or(0, |event| event.at_ms);
        self.log.push(PartEvent {
            at_ms: self.now_ms.max(before + 1),
            part: part.to_owned(),
            kind,
        });
    }

    fn sort(&mut self) {
        self.parts
            .sort_by(|a, b| (&a.partition_id, a.order()).cmp(&(&b.partition_id, b.order())));
    }
}

pub fn last_of_each_key(rows: &[Row]) -> BTreeMap<u8, u16> {
    rows.iter().copied().collect()
}

pub fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

/// A part whose content is told by a number, written long ago.
pub fn part(name: &str, rows: u64, content: u8) -> Part {
    Part {
        modified_at_s: Some(1),
        ..Part::new(name, rows, rows * 10, Hash128([content; 16]), "default").unwrap()
    }
}

/// These parts, all of one table and one run of the server.
pub fn inventory(parts: &[Part]) -> Inventory {
    Inventory {
        parts: parts.to_vec(),
        ..World::new(false).inventory()
    }
}
