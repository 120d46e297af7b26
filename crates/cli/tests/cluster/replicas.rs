//! Shards of two replicas each, and readers of all shards at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::agents::{Cluster, insert};
use crate::servers::Server;

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];
/// A tenth of a second each.
const MOST_LOOKS: u32 = 300;

/// Waits until the replicas of each shard have the same rows.
pub fn sync(cluster: &Cluster) -> Vec<String> {
    for _ in 0..MOST_LOOKS {
        let rows = cluster.rows();
        if rows.chunks(2).all(|replicas| replicas[0] == replicas[1]) {
            return rows;
        }
        cluster.shards.servers[0].query("SELECT sleep(0.1)");
    }
    panic!("replicas do not become equal: {:?}", cluster.rows());
}

/// What a `Distributed` table over the first replica of each shard would read.
fn sums(cluster: &Cluster) -> String {
    let servers = &cluster.shards.servers;
    let [one, two] = [&servers[0], &servers[2]].map(Server::native_address);
    servers[0].query(&format!(
        "SELECT toYYYYMM(day) AS month, count(), sum(id), sum(v) FROM remote('{one},{two}', 'shop', 'sales') \
         GROUP BY month ORDER BY month"
    ))
}

#[test]
fn replicas_follow_and_readers_of_all_shards_see_a_partition_before_or_after() {
    let cluster = Cluster::with_replicas(2);
    for (shard, from) in [(0, 0), (2, 1000)] {
        for month in 1..=2 {
            insert(&cluster.shards.servers[shard], month, from);
        }
    }
    sync(&cluster);
    cluster.ok(&["backup", "shop", "--label", "monday"]);
    let (whole, after) = (sync(&cluster), sums(&cluster));

    // Through the replica that the backup may not have been taken of.
    insert(&cluster.shards.servers[3], 2, 5000);
    let damaged = sync(&cluster);
    let (before, untouched) = (sums(&cluster), cluster.parts(0));
    assert_ne!(before, after);

    let over = AtomicBool::new(false);
    let (mended, torn) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            loop {
                let is_last = over.load(Ordering::SeqCst);
                let seen = sums(&cluster);
                if seen != before && seen != after {
                    return Some(seen);
                }
                if is_last {
                    return None;
                }
            }
        });
        let mended = cluster.ok(&MEND);
        over.store(true, Ordering::SeqCst);
        (mended, reader.join().unwrap())
    });
    assert_eq!(torn, None, "neither {before} nor {after}");
    assert_eq!(sync(&cluster), whole);
    assert_eq!(sums(&cluster), after);
    assert_eq!(cluster.parts(0), untouched);

    cluster.ok(&["undo", mended["operation_id"].as_str().unwrap()]);
    assert_eq!(sync(&cluster), damaged);
}
