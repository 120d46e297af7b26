//! How fast the agents of a cluster may be, all together.

use mendb_service::env::now_ms;

use crate::agents::{Cluster, told};

/// What all agents together may put into the repository, in bytes a second.
const RATE: u64 = 400_000;

#[test]
fn agents_share_what_the_coordinator_lets_them_take() {
    let cluster = Cluster::new();
    // Eight parts of a hundred kilobytes on each shard, which do not shrink.
    for server in &cluster.shards.servers {
        server.query("CREATE TABLE shop.noise (part UInt8, x UInt64) ENGINE = MergeTree PARTITION BY part ORDER BY x");
        server.query("INSERT INTO shop.noise SELECT number % 8, rand64(number) FROM system.numbers LIMIT 100000");
    }
    let mut command = cluster.command(&["backup", "shop"]);
    let begun_ms = now_ms();
    let output = command
        .env("MENDB_REPOSITORY_UPLOAD_BYTES_PER_S", RATE.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let took_ms = now_ms() - begun_ms;
    // 1.6 MB, of which a part of each shard is not waited for, and what was saved in a fifth of a second: nothing makes
    // this faster but more than there is to take.
    assert!(took_ms > 2_500, "{took_ms}");
}
