//! What backups of clickhouse-backup tell of themselves.

use mendb_model::part::TableName;
use mendb_repo::clickhouse_backup::{ImportError, path_name::encode};
use serde_json::json;

use crate::clickhouse_backup::{open, refused, sample, table};
use crate::clickhouse_backup_fixture::{DATABASE, Held, Layout, Made, TABLE, write};

#[tokio::test]
async fn a_list_shows_all_backups_and_what_is_wrong_with_broken_ones() {
    let [_, made, _] = sample();
    let root = tempfile::tempdir().unwrap();
    assert_eq!(open(root.path()).list().await.unwrap(), []);
    let held = vec![Held::required(&made)];
    let mut whole = Made::new("whole", Layout::Directory, held).requires("before");
    whole.metadata = json!({"compressed_size": 100});
    whole.write(root.path());
    write(root.path(), &[("cut/shadow/x".to_owned(), vec![1])].into());
    write(
        root.path(),
        &[("odd/metadata.json".to_owned(), b"{".to_vec())].into(),
    );
    let mut embedded = Made::new("server", Layout::Local, Vec::new());
    embedded.metadata = json!({"tags": "embedded"});
    embedded.write(root.path());

    let list = open(root.path()).list().await.unwrap();
    let names: Vec<_> = list.iter().map(|backup| backup.name.as_str()).collect();
    assert_eq!(names, ["cut", "odd", "server", "whole"]);
    let broken = |at: usize| list[at].broken.as_deref().unwrap_or_default();
    assert!(broken(0).contains("no metadata.json"), "{}", broken(0));
    assert!(
        broken(1).contains("odd/metadata.json is damaged"),
        "{}",
        broken(1)
    );
    assert!(broken(2).contains("RESTORE"), "{}", broken(2));
    assert_eq!(list[3].broken, None);
    assert_eq!(
        (list[3].created.as_str(), list[3].bytes),
        ("2026-08-19T10:11:12Z", 150)
    );
    assert_eq!(list[3].required_backup.as_deref(), Some("before"));

    let error = open(root.path()).backup("cut").await.unwrap_err();
    assert!(matches!(error, ImportError::Broken { .. }), "{error}");
    let error = refused(open(root.path()).backup("none").await);
    assert!(error.contains("it has cut, odd, server, whole"), "{error}");
}

#[tokio::test]
async fn the_contents_tell_tables_in_order_with_their_parts_and_mutations() {
    let [_, made, other] = sample();
    let root = tempfile::tempdir().unwrap();
    let held = vec![Held::new(&made), Held::required(&other)];
    let mut backup = Made::new("b", Layout::Local, held).requires("a");
    backup.metadata = json!({"tables": [
        {"database": DATABASE, "table": "a view"},
        {"database": DATABASE, "table": TABLE},
    ]});
    backup.write(root.path());
    let view = json!({
        "query": "CREATE VIEW `d-1`.`a view` AS SELECT a FROM `d-1`.`t.x`", "parts": null,
    });
    let path = format!("b/metadata/{}/{}.json", encode(DATABASE), encode("a view"));
    write(
        root.path(),
        &[(path, serde_json::to_vec(&view).unwrap())].into(),
    );

    let backup = open(root.path()).backup("b").await.unwrap();
    let contents = backup.contents().await.unwrap();
    assert_eq!(contents.server_version, "v26.9.1.1");
    assert_eq!(contents.required_backup.as_deref(), Some("a"));
    assert_eq!(contents.databases[0].name, DATABASE);
    let [table, view] = &contents.tables[..] else {
        panic!("{contents:?}");
    };
    assert_eq!(view.definition.engine, "View");
    assert_eq!(view.parts, 0);
    let definition = &table.definition;
    assert_eq!(
        (definition.engine.as_str(), definition.sorting_key.as_str()),
        ("MergeTree", "a")
    );
    assert!(!definition.create_query.contains("UUID"));
    assert_eq!(
        (table.parts, table.required_parts, table.bytes),
        (2, 1, 4000)
    );
    assert_eq!(table.mutations[0].command, "DELETE WHERE a = 1");
    let model = contents.part_store();
    assert_eq!(model.tables.len(), 2);
    assert_eq!(model.tables[0].mutations, table.mutations);

    let view = TableName::new(DATABASE, "a view");
    assert!(backup.parts(&view).await.unwrap().is_empty());
    let error = refused(backup.parts(&TableName::new(DATABASE, "none")).await);
    assert!(error.contains("no table d-1.none"), "{error}");
}

#[tokio::test]
async fn a_table_without_its_data_is_an_error_and_no_empty_table() {
    let root = tempfile::tempdir().unwrap();
    let mut backup = Made::new("b", Layout::Local, Vec::new());
    backup.table = json!({"metadata_only": true});
    backup.write(root.path());
    let opened = open(root.path()).backup("b").await.unwrap();
    assert!(opened.contents().await.unwrap().tables[0].schema_only);
    let error = refused(opened.parts(&table()).await);
    assert!(error.contains("only the schema"), "{error}");
}
