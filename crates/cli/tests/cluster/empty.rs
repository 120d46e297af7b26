//! Shards that have no table of a collection, or none that is meant.

use serde_json::Value;

use crate::agents::{Cluster, insert, told};

fn tables(report: &Value) -> Vec<(String, u64)> {
    let shards = report["shards"].as_array().unwrap().iter();
    let mut tables: Vec<_> = shards
        .map(|shard| {
            let name = shard["shard"].as_str().unwrap().to_owned();
            (name, shard["tables"].as_u64().unwrap())
        })
        .collect();
    tables.sort();
    tables
}

#[test]
fn a_shard_without_a_table_is_backed_up_as_empty_and_there_is_nothing_to_mend_there() {
    let cluster = Cluster::new();
    let [one, two] = [0, 1].map(|at| &cluster.shards.servers[at]);
    for server in [one, two] {
        insert(server, 1, 0);
    }
    one.create_database("only");
    one.query("CREATE TABLE only.t (id UInt64) ENGINE = MergeTree ORDER BY id");
    one.query("INSERT INTO only.t VALUES (1), (2)");

    let backup = cluster.ok(&["backup", "only", "--label", "some"]);
    let of = |counts: [u64; 2]| [("one".to_owned(), counts[0]), ("two".to_owned(), counts[1])];
    assert_eq!(tables(&backup), of([1, 0]));
    assert_eq!(backup["complete"], true);
    let shown = cluster.command(&["show", "some"]).output().unwrap();
    let shown = told(&shown);
    assert!(
        shown.contains("shard two has none of the tables"),
        "{shown}"
    );
    cluster.ok(&["verify", "some", "--live"]);
    let verified = cluster.command(&["verify", "some", "--live"]).output();
    let text = told(&verified.unwrap());
    assert!(text.contains("there is nothing to compare"), "{text}");

    // Also where that one is emptied, and where patterns name what one shard has.
    one.query("DROP TABLE only.t");
    let mended = cluster.ok(&["restore", "some", "--in-place"]);
    assert_eq!(one.query("SELECT count() FROM only.t"), "2\n");
    assert!(mended["shards"][1]["told"].is_null(), "{mended}");
    let both = [
        "backup",
        "all",
        "--tables",
        "only.*,shop.*",
        "--label",
        "both",
    ];
    assert_eq!(tables(&cluster.ok(&both)), of([2, 1]));
    one.query("TRUNCATE TABLE only.t");
    let mend = ["restore", "both", "--in-place", "--tables", "only.t"];
    let mended = cluster.ok(&mend);
    assert_eq!(one.query("SELECT count() FROM only.t"), "2\n");
    assert!(mended["shards"][1]["told"].is_null(), "{mended}");

    // The next one goes by what was named, and what no shard has is refused, before anything is begun.
    assert_eq!(tables(&cluster.ok(&["backup", "all"])), of([2, 1]));
    let refused = cluster.fails(&["backup", "nowhere"]);
    assert!(
        refused.contains("no shard of cluster pair has a table that matches nowhere.*"),
        "{refused}"
    );
    for typo in [
        &["backup", "all", "--tables", "only.*,shop.typo"][..],
        &["restore", "both", "--in-place", "--tables", "shop.typo"],
        &["restore", "both", "--in-place", "--partitions", "typo"],
    ] {
        let refused = cluster.fails(typo);
        assert!(refused.contains("typo"), "{refused}");
    }
    let nothing = ["backup", "all", "--tables", "shop.typo", "--if-exists"];
    assert_eq!(cluster.ok(&nothing)["unmatched"][0]["pattern"], "shop.typo");
    assert_eq!(cluster.unfinished(), None);
}
