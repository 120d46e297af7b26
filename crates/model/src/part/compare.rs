//! What of a table is kept, removed and fetched: live parts against those of the backup.
//!
//! Both are multisets of (partition, hash), for a table can hold one content twice. What both have stays,
//! as often as it is wanted; then live parts that are provably merges of wanted ones stay, if all that
//! they hold is still wanted; the rest of the live parts goes, the rest of the wanted parts comes.
//! Names decide nothing except which of two equal parts stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::lineage::Explained;
use super::name::PartName;
use super::plan::{Action, Fetched, Kept, PartitionPlan, Proof, Removed, TablePlan, Wanted};
use super::since::since_backup;
use super::table::TableName;

/// All that a comparison looks at.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// The table in the backup.
    pub source: &'a TableName,
    /// The table on the target.
    pub target: &'a TableName,
    /// Parts that should be live. Plans name them by their place here.
    pub wanted: &'a [Wanted],
    /// What was live at the time of the backup, where the backup tells.
    pub current_parts: Option<&'a Inventory>,
    /// What is live; `None` for a table that does not exist.
    pub live: Option<&'a Inventory>,
    /// What live parts are known to be, in the order of the inventory; what is not told is itself only.
    /// See [`super::explain`].
    pub explained: &'a [Vec<Explained>],
    /// Whether the order of parts decides what a query answers.
    pub order_sensitive: bool,
    /// Only these partitions, by id; others are not looked at, and not in the plan.
    pub only_partitions: Option<&'a BTreeSet<String>>,
}

impl Comparison<'_> {
    fn looks_at(&self, part: &Part) -> bool {
        self.only_partitions
            .is_none_or(|only| only.contains(&part.partition_id))
    }
}

/// Compares a table with its backup. Actions are those for ample room: see [`super::decide()`]. What has
/// to be fetched counts as downloaded in full until it is known what can be linked.
pub fn compare(comparison: &Comparison<'_>) -> TablePlan {
    let states = States::new(comparison);
    let ids: BTreeSet<&str> = states
        .wanted
        .keys()
        .chain(states.live.keys())
        .copied()
        .collect();
    let partitions: Vec<PartitionPlan> = ids
        .into_iter()
        .map(|id| states.compare_partition(id))
        .collect();
    let live = comparison.live.iter().flat_map(|live| &live.parts);
    TablePlan {
        source: comparison.source.clone(),
        target: comparison.target.clone(),
        create: comparison.live.is_none(),
        order_sensitive: comparison.order_sensitive,
        since_backup: comparison
            .current_parts
            .map(|then| since_backup(then, comparison.live, |part| comparison.looks_at(part))),
        live: live.map(|part| (part.name.clone(), part.hash)).collect(),
        kill_mutations: kill_mutations(comparison, &partitions),
        notes: Vec::new(),
        partitions,
    }
}

/// Compares one partition.
pub(super) fn compare_partition(comparison: &Comparison<'_>, partition_id: &str) -> PartitionPlan {
    States::new(comparison).compare_partition(partition_id)
}

/// Wanted and live parts by partition, as places in their lists, in the order of blocks.
struct States<'a> {
    comparison: &'a Comparison<'a>,
    wanted: BTreeMap<&'a str, Vec<usize>>,
    live: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> States<'a> {
    fn new(comparison: &'a Comparison<'a>) -> Self {
        let wanted = comparison.wanted.iter().map(|wanted| &wanted.part);
        let live = comparison.live.iter().flat_map(|live| &live.parts);
        Self {
            comparison,
            wanted: by_partition(wanted, comparison.only_partitions),
            live: by_partition(live, comparison.only_partitions),
        }
    }

    fn compare_partition(&self, partition_id: &str) -> PartitionPlan {
        let parts = self.comparison.live.map_or(&[][..], |live| &live.parts);
        let wanted: Vec<(u32, &Part)> = self
            .wanted
            .get(partition_id)
            .into_iter()
            .flatten()
            .map(|at| {
                let place = u32::try_from(*at).expect("a table has less than 2^32 parts");
                (place, &self.comparison.wanted[*at].part)
            })
            .collect();
        let live: Vec<LivePart<'_>> = self
            .live
            .get(partition_id)
            .into_iter()
            .flatten()
            .map(|at| LivePart {
                part: &parts[*at],
                ways: self
                    .comparison
                    .explained
                    .get(*at)
                    .map_or(&[][..], Vec::as_slice),
            })
            .collect();
        let mut matching = Matching::new(&wanted, &live);
        matching.take_equal();
        matching.take_merged(self.comparison.order_sensitive);
        matching.uncross();
        let patches = self.comparison.live.map_or(&[][..], |live| &live.patches);
        matching.plan(partition_id, self.comparison.order_sensitive, patches)
    }
}

fn by_partition<'a>(
    parts: impl Iterator<Item = &'a Part>,
    only: Option<&BTreeSet<String>>,
) -> BTreeMap<&'a str, Vec<usize>> {
    let list: Vec<&Part> = parts.collect();
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, part) in list.iter().enumerate() {
        if only.is_none_or(|only| only.contains(&part.partition_id)) {
            places.entry(&part.partition_id).or_default().push(at);
        }
    }
    for places in places.values_mut() {
        places.sort_by_key(|at| list[*at].order());
    }
    places
}

struct LivePart<'a> {
    part: &'a Part,
    ways: &'a [Explained],
}

/// Which live part of a partition serves as which wanted ones.
struct Matching<'a> {
    /// In the order of the backup, each with its place in the list of all wanted parts.
    wanted: &'a [(u32, &'a Part)],
    /// In the order of blocks.
    live: &'a [LivePart<'a>],
    /// Whether a live part serves as it.
    taken: Vec<bool>,
    /// Of each live part, places in `wanted`, and why; none for one that goes.
    keeps: Vec<Option<(Vec<usize>, Proof)>>,
}

impl<'a> Matching<'a> {
    fn new(wanted: &'a [(u32, &'a Part)], live: &'a [LivePart<'a>]) -> Self {
        Self {
            wanted,
            live,
            taken: vec![false; wanted.len()],
            keeps: vec![None; live.len()],
        }
    }

    /// What has the same content: first what also has the same name, then what has the lowest blocks.
    fn take_equal(&mut self) {
        let named: HashMap<(&str, Hash128), usize> = (0..self.wanted.len())
            .map(|place| {
                (
                    (
                        self.wanted[place].1.name.as_str(),
                        self.wanted[place].1.hash,
                    ),
                    place,
                )
            })
            .collect();
        for (at, LivePart { part, .. }) in self.live.iter().enumerate() {
            let place = named.get(&(part.name.as_str(), part.hash)).copied();
            if let Some(place) = place.filter(|place| !self.taken[*place]) {
                self.keep(at, vec![place], Proof::SameContent);
            }
        }
        let mut free = self.free();
        for (at, LivePart { part, .. }) in self.live.iter().enumerate() {
            let unmatched = self.keeps[at].is_none();
            let place = free.get_mut(&part.hash).filter(|_| unmatched);
            if let Some(place) = place.and_then(VecDeque::pop_front) {
                self.keep(at, vec![place], Proof::SameContent);
            }
        }
    }

    /// What is known to hold wanted parts and nothing else. Where order matters, these have to follow
    /// each other in the backup just as they do inside of the merged part.
    fn take_merged(&mut self, order_sensitive: bool) {
        let mut free = self.free();
        for (at, LivePart { ways, .. }) in self.live.iter().enumerate() {
            if self.keeps[at].is_some() {
                continue;
            }
            let found = ways
                .iter()
                .filter(|way| !way.holds.is_empty())
                .find_map(|way| {
                    let places = if order_sensitive {
                        self.find_run(&way.holds, &free)
                    } else {
                        take_all(&way.holds, &free)
                    };
                    places.map(|places| (places, way.proof))
                });
            if let Some((places, proof)) = found {
                for place in &places {
                    let hash = self.wanted[*place].1.hash;
                    let same = free
                        .get_mut(&hash)
                        .expect("what is free is listed by its hash");
                    same.retain(|other| other != place);
                }
                self.keep(at, places, proof);
            }
        }
    }

    /// Lets what is equal serve in its order: names, and which proof came first, may have crossed it.
    fn uncross(&mut self) {
        let mut equal_parts: HashMap<Hash128, Vec<usize>> = HashMap::new();
        for (at, live) in self.live.iter().enumerate() {
            if self.keeps[at].is_some() {
                equal_parts.entry(live.part.hash).or_default().push(at);
            }
        }
        for parts in equal_parts.into_values() {
            let mut keeps: Vec<_> = parts.iter().map(|at| self.keeps[*at].take()).collect();
            keeps.sort_by(|a, b| places_of(a).cmp(places_of(b)));
            for (at, keep) in parts.into_iter().zip(keeps) {
                self.keeps[at] = keep;
            }
        }
        // Those that serve as one part each, and as equal ones, whatever they are themselves.
        let mut equal_places: HashMap<Hash128, (Vec<usize>, Vec<usize>)> = HashMap::new();
        for (at, keep) in self.keeps.iter().enumerate() {
            if let [place] = places_of(keep) {
                let (parts, places) = equal_places.entry(self.wanted[*place].1.hash).or_default();
                parts.push(at);
                places.push(*place);
            }
        }
        for (parts, mut places) in equal_places.into_values() {
            places.sort_unstable();
            for (at, place) in parts.into_iter().zip(places) {
                if let Some((places, _)) = &mut self.keeps[at] {
                    *places = vec![place];
                }
            }
        }
    }

    /// Places of wanted parts that no live part serves as, by hash, in order.
    fn free(&self) -> HashMap<Hash128, VecDeque<usize>> {
        let mut free: HashMap<Hash128, VecDeque<usize>> = HashMap::new();
        for place in (0..self.wanted.len()).filter(|place| !self.taken[*place]) {
            free.entry(self.wanted[place].1.hash)
                .or_default()
                .push_back(place);
        }
        free
    }

    /// Places of wanted parts that are not taken and follow each other with these hashes.
    fn find_run(
        &self,
        hashes: &[Hash128],
        free: &HashMap<Hash128, VecDeque<usize>>,
    ) -> Option<Vec<usize>> {
        let starts = free.get(hashes.first()?)?;
        let fits = |start: &&usize| {
            hashes.iter().enumerate().all(|(offset, hash)| {
                let place = *start + offset;
                let wanted = self.wanted.get(place);
                wanted.is_some_and(|(_, part)| part.hash == *hash) && !self.taken[place]
            })
        };
        let start = *starts.iter().find(fits)?;
        Some((start..start + hashes.len()).collect())
    }

    fn keep(&mut self, at: usize, places: Vec<usize>, proof: Proof) {
        for place in &places {
            let was_taken = std::mem::replace(&mut self.taken[*place], true);
            assert!(!was_taken, "two live parts serve as one wanted part");
        }
        self.keeps[at] = Some((places, proof));
    }

    fn plan(self, partition_id: &str, order_sensitive: bool, patches: &[String]) -> PartitionPlan {
        let served = self.keeps.iter().flatten().flat_map(|(places, _)| places);
        let in_order = served.is_sorted();
        let kept = self
            .live
            .iter()
            .zip(&self.keeps)
            .filter(|(_, keep)| keep.is_some());
        let is_patched = kept
            .into_iter()
            .any(|(live, _)| is_patched(live.part, patches));

        let (mut keep, mut remove) = (Vec::new(), Vec::new());
        for (LivePart { part, .. }, kept) in self.live.iter().zip(self.keeps) {
            match kept {
                Some((mut places, proof)) => {
                    places.sort_unstable();
                    keep.push(Kept {
                        name: part.name.clone(),
                        hash: part.hash,
                        holds: places.iter().map(|place| self.wanted[*place].0).collect(),
                        rows: part.rows,
                        bytes: part.bytes,
                        proof,
                    });
                }
                None => remove.push(removed(part)),
            }
        }
        let place_of: HashMap<u32, usize> = self
            .wanted
            .iter()
            .enumerate()
            .map(|(place, (wanted, _))| (*wanted, place))
            .collect();
        keep.sort_by_key(|kept| place_of[&kept.holds[0]]);
        let missing = self
            .wanted
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| !**taken);
        let fetch: Vec<Fetched> = missing
            .map(|((wanted, part), _)| fetched(*wanted, part))
            .collect();

        let changes = !remove.is_empty() || !fetch.is_empty();
        let whole = is_patched || (order_sensitive && (changes || !in_order));
        let action = match (whole, remove.is_empty(), fetch.is_empty()) {
            (true, ..) | (false, false, false) => Action::Swap,
            (false, true, true) => Action::Nothing,
            (false, true, false) => Action::Attach,
            (false, false, true) => Action::Drop,
        };
        PartitionPlan {
            partition_id: partition_id.to_owned(),
            action,
            keep,
            remove,
            fetch,
        }
    }
}

fn places_of(keep: &Option<(Vec<usize>, Proof)>) -> &[usize] {
    keep.as_ref().map_or(&[], |(places, _)| places)
}

/// Places of wanted parts that are free, one for each hash.
fn take_all(hashes: &[Hash128], free: &HashMap<Hash128, VecDeque<usize>>) -> Option<Vec<usize>> {
    let mut used: HashMap<Hash128, usize> = HashMap::new();
    let places = hashes.iter().map(|hash| {
        let used = used.entry(*hash).or_default();
        *used += 1;
        free.get(hash)?.get(*used - 1).copied()
    });
    places.collect()
}

pub(super) fn removed(part: &Part) -> Removed {
    Removed {
        name: part.name.clone(),
        hash: part.hash,
        rows: part.rows,
        bytes: part.bytes,
        disk: part.disk.clone(),
    }
}

fn fetched(wanted: u32, part: &Part) -> Fetched {
    Fetched {
        wanted,
        name: part.name.clone(),
        hash: part.hash,
        rows: part.rows,
        bytes: part.bytes,
        linked_bytes: 0,
        download_bytes: part.bytes,
        download_files: 0,
        disk: part.disk.clone(),
    }
}

/// Whether an update in a patch part changes what readers see of a part, so that it must not stay where it is.
/// Put together anew, the part gets a number above that of the patch, and is as its files say.
fn is_patched(part: &Part, patches: &[String]) -> bool {
    patches.iter().any(|patch| match parse_patch(patch) {
        Some(patch) => {
            patch.partition_id == part.partition_id && part.data_version() < patch.mutation
        }
        // What cannot be read may concern anything.
        None => true,
    })
}

/// `patch-<hash of the columns>-<part name>`: the last number of the part name is that of the update.
fn parse_patch(name: &str) -> Option<PartName> {
    let (_columns, part) = name.strip_prefix("patch-")?.split_once('-')?;
    part.parse()
        .ok()
        .filter(|part: &PartName| part.mutation > 0)
}

/// Unfinished mutations that would still reach a part that stays.
fn kill_mutations(comparison: &Comparison<'_>, partitions: &[PartitionPlan]) -> Vec<String> {
    let Some(live) = comparison.live else {
        return Vec::new();
    };
    let kept: BTreeSet<&str> = partitions
        .iter()
        .flat_map(|partition| partition.keep.iter().map(|kept| kept.name.as_str()))
        .collect();
    let oldest = live
        .parts
        .iter()
        .filter(|part| kept.contains(part.name.as_str()))
        .map(Part::data_version)
        .min();
    let Some(oldest) = oldest else {
        return Vec::new();
    };
    let reaches = |mutation_id: &str| {
        // `mutation_7.txt`, or on replicas just its number.
        let number = mutation_id
            .trim_start_matches("mutation_")
            .trim_end_matches(".txt");
        number.parse().map_or(true, |number: i64| oldest < number)
    };
    let ids = live.mutations.iter().map(|mutation| &mutation.mutation_id);
    ids.filter(|id| reaches(id)).cloned().collect()
}
