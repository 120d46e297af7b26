//! Targets of both kinds: what each command works with, and what it says where it does not. No server
//! is needed for any of it.

use crate::mendb::Mendb;

/// Nothing listens on the first port.
const NO_SERVER: &str = "clickhouse://me:hunter2@127.0.0.1:1/";

fn with_server() -> Mendb {
    Mendb::new().with("MENDB_TARGET", NO_SERVER)
}

#[test]
fn commands_for_rows_tell_what_to_use_on_a_server() {
    let mendb = with_server();
    for (line, instead) in [
        ("table list", "clickhouse-client"),
        ("table drop t", "clickhouse-client"),
        ("collection list", "mendb backup NAME --tables"),
        (
            "collection create c --table t",
            "mendb backup NAME --tables",
        ),
        ("backup c --incremental", "leave --incremental out"),
    ] {
        let stderr = mendb.fails(2, line);
        assert!(stderr.contains("row stores"), "{line}: {stderr}");
        assert!(stderr.contains(instead), "{line}: {stderr}");
    }
}

#[test]
fn commands_for_servers_tell_what_to_use_on_rows() {
    let mendb = Mendb::new();
    for (line, said) in [
        (
            "backup c --tables a.*",
            "--tables is for ClickHouse targets",
        ),
        (
            "backup c --partitions 2026*",
            "--partitions is for ClickHouse targets",
        ),
        (
            "restore --restore-in-place -d -s c",
            "--data, --schema are for ClickHouse",
        ),
        (
            "restore --database-mapping a=b c",
            "--database-mapping is for ClickHouse",
        ),
    ] {
        let stderr = mendb.fails(2, line);
        assert!(stderr.contains(said), "{line}: {stderr}");
        assert!(stderr.contains("\nhint: "), "{line}: {stderr}");
    }
}

#[test]
fn a_password_is_in_no_output() {
    let mendb = with_server().with("MENDB_CLICKHOUSE_PASSWORD", "hunter3");
    let shown = mendb.ok("config show");
    assert!(
        shown.contains("clickhouse://me:****@127.0.0.1:1/"),
        "{shown}"
    );
    for line in [
        "config show",
        "config show --output json",
        "table list",
        "backup c",
        "backup c --output json",
        "restore --in-place c",
        "operation list",
        "list --target clickhouse://me:hunter2@h/analytics",
        "operation list --target clickhouse://me:hunter2@h/analytics",
    ] {
        let ran = mendb.run(line);
        let all = ran.stdout + &ran.stderr;
        assert!(!all.contains("hunter"), "{line}: {all}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let mendb = with_server();
    let stderr = mendb.fails(1, "backup analytics");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
    assert!(
        !mendb.path().join("mendb-data").exists(),
        "nothing is begun"
    );
}

#[test]
fn operations_of_a_server_are_looked_for_where_its_state_is() {
    let mendb = with_server();
    for line in ["operation list", "operation show mend-1"] {
        let stderr = mendb.fails(1, line);
        assert!(stderr.contains("127.0.0.1:1"), "{line}: {stderr}");
        assert!(stderr.contains("--state DIRECTORY"), "{line}: {stderr}");
    }
    // Where it is said where the state is, no server is asked.
    std::fs::create_dir(mendb.path().join("data")).unwrap();
    for way in ["--state here", "--data-path data"] {
        let listed = mendb.json(&format!("operation list {way}"));
        assert_eq!(listed, serde_json::json!([]));
        let stderr = mendb.fails(1, &format!("operation show mend-1 {way}"));
        assert!(stderr.contains("there is no operation mend-1"), "{stderr}");
    }
    let stderr = mendb.fails(1, "operation list --data-path none");
    assert!(stderr.contains("none is not here"), "{stderr}");
    mendb.ok("list");
}

#[test]
fn the_repository_of_a_settings_file_can_have_limits() {
    let mendb = Mendb::new();
    mendb.write(
        "mendb.yml",
        "repository:\n  url: file:///backups\n  upload_bytes_per_s: 10MiB\n  transfers: 8\n\
         general:\n  restore_in_place: yes\n  restore_order: swap\n",
    );
    let settings = mendb.json("config show");
    let value = |key: &str| {
        let all = settings.as_array().unwrap();
        let found = all.iter().find(|entry| entry["key"] == key).unwrap();
        found["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("repository"), "file:///backups");
    assert_eq!(value("repository.upload_bytes_per_s"), "10MiB");
    assert_eq!(value("general.restore_order"), "swap");
    mendb.write("mendb.yml", "general:\n  restore_order: fastest\n");
    let stderr = mendb.fails(2, "config show");
    assert!(
        stderr.contains("is not auto, remove_first or swap"),
        "{stderr}"
    );
}

#[test]
fn help_tells_how_to_begin_on_a_server() {
    let mendb = Mendb::new();
    for (line, said) in [
        ("--help", "mendb restore --in-place analytics"),
        ("backup --help", "--target clickhouse://user@host:8123/"),
        (
            "restore --help",
            "mendb restore --restore-in-place --data --tables='analytics.*' nightly",
        ),
        (
            "restore --help",
            "clickhouse-backup+file:///var/lib/clickhouse/backup",
        ),
        ("undo --help", "--keep-undo"),
    ] {
        let help = mendb.ok(line);
        assert!(help.contains(said), "{line}: {help}");
    }
}

#[test]
fn a_strategy_is_for_restoring_rows_into_absent_tables() {
    let (server, rows) = (with_server(), Mendb::new());
    for (mendb, line, said) in [
        (&server, "restore c --strategy merged", "is for row stores"),
        (
            &rows,
            "restore c --in-place --strategy merged",
            "not for mending",
        ),
        (
            &rows,
            "restore --plan p --strategy sequential",
            "not for mending",
        ),
    ] {
        let stderr = mendb.fails(2, line);
        assert!(stderr.contains(said), "{line}: {stderr}");
        assert!(stderr.contains("\nhint: "), "{line}: {stderr}");
    }
}

#[test]
fn the_environment_of_clickhouse_backup_becomes_settings() {
    let mendb = Mendb::new()
        .with("REMOTE_STORAGE", "s3")
        .with("S3_BUCKET", "backups")
        .with("S3_SECRET_KEY", "hunter4")
        .with("CLICKHOUSE_HOST", "ch-0")
        .with("CLICKHOUSE_SKIP_TABLES", "system.*,logs.*");
    let text = mendb.ok("config import --env");
    for said in [
        "target: clickhouse://ch-0:8123/",
        "url: s3://backups/mendb",
        "exclude_tables: 'logs.*'",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json = mendb.json("config import --env");
    assert_eq!(json["settings"]["clickhouse.exclude_tables"], "logs.*");
    assert!(!(text + &json.to_string()).contains("hunter4"));

    mendb.write("config.yml", "clickhouse: {host: ch-1, made_up: 1}\n");
    let ran = mendb.run("config import config.yml");
    assert!(ran.stdout.contains("ch-1:8123"), "{}", ran.stdout);
    for variable in ["CLICKHOUSE_HOST", "S3_BUCKET", "--env"] {
        assert!(ran.stderr.contains(variable), "{}", ran.stderr);
    }
    let keys = mendb.json("config import --keys");
    let keys = keys.as_array().unwrap();
    let fate = |key: &str| {
        let found = keys.iter().find(|record| record["key"] == key).unwrap();
        found["fate"].as_str().unwrap().to_owned()
    };
    assert_eq!(fate("clickhouse.skip_disks"), "translated");
    assert_eq!(fate("general.upload_by_part"), "not_needed");
    assert_eq!(fate("gcs.bucket"), "missing");
    mendb.fails(2, "config import");
}
