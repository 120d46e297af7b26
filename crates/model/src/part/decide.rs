//! How a mend works on the partitions of a table where room is short.
//!
//! Parts that come are staged beside the live ones before anything is removed, if the disks have room for
//! them and a reserve besides. Partitions without that room are put off: their parts are fetched
//! only after what the backup does not have is removed. Links need no room.
//!
//! Room is counted as the work goes: all staging first, then the partitions in the order of
//! [`TablePlan::work_order`], one after another. A mend may work on other tables at the same
//! time, so what one table frees is not counted for the next. A decision that cannot be carried out is
//! refused before the first change.

use std::collections::BTreeMap;

use super::plan::{Action, PartitionMethod, PartitionPlan, TablePlan};

/// Room on the disks of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes free, by disk. What is decided is taken off.
    pub free: BTreeMap<String, u64>,
    /// Bytes that staging leaves free on each disk.
    pub reserve: u64,
}

/// A disk has no room for what has to come, whatever is removed first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "disk {disk:?} has {free} bytes free, and {needed} bytes have to be fetched to it; removing what \
     is not in the backup frees {freed_by_removal}"
)]
pub struct NotEnoughSpace {
    /// The disk.
    pub disk: String,
    /// Bytes that have to come to it, with the reserve if that has to stay.
    pub needed: u64,
    /// Bytes free on it.
    pub free: u64,
    /// Bytes that come free when first everything is removed that goes.
    pub freed_by_removal: u64,
}

/// Decides what is done with each partition, when it is known what can be linked.
///
/// # Errors
/// There is no room; with [`PartitionMethod::Swap`], no room without removing first. The plan and the
/// space are as before then.
pub fn decide(
    plan: &mut TablePlan,
    order: PartitionMethod,
    drops_parts: bool,
    space: &mut Space,
) -> Result<(), NotEnoughSpace> {
    let ample: Vec<Action> = plan
        .partitions
        .iter()
        .map(|partition| settle(partition, drops_parts))
        .collect();
    let attempts = match order {
        PartitionMethod::Swap => vec![ample],
        PartitionMethod::RemoveFirst => {
            let only_where_it_frees = put_off(plan, &ample, |p| !p.remove.is_empty());
            vec![only_where_it_frees, put_off(plan, &ample, |_| true)]
        }
        PartitionMethod::Auto => {
            let fitting = first_fit(plan, &ample, space);
            vec![fitting, put_off(plan, &ample, |_| true)]
        }
    };
    let mut refused = None;
    for actions in attempts {
        match account(plan, &actions, order, space) {
            Ok(free) => {
                space.free = free;
                for (partition, action) in plan.partitions.iter_mut().zip(actions) {
                    partition.action = action;
                }
                return Ok(());
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.expect("every order has an attempt"))
}

/// What is done with a partition where there is room.
pub(super) fn settle(partition: &PartitionPlan, drops_parts: bool) -> Action {
    match partition.action {
        Action::Drop if !drops_parts => Action::Swap,
        // Decided before, by the room there was then.
        Action::RemoveFirst => Action::Swap,
        action => action,
    }
}

/// Puts off all partitions to which something comes and which the caller names.
fn put_off(
    plan: &TablePlan,
    ample: &[Action],
    which: impl Fn(&PartitionPlan) -> bool,
) -> Vec<Action> {
    let put_off = |(partition, action): (&PartitionPlan, &Action)| {
        if !partition.fetch.is_empty() && which(partition) {
            Action::RemoveFirst
        } else {
            *action
        }
    };
    plan.partitions.iter().zip(ample).map(put_off).collect()
}

/// Puts off partitions that do not fit in what those before them leave.
fn first_fit(plan: &TablePlan, ample: &[Action], space: &Space) -> Vec<Action> {
    let mut free = space.free.clone();
    let mut actions = Vec::with_capacity(ample.len());
    for (partition, action) in plan.partitions.iter().zip(ample) {
        let needed = needed(partition);
        let left = |disk: &str| {
            free.get(disk)
                .copied()
                .unwrap_or(0)
                .checked_sub(space.reserve)
        };
        let fits = needed
            .iter()
            .all(|(disk, bytes)| left(disk) >= Some(*bytes));
        if fits {
            take(&mut free, &needed);
        }
        actions.push(if fits { *action } else { Action::RemoveFirst });
    }
    actions
}

/// What is free after the work, or rather at its narrowest.
fn account(
    plan: &TablePlan,
    actions: &[Action],
    order: PartitionMethod,
    space: &Space,
) -> Result<BTreeMap<String, u64>, NotEnoughSpace> {
    let is_put_off = |at: usize| actions[at] == Action::RemoveFirst;
    let mut staged: BTreeMap<&str, u64> = BTreeMap::new();
    let mut balance: BTreeMap<&str, i128> = BTreeMap::new();
    let mut narrowest: BTreeMap<&str, i128> = BTreeMap::new();
    for (at, partition) in plan.partitions.iter().enumerate() {
        if !is_put_off(at) {
            for (disk, bytes) in needed(partition) {
                *staged.entry(disk).or_default() += bytes;
            }
        }
    }
    let reserve = if order == PartitionMethod::RemoveFirst {
        0
    } else {
        space.reserve
    };
    for at in plan.work_order() {
        let partition = &plan.partitions[at];
        if is_put_off(at) || partition.fetch.is_empty() {
            for (disk, bytes) in freed(partition) {
                *balance.entry(disk).or_default() += i128::from(bytes);
            }
        }
        if is_put_off(at) {
            for (disk, bytes) in needed(partition) {
                let balance = balance.entry(disk).or_default();
                *balance -= i128::from(bytes);
                let narrowest = narrowest.entry(disk).or_default();
                *narrowest = (*balance).min(*narrowest);
            }
        }
    }
    let mut free = space.free.clone();
    let disks = staged.keys().chain(narrowest.keys()).copied();
    for disk in disks.collect::<std::collections::BTreeSet<&str>>() {
        let staged = staged.get(disk).copied().unwrap_or(0);
        let taken_later = narrowest
            .get(disk)
            .map_or(0, |balance| balance.unsigned_abs());
        let kept_free = if staged > 0 { reserve } else { 0 };
        let available = free.get(disk).copied().unwrap_or(0);
        let taken = u128::from(staged) + taken_later;
        if u128::from(available) < taken + u128::from(kept_free) {
            return Err(not_enough(plan, disk, available, kept_free));
        }
        let left = u64::try_from(u128::from(available) - taken).expect("less than what was there");
        free.insert(disk.to_owned(), left);
    }
    Ok(free)
}

fn not_enough(plan: &TablePlan, disk: &str, free: u64, kept_free: u64) -> NotEnoughSpace {
    let on_disk = |bytes: BTreeMap<&str, u64>| bytes.get(disk).copied().unwrap_or(0);
    let partitions = || plan.partitions.iter();
    NotEnoughSpace {
        disk: disk.to_owned(),
        needed: partitions()
            .map(|partition| on_disk(needed(partition)))
            .sum::<u64>()
            + kept_free,
        free,
        freed_by_removal: partitions()
            .map(|partition| on_disk(freed(partition)))
            .sum(),
    }
}

/// Bytes that come to each disk.
fn needed(partition: &PartitionPlan) -> BTreeMap<&str, u64> {
    let mut needed = BTreeMap::new();
    for part in partition
        .fetch
        .iter()
        .filter(|part| part.download_bytes > 0)
    {
        *needed.entry(part.disk.as_str()).or_default() += part.download_bytes;
    }
    needed
}

/// Bytes that come free on each disk. What is linked may be linked from what goes, and stays then.
fn freed(partition: &PartitionPlan) -> BTreeMap<&str, u64> {
    let mut freed: BTreeMap<&str, u64> = BTreeMap::new();
    for part in &partition.remove {
        *freed.entry(part.disk.as_str()).or_default() += part.bytes;
    }
    for part in &partition.fetch {
        if let Some(bytes) = freed.get_mut(part.disk.as_str()) {
            *bytes = bytes.saturating_sub(part.linked_bytes);
        }
    }
    freed
}

fn take(free: &mut BTreeMap<String, u64>, needed: &BTreeMap<&str, u64>) {
    for (disk, bytes) in needed {
        if let Some(free) = free.get_mut(*disk) {
            *free -= bytes;
        }
    }
}

impl TablePlan {
    /// Places of partitions in the order in which they are committed: those first that free most, so that
    /// there is room for the others.
    pub fn work_order(&self) -> Vec<usize> {
        let net = |at: &usize| {
            let partition = &self.partitions[*at];
            let sum =
                |bytes: BTreeMap<&str, u64>| -> i128 { bytes.into_values().map(i128::from).sum() };
            sum(needed(partition)) - sum(freed(partition))
        };
        let mut order: Vec<usize> = (0..self.partitions.len()).collect();
        order.sort_by_cached_key(net);
        order
    }

    /// Whether parts are removed before their replacement is staged, for lack of room. What is removed
    /// has to come free then: a freeze that keeps it would fill the disk.
    pub fn removes_first(&self) -> bool {
        self.partitions
            .iter()
            .any(|partition| partition.action == Action::RemoveFirst)
    }
}

#[cfg(test)]
mod tests {
    use Action::{Attach, Drop, Nothing, RemoveFirst, Swap};

    use super::super::matching::removed;
    use super::super::plan::Fetched;
    use super::super::table_name::TableName;
    use super::super::world::part;
    use super::*;

    /// A partition from which parts of so many bytes go and to which so many come.
    fn partition(id: &str, goes: u64, linked: u64, comes: u64) -> PartitionPlan {
        let mut remove = Vec::new();
        if goes > 0 {
            let mut gone = removed(&part(&format!("{id}_1_1_0"), 1, 1));
            gone.bytes = goes;
            remove.push(gone);
        }
        let mut fetch = Vec::new();
        if linked + comes > 0 {
            let part = part(&format!("{id}_2_2_0"), 1, 2);
            fetch.push(Fetched {
                wanted: 0,
                name: part.name,
                hash: part.hash,
                rows: part.rows,
                bytes: linked + comes,
                linked_bytes: linked,
                download_bytes: comes,
                download_files: 1,
                disk: part.disk,
            });
        }
        let action = match (remove.is_empty(), fetch.is_empty()) {
            (true, true) => Nothing,
            (true, false) => Attach,
            (false, true) => Drop,
            (false, false) => Swap,
        };
        PartitionPlan {
            partition_id: id.to_owned(),
            action,
            keep: Vec::new(),
            remove,
            fetch,
        }
    }

    fn plan(partitions: Vec<PartitionPlan>) -> TablePlan {
        TablePlan {
            source: TableName::new("d", "t"),
            target: TableName::new("d", "t"),
            create: false,
            order_sensitive: false,
            since_backup: None,
            before: None,
            came: Vec::new(),
            again: None,
            kill_mutations: Vec::new(),
            damaged: Vec::new(),
            notes: Vec::new(),
            unfinished: Vec::new(),
            partitions,
        }
    }

    fn space(free: u64) -> Space {
        Space {
            free: BTreeMap::from([("default".to_owned(), free)]),
            reserve: 10,
        }
    }

    fn decided(
        partitions: Vec<PartitionPlan>,
        order: PartitionMethod,
        free: u64,
    ) -> Result<(Vec<Action>, u64), NotEnoughSpace> {
        let mut plan = plan(partitions);
        let mut space = space(free);
        decide(&mut plan, order, true, &mut space)?;
        let actions = plan
            .partitions
            .iter()
            .map(|partition| partition.action)
            .collect();
        Ok((actions, space.free["default"]))
    }

    #[test]
    fn with_room_for_what_comes_and_the_reserve_nothing_is_removed_first() {
        let partitions = || {
            vec![
                partition("a", 100, 0, 100),
                partition("b", 0, 0, 50),
                partition("c", 7, 0, 0),
                partition("d", 0, 0, 0),
            ]
        };
        let ample = decided(partitions(), PartitionMethod::Auto, 160);
        assert_eq!(ample, Ok((vec![Swap, Attach, Drop, Nothing], 10)));
        let (actions, _) = decided(partitions(), PartitionMethod::Auto, 159).unwrap();
        assert_eq!(actions, [Swap, RemoveFirst, Drop, Nothing]);
    }

    #[test]
    fn links_need_no_room() {
        let partitions = vec![partition("a", 1000, 1000, 0)];
        assert_eq!(
            decided(partitions, PartitionMethod::Auto, 0),
            Ok((vec![Swap], 0))
        );
    }

    #[test]
    fn what_is_removed_makes_room_for_what_comes() {
        let partitions = vec![partition("a", 100, 0, 100)];
        assert_eq!(
            decided(partitions, PartitionMethod::Auto, 0),
            Ok((vec![RemoveFirst], 0))
        );
        let partitions = vec![partition("a", 0, 0, 90), partition("b", 100, 0, 0)];
        let (actions, _) = decided(partitions, PartitionMethod::Auto, 0).unwrap();
        assert_eq!(actions, [RemoveFirst, Drop]);
    }

    #[test]
    fn what_is_linked_from_a_removed_part_does_not_come_free() {
        let partitions = || vec![partition("a", 100, 95, 6)];
        let error = decided(partitions(), PartitionMethod::Auto, 0).unwrap_err();
        assert_eq!((error.needed, error.freed_by_removal), (6, 5));
        assert_eq!(
            decided(partitions(), PartitionMethod::Auto, 1),
            Ok((vec![RemoveFirst], 0))
        );
    }

    #[test]
    fn too_little_even_after_removal_is_refused_and_changes_nothing() {
        let mut plan = plan(vec![partition("a", 100, 0, 121)]);
        let mut space = space(20);
        let before = (plan.clone(), space.clone());
        let error = decide(&mut plan, PartitionMethod::Auto, true, &mut space).unwrap_err();
        assert_eq!(
            error,
            NotEnoughSpace {
                disk: "default".to_owned(),
                needed: 121,
                free: 20,
                freed_by_removal: 100,
            }
        );
        assert_eq!((plan, space), before);
    }

    #[test]
    fn the_order_that_was_asked_for_is_kept() {
        let partitions = || vec![partition("a", 100, 0, 50), partition("b", 0, 0, 5)];
        let (actions, _) = decided(partitions(), PartitionMethod::RemoveFirst, 1000).unwrap();
        assert_eq!(actions, [RemoveFirst, Attach]);
        let error = decided(partitions(), PartitionMethod::Swap, 60).unwrap_err();
        assert_eq!((error.needed, error.free), (65, 60));
    }

    #[test]
    fn a_server_that_cannot_drop_parts_swaps() {
        let mut plan = plan(vec![partition("a", 100, 0, 0)]);
        decide(&mut plan, PartitionMethod::Auto, false, &mut space(0)).unwrap();
        assert_eq!(plan.partitions[0].action, Swap);
        assert!(!plan.removes_first());
    }

    #[test]
    fn tables_share_the_room_but_not_what_each_frees() {
        let mut space = space(100);
        for (free, goes, comes) in [(60, 0, 40), (60, 500, 0), (20, 0, 40)] {
            let mut plan = plan(vec![partition("a", goes, 0, comes)]);
            decide(&mut plan, PartitionMethod::Auto, true, &mut space).unwrap();
            assert_eq!(space.free["default"], free);
        }
    }

    #[test]
    fn disks_are_counted_each_for_itself() {
        let mut plan = plan(vec![partition("a", 100, 0, 100)]);
        plan.partitions[0].fetch[0].disk = "other".to_owned();
        let error = decide(&mut plan, PartitionMethod::Auto, true, &mut space(1000)).unwrap_err();
        assert_eq!((error.disk.as_str(), error.freed_by_removal), ("other", 0));
    }

    #[test]
    fn partitions_that_free_most_come_first() {
        let plan = plan(vec![
            partition("a", 0, 0, 90),
            partition("b", 10, 0, 0),
            partition("c", 100, 0, 20),
        ]);
        assert_eq!(plan.work_order(), [2, 1, 0]);
    }
}
