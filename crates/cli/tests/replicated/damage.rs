//! What was lost, brought or changed by mistake on one replica or the other.

use mendb_model::part::Action;

use crate::shard::{MEND, Shard, insert, parts, rows};

#[test]
fn what_was_damaged_through_any_replica_is_mended_on_all() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    let untouched = |server| {
        let all = parts(server);
        let lines = all.lines().filter(|line| line.contains("202404"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    shard.damage();
    let before = shard.servers().map(untouched);
    assert_ne!(rows(&shard.there), whole);
    let preview = shard.here.preview(&["shop"]);
    let actions: Vec<Action> = preview.tables[0]
        .partitions
        .iter()
        .map(|plan| plan.action)
        .collect();
    assert_eq!(
        actions,
        [Action::Attach, Action::Swap, Action::Swap, Action::Nothing]
    );
    let notes = preview.tables[0].notes.join("; ");
    assert!(
        notes.contains("it is replica here, which there follow"),
        "{notes}"
    );

    shard.here.mend(&["shop"]);
    assert_eq!(shard.equal(), whole);
    shard.here.is_mended("shop", &["shop"]);
    assert_eq!(shard.servers().map(untouched), before);
    shard.leaves_nothing_behind();
    shard
        .here
        .ok(&["verify", "shop", "--live", "--bytes", "--replicas"]);
}

#[test]
fn engines_in_which_order_matters_answer_as_before_on_all_replicas() {
    let shard = Shard::new();
    shard.create("collapsing", "CollapsingMergeTree", ", sign");
    shard.create("replacing", "ReplacingMergeTree", "");
    let row = |server: &crate::servers::Server, table: &str, v: i64, sign: i8| {
        server.query(&format!(
            "INSERT INTO shop.{table} VALUES ('2024-01-05', 1, {v}, {sign}), ('2024-02-05', 2, {v}, {sign})"
        ));
        shard.sync();
    };
    for (v, sign) in [(1, 1), (1, -1), (2, 1)] {
        row(&shard.here.server, "collapsing", v, sign);
    }
    for v in [5, 9, 7] {
        row(&shard.there, "replacing", v, 1);
    }
    let finals = |server: &crate::servers::Server| {
        let answers = ["collapsing", "replacing"].map(|table| {
            server.query(&format!(
                "SELECT day, id, v, sign FROM shop.{table} FINAL ORDER BY day"
            ))
        });
        answers.concat()
    };
    let whole = finals(&shard.there);
    shard.here.backup(&["shop", "--tables", "shop.*"]);
    // The oldest is inserted anew, so that it becomes the last; and a month goes.
    for table in ["collapsing", "replacing"] {
        shard
            .here
            .server
            .query(&format!("ALTER TABLE shop.{table} DROP PARTITION 202401"));
        shard
            .there
            .query(&format!("ALTER TABLE shop.{table} DROP PARTITION 202402"));
        shard.there.query(&format!(
            "INSERT INTO shop.{table} VALUES ('2024-02-05', 2, 1, 1)"
        ));
    }
    shard.sync();
    shard.here.mend(&["shop"]);
    shard.equal();
    assert_eq!(shard.servers().map(finals), [whole.clone(), whole]);
}

#[test]
fn a_partition_that_the_backup_does_not_have_goes_from_all_replicas() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    insert(&shard.there, "sales", 7, 0);
    shard.sync();
    assert_ne!(rows(&shard.here.server), whole);
    shard.here.mend(&["shop"]);
    assert_eq!(shard.equal(), whole);
    shard.here.ok(&MEND);
}

#[test]
fn a_table_that_was_dropped_here_joins_the_other_replica_and_nothing_comes_twice() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    shard.here.server.query("DROP TABLE shop.sales");
    shard.here.mend(&["shop"]);
    assert_eq!(shard.equal(), whole);
}
