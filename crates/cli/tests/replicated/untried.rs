//! What was never tried is mended only where that is insisted on.

use crate::servers::zookeeper::ZooKeeper;
use crate::servers::{Flavor, ServerOptions};
use crate::world::World;

#[test]
fn a_replicated_table_of_a_server_on_which_that_was_never_tried_is_refused_by_name() {
    let keeper = ZooKeeper::start();
    let options = ServerOptions {
        more_config: format!(
            "<zookeeper><node><host>127.0.0.1</host><port>{}</port></node></zookeeper>",
            keeper.port()
        ),
        ..ServerOptions::default()
    };
    let world = World::with(Flavor::Current, options);
    world.server.create_database("shop");
    world.server.query(
        "CREATE TABLE shop.sales (id UInt64) ENGINE = ReplicatedMergeTree('/shop/sales', 'here') ORDER BY id",
    );
    world
        .server
        .query("CREATE TABLE shop.log (id UInt64) ENGINE = MergeTree ORDER BY id");
    world.backup(&["shop", "--tables", "shop.*"]);
    let preview = world.preview(&["shop"]);
    assert_eq!(preview.stopped.len(), 1);
    let stopped = &preview.stopped[0];
    assert!(
        stopped
            .reason
            .contains("mending a replicated table on ClickHouse 26."),
        "{}",
        stopped.reason
    );
    assert!(stopped.advice.contains("--force-untried"));
    // Where it is insisted on, the replica itself says what it lacks.
    let refused = world.fails(
        1,
        &[
            "restore",
            "shop",
            "--in-place",
            "--dry-run",
            "--force-untried",
        ],
    );
    assert!(refused.contains("is read-only"), "{refused}");
}
