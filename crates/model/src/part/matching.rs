//! Which live parts of a partition serve as which wanted ones.

use std::collections::{HashMap, VecDeque};

use super::hash::Hash128;
use super::inventory::Part;
use super::lineage::Explained;
use super::name::PartName;
use super::plan::{Action, Fetched, Kept, PartitionPlan, Proof, Removed};

/// A live part, with what it is known to be.
pub(super) struct LivePart<'a> {
    pub(super) part: &'a Part,
    pub(super) ways: &'a [Explained],
    /// It serves as nothing.
    pub(super) is_damaged: bool,
}

/// How many live parts, and how many wanted ones, a way through both has passed.
type Passed = (usize, usize);

/// Which live part of a partition serves as which wanted ones.
pub(super) struct Matching<'a> {
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
    pub(super) fn new(wanted: &'a [(u32, &'a Part)], live: &'a [LivePart<'a>]) -> Self {
        Self {
            wanted,
            live,
            taken: vec![false; wanted.len()],
            keeps: vec![None; live.len()],
        }
    }

    /// Live parts that can serve, with their places.
    fn sound(&self) -> impl Iterator<Item = (usize, &'a LivePart<'a>)> + use<'a> {
        let live = self.live.iter().enumerate();
        live.filter(|(_, live)| !live.is_damaged)
    }

    /// All of them, if the live parts are the wanted ones in their order, each live part one of them or some that
    /// follow each other. Parts of one content can serve as each other, so that only the whole row of them tells
    /// which is which.
    pub(super) fn take_in_order(&mut self, is_empty: impl Fn(u32) -> bool) {
        let end = (self.live.len(), self.wanted.len());
        let mut before: HashMap<Passed, (Passed, Option<Proof>)> = HashMap::new();
        let mut open = vec![(0, 0)];
        while let Some(passed) = open.pop().filter(|passed| *passed != end) {
            for (next, proof) in self.steps(passed, &is_empty) {
                before.entry(next).or_insert_with(|| {
                    open.push(next);
                    (passed, proof)
                });
            }
        }
        let mut reached = end;
        while let Some((passed, proof)) = before.remove(&reached) {
            if let Some(proof) = proof {
                self.keep(passed.0, (passed.1..reached.1).collect(), proof);
            }
            reached = passed;
        }
    }

    /// Where the next live part or the next wanted one leads. With a proof, the one serves as what is passed of
    /// the other; what has no rows is passed alone.
    fn steps(
        &self,
        (at, place): Passed,
        is_empty: impl Fn(u32) -> bool,
    ) -> Vec<(Passed, Option<Proof>)> {
        let mut steps = Vec::new();
        let rest = &self.wanted[place..];
        if rest.first().is_some_and(|(wanted, _)| is_empty(*wanted)) {
            steps.push(((at, place + 1), None));
        }
        let Some(live) = self.live.get(at).filter(|live| !live.is_damaged) else {
            return steps;
        };
        if live.part.has_no_rows() {
            steps.push(((at + 1, place), None));
        }
        for way in live.ways.iter().filter(|way| !way.holds.is_empty()) {
            let held = way.holds.len();
            let follows = rest.get(..held).is_some_and(|run| {
                let hashes = run.iter().map(|(_, part)| part.hash);
                hashes.eq(way.holds.iter().copied())
            });
            if follows {
                steps.push(((at + 1, place + held), Some(way.proof)));
            }
        }
        if rest
            .first()
            .is_some_and(|(_, part)| part.hash == live.part.hash)
        {
            steps.push(((at + 1, place + 1), Some(Proof::SameContent)));
        }
        steps
    }

    /// What has the same content: first what also has the same name, then what has the lowest blocks.
    pub(super) fn take_equal(&mut self) {
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
        for (at, LivePart { part, .. }) in self.sound() {
            let place = named.get(&(part.name.as_str(), part.hash)).copied();
            if let Some(place) = place.filter(|place| !self.taken[*place]) {
                self.keep(at, vec![place], Proof::SameContent);
            }
        }
        let mut free = self.free();
        for (at, LivePart { part, .. }) in self.sound() {
            let unmatched = self.keeps[at].is_none();
            let place = free.get_mut(&part.hash).filter(|_| unmatched);
            if let Some(place) = place.and_then(VecDeque::pop_front) {
                self.keep(at, vec![place], Proof::SameContent);
            }
        }
    }

    /// What is known to hold wanted parts and nothing else. Where order matters, these have to follow
    /// each other in the backup just as they do inside of the merged part.
    pub(super) fn take_merged(&mut self, order_sensitive: bool) {
        let mut free = self.free();
        for (at, LivePart { ways, .. }) in self.sound() {
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
    pub(super) fn uncross(&mut self) {
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

    /// For parts without rows nothing has to be brought: a server removes them when it likes.
    pub(super) fn leave_empty(&mut self, is_empty: impl Fn(u32) -> bool) {
        for ((wanted, _), taken) in self.wanted.iter().zip(&mut self.taken) {
            *taken |= is_empty(*wanted);
        }
    }

    pub(super) fn plan(
        self,
        partition_id: &str,
        order_sensitive: bool,
        spared: &[&Part],
        patches: &[String],
    ) -> PartitionPlan {
        let served = self.keeps.iter().flatten().flat_map(|(places, _)| places);
        let last_kept = (self.live.iter().zip(&self.keeps))
            .filter(|(_, keep)| keep.is_some())
            .map(|(live, _)| live.part.order())
            .max();
        let spared_last = spared.iter().all(|part| Some(part.order()) > last_kept);
        let in_order = served.is_sorted() && spared_last;
        let kept = self
            .live
            .iter()
            .zip(&self.keeps)
            .filter(|(_, keep)| keep.is_some());
        let is_patched = kept
            .into_iter()
            .any(|(live, _)| is_patched(live.part, patches));

        let (mut keep, mut remove) = (Vec::new(), Vec::new());
        for (
            LivePart {
                part, is_damaged, ..
            },
            kept,
        ) in self.live.iter().zip(self.keeps)
        {
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
                // Without rows it is in nobody's way.
                None if part.has_no_rows() && !is_damaged => {}
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
        keep.extend(spared.iter().map(|part| Kept {
            name: part.name.clone(),
            hash: part.hash,
            holds: Vec::new(),
            rows: part.rows,
            bytes: part.bytes,
            proof: Proof::SameContent,
        }));
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
