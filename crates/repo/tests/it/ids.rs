//! Ids of backups, and what stands on them.

use std::collections::BTreeSet;

use mendb_model::name::BackupKind;
use mendb_repo::{Error, Repository};
use proptest::prelude::*;

use crate::parts_sample::options;
use crate::promises::{Promise, promises};
use crate::sample::{COLLECTION, OPERATION, WRITER, backup, full, increment, read, segments};

pub const ALL: &[Promise] = promises![
    the_id_of_a_backup_that_went_is_not_given_again,
    many_who_claim_an_id_in_one_second_get_different_ones,
    what_another_backup_stands_on_is_not_discarded,
    what_stands_on_a_backup_is_found_or_said_to_be_unknown,
];

async fn the_id_of_a_backup_that_went_is_not_given_again(repository: Repository) {
    let now = full(5).unix_seconds();
    // From before ids were claimed.
    backup(&repository, &full(5), None).await.unwrap();
    repository
        .delete_backup(COLLECTION, &full(5))
        .await
        .unwrap();
    let claim = || repository.claim_id(COLLECTION, BackupKind::Full, now);
    assert_eq!(claim().await.unwrap(), full(6));
    backup(&repository, &full(6), None).await.unwrap();
    repository
        .withdraw(COLLECTION, &full(6), OPERATION, WRITER)
        .await
        .unwrap();
    assert_eq!(claim().await.unwrap(), full(7));
    segments(&repository, &full(9), 0).await.unwrap();
    repository.discard(COLLECTION, &full(9)).await.unwrap();
    assert_eq!(claim().await.unwrap(), full(10));
    // Of another collection nothing is known.
    let other = repository.claim_id("other", BackupKind::Incremental, now);
    assert_eq!(other.await.unwrap(), increment(5));
    assert!(repository.list(COLLECTION).await.unwrap().is_empty());
    assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
}

async fn many_who_claim_an_id_in_one_second_get_different_ones(repository: Repository) {
    let now = full(0).unix_seconds();
    let claims = (0..8).map(|_| repository.claim_id(COLLECTION, BackupKind::Full, now));
    let claimed = futures::future::try_join_all(claims).await.unwrap();
    let different: BTreeSet<_> = claimed.iter().collect();
    assert_eq!(different.len(), 8, "{claimed:?}");
}

async fn what_another_backup_stands_on_is_not_discarded(repository: Repository) {
    let parent = backup(&repository, &full(0), None).await.unwrap();
    let child = backup(&repository, &increment(1), Some(&parent))
        .await
        .unwrap();
    // As where the manifest alone is lost.
    repository
        .withdraw(COLLECTION, &full(0), OPERATION, WRITER)
        .await
        .unwrap();
    segments(&repository, &full(0), 0).await.unwrap();
    let error = repository.discard(COLLECTION, &full(0)).await.unwrap_err();
    let Error::StoodOn { backup, by, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((backup, by.as_slice()), (&full(0), &[increment(1)][..]));
    assert_eq!(repository.unfinished(COLLECTION).await.unwrap(), [full(0)]);
    read(&repository, &child.manifest).await.unwrap();
}

async fn what_stands_on_a_backup_is_found_or_said_to_be_unknown(repository: Repository) {
    let mut stored = vec![backup(&repository, &full(0), None).await.unwrap()];
    for second in 1..4 {
        let parent = stored.last();
        stored.push(
            backup(&repository, &increment(second), parent)
                .await
                .unwrap(),
        );
    }
    backup(&repository, &full(9), None).await.unwrap();
    let newest = full(9);
    let dependants = |id| repository.dependants(COLLECTION, id);
    let root = full(0);
    let ids = [1, 2, 3].map(increment);
    assert_eq!(dependants(&root).await.unwrap().certain, ids);
    assert_eq!(dependants(&ids[1]).await.unwrap().certain, ids[2..]);
    assert_eq!(dependants(&newest).await.unwrap().certain, []);
    // As where its manifest was lost.
    repository
        .withdraw(COLLECTION, &ids[1], OPERATION, WRITER)
        .await
        .unwrap();
    let found = dependants(&root).await.unwrap();
    assert_eq!(found.certain, ids[..1]);
    assert_eq!(found.possible, ids[1..2]);
    assert_eq!(dependants(&newest).await.unwrap().possible, []);
}

/// What happens to the ids of a collection.
#[derive(Debug, Clone)]
enum Step {
    /// One is claimed at this second.
    Claim(i64),
    /// One from before ids were claimed is used.
    Use(i64),
    /// The newest backup that is there goes.
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0i64..40).prop_map(Step::Claim),
        1 => (0i64..40).prop_map(Step::Use),
        2 => Just(Step::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_id_is_given_twice_whatever_goes_and_however_the_clock_is_set(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let repository = Repository::open("memory:", options()).await.unwrap();
            let mut newest = None;
            let mut there = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Claim(second) => {
                        let now = full(second).unix_seconds();
                        let id = repository.claim_id(COLLECTION, BackupKind::Full, now).await.unwrap();
                        assert!(newest < Some(id.unix_seconds()), "{id}");
                        newest = Some(id.unix_seconds());
                        // Some are never used.
                        if second % 3 != 0 {
                            backup(&repository, &id, None).await.unwrap();
                            there.insert(id);
                        }
                    }
                    Step::Use(second) => {
                        let id = full(second);
                        if newest < Some(id.unix_seconds()) {
                            backup(&repository, &id, None).await.unwrap();
                            newest = Some(id.unix_seconds());
                            there.insert(id);
                        }
                    }
                    Step::Delete => {
                        if let Some(id) = there.pop_last() {
                            repository.delete_backup(COLLECTION, &id).await.unwrap();
                        }
                    }
                }
            }
        });
    }
}
