//! A mend that is taken back is taken back on all replicas.

use serde_json::Value;

use crate::shard::{Shard, insert, rows};
use crate::world::Mended;

#[test]
fn an_undo_brings_back_the_damage_on_all_replicas_and_can_be_undone() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    shard.damage();
    let damaged = rows(&shard.there);
    let mended = shard.here.mend(&["shop", "--keep-undo"]);
    assert_eq!(shard.equal(), whole);
    let undone: Mended = shard.here.json(&["undo", &mended.operation_id]);
    shard.sync();
    assert_eq!(shard.servers().map(rows), [damaged.clone(), damaged]);
    shard.here.ok(&["undo", &undone.operation_id]);
    assert_eq!(shard.equal(), whole);
    shard.leaves_nothing_behind();
}

#[test]
fn an_undo_refuses_to_remove_what_came_through_another_replica() {
    let shard = Shard::backed_up();
    shard.damage();
    let mended = shard.here.mend(&["shop", "--keep-undo"]);
    insert(&shard.there, "sales", 2, 4000);
    let refused = shard.here.fails(1, &["undo", &mended.operation_id]);
    assert!(refused.contains("since the mend"), "{refused}");
    let _: Value = shard.here.json(&[
        "undo",
        &mended.operation_id,
        "--on-concurrent-insert",
        "keep",
    ]);
    shard.sync();
    for server in shard.servers() {
        let late = "SELECT count() FROM shop.sales WHERE id >= 4000";
        assert_eq!(server.query(late), "10\n");
    }
}
