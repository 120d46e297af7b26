//! What becomes of backups that rules do not want, so that every one that stays can be restored.
//!
//! Backups stand on each other as trees. One that is not wanted is *removed* where nothing that stays stands on
//! it. Else it is *folded* into the next that stays, with all between: that needs no more restore points than
//! the rules want. Where two that stay stand on it by different ways it cannot be folded into either, and stays.

use std::collections::HashMap;

use super::Point;
use super::rules::Reason;
use crate::name::BackupId;

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Stays(Vec<Reason>),
    /// It becomes part of another, which stays.
    Folded {
        /// The other.
        into: BackupId,
    },
    /// It goes.
    Removed,
}

/// A backup that stays, with what is folded into it: oldest first, all that it stands on up to the next that
/// stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The backup.
    pub backup_id: BackupId,
    /// What is folded into it; not empty.
    pub run: Vec<BackupId>,
}

/// What becomes of the backups of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// Of each backup, in the order given.
    pub fates: Vec<Fate>,
    /// Those that others are folded into, oldest first.
    pub folds: Vec<Kept>,
    /// Those that go, those first that stand on others.
    pub removals: Vec<BackupId>,
}

/// Plans for backups, oldest first, each with why it is wanted. Without `folds`, what wanted ones stand on stays.
///
/// A parent that is not among them is taken for one that stays.
pub fn plan(points: &[Point], wanted: Vec<Vec<Reason>>, folds: bool) -> RetentionPlan {
    let places: HashMap<&BackupId, usize> = (points.iter().enumerate())
        .map(|(at, point)| (&point.backup_id, at))
        .collect();
    let parent = |at: usize| {
        let parent = points[at].parent.as_ref();
        parent.and_then(|parent| places.get(parent)).copied()
    };
    let mut stays = wanted;
    // Whose subtrees have something that stays; the newest first, as parents are older.
    let mut ways = vec![0usize; points.len()];
    for at in (0..points.len()).rev() {
        if stays[at].is_empty() && (ways[at] > 1 || ways[at] == 1 && !folds) {
            stays[at].push(Reason::Needed);
        }
        let is_way = !stays[at].is_empty() || ways[at] > 0;
        if let Some(parent) = parent(at).filter(|_| is_way) {
            ways[parent] += 1;
        }
    }
    let mut plan = RetentionPlan::default();
    let mut into: Vec<Option<usize>> = vec![None; points.len()];
    for at in (0..points.len()).filter(|at| !stays[*at].is_empty()) {
        let mut run = Vec::new();
        let mut below = parent(at);
        while let Some(next) = below.filter(|next| stays[*next].is_empty()) {
            into[next] = Some(at);
            run.push(points[next].backup_id.clone());
            below = parent(next);
        }
        run.reverse();
        if !run.is_empty() {
            plan.folds.push(Kept {
                backup_id: points[at].backup_id.clone(),
                run,
            });
        }
    }
    for (at, reasons) in stays.into_iter().enumerate() {
        plan.fates.push(match into[at] {
            _ if !reasons.is_empty() => Fate::Stays(reasons),
            Some(into) => Fate::Folded {
                into: points[into].backup_id.clone(),
            },
            None => {
                plan.removals.push(points[at].backup_id.clone());
                Fate::Removed
            }
        });
    }
    plan.removals.reverse();
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::rules::tests::point;
    use super::*;

    fn ids(ids: &[BackupId]) -> Vec<i64> {
        ids.iter().map(BackupId::unix_seconds).collect()
    }

    fn wanted(points: usize, which: &[usize]) -> Vec<Vec<Reason>> {
        let reasons = |at| which.contains(&at).then_some(Reason::Last);
        (0..points)
            .map(|at| reasons(at).into_iter().collect())
            .collect()
    }

    #[test]
    fn an_old_full_backup_goes_into_the_first_increment_that_stays() {
        let parents = [None, Some(0), Some(1), Some(2), Some(3)];
        let points: Vec<_> = (0..)
            .zip(parents)
            .map(|(at, parent)| point(at, parent))
            .collect();
        let found = plan(&points, wanted(5, &[2, 3]), true);
        assert_eq!(found.folds.len(), 1);
        assert_eq!(ids(&found.folds[0].run), [0, 1]);
        assert_eq!(found.folds[0].backup_id, points[2].backup_id);
        assert_eq!(ids(&found.removals), [4]);
        assert_eq!(
            found.fates[0],
            Fate::Folded {
                into: points[2].backup_id.clone()
            }
        );

        let found = plan(&points, wanted(5, &[2]), false);
        assert_eq!((found.folds.len(), ids(&found.removals)), (0, vec![4, 3]));
        assert_eq!(found.fates[1], Fate::Stays(vec![Reason::Needed]));
    }

    #[test]
    fn what_two_stand_on_by_different_ways_stays() {
        let parents = [None, Some(0), Some(1), Some(1)];
        let points: Vec<_> = (0..)
            .zip(parents)
            .map(|(at, parent)| point(at, parent))
            .collect();
        let found = plan(&points, wanted(4, &[2, 3]), true);
        assert_eq!(found.fates[1], Fate::Stays(vec![Reason::Needed]));
        assert_eq!(
            ids(&found.folds[0].run),
            [0],
            "into the one that had to stay"
        );
        assert_eq!(found.folds[0].backup_id, points[1].backup_id);
    }

    proptest! {
        /// The plan is carried out on a model of which changes a restore of each backup brings.
        #[test]
        fn every_backup_that_stays_restores_what_it_did_and_no_other_is_left(
            shape in prop::collection::vec((any::<prop::sample::Index>(), 0u8..5, any::<bool>()), 1..30),
            folds in any::<bool>(),
        ) {
            let mut points = Vec::new();
            let mut which = Vec::new();
            for (at, (parent, kind, is_wanted)) in shape.iter().enumerate() {
                let parent = (at > 0 && *kind > 0).then(|| parent.index(at) as i64);
                points.push(point(at as i64, parent));
                if *is_wanted {
                    which.push(at);
                }
            }
            // The ids of increments on a full backup other than the first say so, too.
            let real: Vec<_> = points.iter().map(|point| point.backup_id.clone()).collect();
            for point in &mut points {
                point.parent = point.parent.as_ref().map(|id| real[id.unix_seconds() as usize].clone());
            }
            let found = plan(&points, wanted(points.len(), &which), folds);
            // Of each backup: its parent, and which changes it has by itself.
            let mut there: BTreeMap<i64, (Option<i64>, BTreeSet<i64>)> = (0i64..)
                .zip(&points)
                .map(|(at, point)| (at, (point.parent.as_ref().map(BackupId::unix_seconds), BTreeSet::from([at]))))
                .collect();
            fn restored(there: &BTreeMap<i64, (Option<i64>, BTreeSet<i64>)>, at: i64) -> BTreeSet<i64> {
                let (parent, own) = &there[&at];
                let mut all = own.clone();
                if let Some(parent) = parent {
                    all.extend(restored(there, *parent));
                }
                all
            }
            let before: BTreeMap<i64, _> = there.keys().map(|at| (*at, restored(&there, *at))).collect();
            for id in ids(&found.removals) {
                prop_assert!(there.values().all(|(parent, _)| *parent != Some(id)), "{} is stood on", id);
                there.remove(&id);
            }
            for fold in &found.folds {
                let last = fold.backup_id.unix_seconds();
                let run = ids(&fold.run);
                for (id, next) in run.iter().zip(run[1..].iter().chain([&last])) {
                    let on_it: Vec<_> = there.iter().filter(|(_, (parent, _))| *parent == Some(*id)).collect();
                    prop_assert_eq!(on_it.len(), 1, "{} is stood on from outside of its run", id);
                    prop_assert_eq!(on_it[0].0, next);
                }
                let first_parent = there[&run[0]].0;
                let mut own = there[&last].1.clone();
                for id in run {
                    own.extend(there.remove(&id).unwrap().1);
                }
                there.insert(last, (first_parent, own));
            }
            for (at, fate) in (0i64..).zip(&found.fates) {
                let stays = matches!(fate, Fate::Stays(_));
                prop_assert_eq!(there.contains_key(&at), stays);
                prop_assert!(stays || !which.contains(&(at as usize)));
                if stays {
                    prop_assert_eq!(&restored(&there, at), &before[&at]);
                }
                if let Fate::Stays(reasons) = fate && reasons.contains(&Reason::Needed) {
                    let on_it = there.values().filter(|(parent, _)| *parent == Some(at)).count();
                    prop_assert!(on_it > usize::from(folds), "{} need not stay", at);
                }
            }
        }
    }
}
