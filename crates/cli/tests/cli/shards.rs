//! `mendb table list`, `describe`, `split`, `merge`, `compact` and `alter`.

use crate::mendb::Mendb;

fn shards(mendb: &Mendb, path: &str) -> Vec<(Option<String>, u64)> {
    let table = path.split('/').next().unwrap();
    let described = mendb.json(&format!("table describe {table}"));
    let all = described["shards"].as_array().unwrap().clone();
    all.iter()
        .filter(|shard| shard["path"] == path)
        .map(|shard| {
            let from = shard["from"].as_str().map(str::to_owned);
            (from, shard["rows"].as_u64().unwrap())
        })
        .collect()
}

fn hundred_rows() -> Mendb {
    let mendb = Mendb::new();
    let rows: String = (0..100)
        .map(|k| format!("{k},n{},{}\n", k % 10, k * 2))
        .collect();
    mendb.write("t.csv", &format!("k,name,v\n{rows}"));
    mendb
}

#[test]
fn shards_are_cut_where_a_user_says() {
    let mendb = hundred_rows();
    mendb.ok(
        "table import t t.csv --create --key k,name --index by_name=name --split-at 50 --split-at 75,n5",
    );
    let cut = |from: &str, rows| (Some(from.to_owned()), rows);
    assert_eq!(
        shards(&mendb, "t"),
        [(None, 50), cut("50", 25), cut("75,n5", 25)]
    );
    assert_eq!(
        mendb.ok("table split t --at 10,n0"),
        "split t at 10,n0, now 4 shards\n"
    );
    assert_eq!(
        mendb.ok("table split t/by_name --at n5"),
        "split t/by_name at n5, now 2 shards\n"
    );
    assert_eq!(shards(&mendb, "t/by_name"), [(None, 50), cut("n5", 50)]);
    assert_eq!(
        mendb.ok("table merge t --at 50"),
        "merged t at 50, now 3 shards\n"
    );
    assert_eq!(
        shards(&mendb, "t"),
        [(None, 10), cut("10,n0", 65), cut("75,n5", 25)]
    );
    assert_eq!(mendb.ok("table compact t"), "compacted table t\n");
    assert_eq!(mendb.json("table digest t")[0]["equal"], true);
    assert_eq!(
        mendb.fails(2, "table split t --at x,n0"),
        "error: \"x,n0\" is not a key: column k: \"x\" is not a value of type Int64\n\
         hint: a key is k Int64,name Utf8\n"
    );
    assert_eq!(
        mendb.fails(1, "table split t/nope --at x"),
        "error: table t has no index nope\nhint: its indexes are by_name\n"
    );
}

#[test]
fn keys_of_shards_are_rounded_and_in_a_time_zone_when_asked_for() {
    let mendb = Mendb::new();
    let stderr = mendb.fails(2, "table create t --column at:Datetime --key at --round");
    assert!(stderr.contains("--round is for --split-at"), "{stderr}");
    mendb.ok("table create t --column at:Datetime --key at --split-at 2020-07-01T12:00:00 --timezone +02:00");
    mendb.write("u.csv", "at\n2020-07-01T12:00:00\n");
    mendb.ok("table import u u.csv --create --key at --split-at 2020-07-01T12:00:00.4 --round --timezone +02:00");
    let cut = Some("2020-07-01T10:00:00Z".to_owned());
    assert_eq!(shards(&mendb, "t"), [(None, 0), (cut.clone(), 0)]);
    assert_eq!(shards(&mendb, "u"), [(None, 0), (cut, 1)]);

    let stderr = mendb.fails(2, "table split t --at 2020-07-01T13:00:00.6");
    assert!(
        stderr.contains("--round takes the nearest value"),
        "{stderr}"
    );
    assert_eq!(
        mendb.ok("table split t --at 2020-07-01T13:00:00.6 --round --timezone +02:00"),
        "split t at 2020-07-01T11:00:01Z, now 3 shards\n"
    );
    assert_eq!(
        mendb.ok("table merge t --at 2020-07-01T12:00:00 --timezone +02:00"),
        "merged t at 2020-07-01T10:00:00Z, now 2 shards\n"
    );
}

#[test]
fn shards_of_about_the_same_size_are_cut_by_the_keys_of_the_file() {
    let mendb = hundred_rows();
    mendb.ok("table import t t.csv --create --key k --index by_v=v --shards 4");
    for path in ["t", "t/by_v"] {
        let rows: Vec<u64> = shards(&mendb, path).iter().map(|(_, rows)| *rows).collect();
        assert_eq!(rows, [25, 25, 25, 25], "{path}");
    }
}

#[test]
fn the_list_has_what_one_looks_for() {
    let mendb = hundred_rows();
    assert_eq!(mendb.json("table list"), serde_json::json!([]));
    mendb.ok("table import t t.csv --create --key k --index by_v=v --shards 2");
    let listed = mendb.json("table list");
    assert_eq!(listed[0]["table"], "t");
    assert_eq!(listed[0]["rows"], 100);
    assert_eq!(listed[0]["shards"], 2);
    assert_eq!(listed[0]["indexes"], serde_json::json!(["by_v"]));
    let text = mendb.ok("table list");
    let titles: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        titles,
        ["table", "rows", "size", "shards", "state", "indexes"]
    );
}

#[test]
fn an_added_column_is_null_and_raises_the_schema_version() {
    let mendb = hundred_rows();
    mendb.ok("table import t t.csv --create --key k");
    let version =
        |table: &str| mendb.json(&format!("table describe {table}"))["versions"]["table"].clone();
    let before = version("t").as_u64().unwrap();
    mendb.ok("table alter t --add-column note:Utf8");
    assert_eq!(version("t"), before + 1);
    assert_eq!(mendb.ok("table export t").lines().nth(1), Some("0,n0,0,"));
    assert!(
        mendb
            .fails(1, "table alter t --add-column note:Utf8")
            .starts_with("error: ")
    );
}

#[test]
fn dropping_looks_for_every_table_first() {
    let mendb = hundred_rows();
    mendb.ok("table import t t.csv --create --key k");
    mendb.fails(1, "table drop t nope");
    assert_eq!(mendb.json("table list").as_array().unwrap().len(), 1);
    assert_eq!(mendb.ok("table drop t"), "dropped table t\n");
    assert_eq!(mendb.json("table list"), serde_json::json!([]));
}
