//! Replicated tables refuse a block that they remember. A mend brings what a backup has, as often as it has it.

use crate::shard::{Shard, insert, rows};

/// The same block twice: one was detached when the other was inserted.
fn with_twins() -> Shard {
    let shard = Shard::new();
    shard.create("sales", "MergeTree", "");
    insert(&shard.here.server, "sales", 1, 0);
    shard.sync();
    shard
        .here
        .server
        .query("ALTER TABLE shop.sales DETACH PARTITION 202401");
    shard.sync();
    insert(&shard.here.server, "sales", 1, 0);
    // The server remembers the block: nothing comes of it.
    insert(&shard.there, "sales", 1, 0);
    shard
        .here
        .server
        .query("ALTER TABLE shop.sales ATTACH PARTITION 202401");
    shard.sync();
    let count = shard
        .there
        .query("SELECT count(), uniq(id) FROM shop.sales");
    assert_eq!(count, "20\t10\n");
    shard.here.backup(&["shop", "--tables", "shop.*"]);
    shard
}

#[test]
fn a_block_that_is_there_twice_comes_back_twice() {
    let shard = with_twins();
    let whole = shard.equal();
    shard
        .here
        .server
        .query("ALTER TABLE shop.sales DROP PARTITION 202401");
    shard.sync();
    shard.here.mend(&["shop"]);
    assert_eq!(shard.equal(), whole);

    // One of them is there, and its block is remembered.
    shard
        .there
        .query("ALTER TABLE shop.sales DROP PARTITION 202401");
    insert(&shard.there, "sales", 1, 0);
    shard.sync();
    assert_ne!(rows(&shard.there), whole);
    let mended = shard.here.mend(&["shop"]);
    assert_eq!((mended.done.kept.parts, mended.done.fetched.parts), (1, 1));
    assert_eq!(shard.equal(), whole);

    // Another one is there besides, and the partition is exchanged.
    insert(&shard.there, "sales", 1, 500);
    shard.sync();
    shard.here.mend(&["shop"]);
    assert_eq!(shard.equal(), whole);
    shard.here.is_mended("shop", &["shop"]);
}

#[test]
fn what_comes_back_is_not_refused_for_a_block_that_is_remembered() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    // The rows go, and the blocks in which they came stay remembered.
    shard.mutate("ALTER TABLE shop.sales DELETE WHERE id >= 100");
    assert_ne!(rows(&shard.there), whole);
    insert(&shard.there, "sales", 1, 100);
    assert_ne!(
        rows(&shard.there),
        whole,
        "the server takes the block for one that is there"
    );
    shard.here.mend(&["shop"]);
    assert_eq!(shard.equal(), whole);
}
