//! Increments: each holds just what its snapshot held, whatever was written meanwhile and however it was found.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::error::SqlState;
use serde_json::Value;

use crate::postgres_server::Version;
use crate::shop::{CUSTOMERS, Content, ORDERS, Shop};

/// Takes an increment, and tells how many changes each table has and how they were found.
pub fn increment(shop: &Shop, more: &[&str]) -> Vec<(u64, String)> {
    let mut all = vec!["backup", "shop", "--incremental"];
    all.extend(more);
    let report = shop.json(&all);
    let table = |table: &Value| {
        let method = match &table["changes_by"] {
            Value::String(method) => method.clone(),
            method => method["all_rows"]["reason"].as_str().unwrap().to_owned(),
        };
        (table["changes"].as_u64().unwrap(), method)
    };
    let tables = report["tables"].as_array();
    let tables = tables.unwrap_or_else(|| panic!("{report}"));
    tables.iter().map(table).collect()
}

/// Increments of the two tables.
fn changes(shop: &Shop, more: &[&str]) -> [u64; 2] {
    let found = increment(shop, more);
    [found[0].0, found[1].0]
}

/// What was backed up last is what there is, and comparing all rows finds nothing more.
pub fn assert_up_to_date(shop: &Shop) {
    shop.ok(&["verify", "shop", "--live"]);
    assert_eq!(changes(shop, &["--compare-rows"]), [0, 0]);
}

#[test]
fn an_increment_holds_what_was_written_and_nothing_else() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::on(version);
        shop.ok(&["backup", "shop"]);
        for (statements, expected) in [
            ("SELECT 1", [0, 0]),
            (
                "UPDATE customers SET balance = balance + 1 WHERE id % 100 = 3",
                [5, 0],
            ),
            // Rows that are written and stay what they were are no changes.
            ("UPDATE orders SET note = note WHERE id < 500", [0, 0]),
            ("DELETE FROM orders WHERE id % 300 = 7", [0, 10]),
            (
                "INSERT INTO orders (customer, amount) SELECT 3, n FROM generate_series(1, 20) n",
                [0, 20],
            ),
            // As many rows as before, and others.
            (
                "DELETE FROM orders WHERE id = 20; INSERT INTO orders (customer, note) VALUES (4, 'instead')",
                [0, 2],
            ),
            ("UPDATE orders SET id = id + 100000 WHERE id = 30", [0, 2]),
            (
                "DELETE FROM orders WHERE id = 31; INSERT INTO orders (id, customer) VALUES (31, 9)",
                [0, 1],
            ),
            (
                "BEGIN; SAVEPOINT a; UPDATE orders SET note = 'kept' WHERE id = 40; RELEASE a;
                 SAVEPOINT b; UPDATE orders SET note = 'lost' WHERE id = 41; ROLLBACK TO b; COMMIT",
                [0, 1],
            ),
            ("BEGIN; DELETE FROM orders; ROLLBACK", [0, 0]),
            (
                "BEGIN; UPDATE orders SET note = 'twice' WHERE id = 42; PREPARE TRANSACTION 'p'",
                [0, 0],
            ),
            ("COMMIT PREPARED 'p'", [0, 1]),
            ("DELETE FROM customers WHERE id > 490", [10, 60]),
        ] {
            shop.sql(statements);
            let found = increment(&shop, &[]);
            assert_eq!([found[0].0, found[1].0], expected, "{statements}");
            assert_eq!(found[1].1, "row_versions");
        }
        // VACUUM runs outside of a transaction.
        shop.sql("UPDATE orders SET note = 'frozen' WHERE id = 50");
        shop.sql("VACUUM FREEZE orders");
        assert_eq!(changes(&shop, &[]), [0, 1]);
        assert_up_to_date(&shop);
        shop.ok(&["verify", "shop"]);
        shop.assert_nothing_held();
    }
}

#[test]
fn a_transaction_that_ran_when_a_backup_was_cut_is_in_the_next() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let mut writers = [(); 3].map(|()| shop.server.connect());
    for (writer, statements) in writers.iter_mut().zip([
        "BEGIN; UPDATE orders SET note = 'plain' WHERE id = 1",
        "BEGIN; SAVEPOINT a; UPDATE orders SET note = 'part' WHERE id = 2; RELEASE a",
        "BEGIN; INSERT INTO orders (id, customer) VALUES (-1, 1); DELETE FROM orders WHERE id = 3; PREPARE TRANSACTION 'x'",
    ]) {
        writer.batch_execute(statements).unwrap();
    }
    for round in 0..3 {
        // Others begin and end meanwhile.
        shop.sql(&format!(
            "UPDATE orders SET note = 'round {round}' WHERE id = 100"
        ));
        assert_eq!(changes(&shop, &[]), [0, 1]);
    }
    // One that has a number and writes only after the cut.
    writers[0]
        .batch_execute("UPDATE orders SET note = 'late' WHERE id = 4")
        .unwrap();
    for (writer, end) in writers
        .iter_mut()
        .zip(["COMMIT", "COMMIT", "COMMIT PREPARED 'x'"])
    {
        writer.batch_execute(end).unwrap();
    }
    assert_eq!(changes(&shop, &[]), [0, 5]);
    assert_up_to_date(&shop);
}

#[test]
fn where_versions_of_rows_do_not_tell_all_rows_are_compared_and_it_is_said_why() {
    let mut shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    shop.sql("UPDATE orders SET note = 'x' WHERE id = 1");
    shop.sql("VACUUM FULL orders");
    let found = increment(&shop, &[]);
    assert_eq!(found[0], (0, "row_versions".to_owned()));
    assert_eq!(found[1].0, 1);
    assert!(found[1].1.contains("written anew"), "{found:?}");
    shop.sql("CREATE TABLE kept AS SELECT * FROM orders WHERE id < 100; TRUNCATE orders");
    shop.sql("INSERT INTO orders (id, customer, amount, note) SELECT id, customer, amount, note FROM kept");
    let found = increment(&shop, &[]);
    // All rows are new: their versions tell, and the number of rows.
    assert_eq!(found[1], (2_901, "row_versions".to_owned()));
    // Another table under its name, with old rows.
    shop.sql("CREATE TABLE other (LIKE orders INCLUDING ALL); INSERT INTO other (id, customer) SELECT id, 5 FROM kept");
    assert_eq!(changes(&shop, &[]), [0, 0]);
    shop.sql("ALTER TABLE orders RENAME TO orders_then; ALTER TABLE other RENAME TO orders");
    let found = increment(&shop, &[]);
    assert_eq!(found[1].0, 99);
    assert!(found[1].1.contains("made anew"), "{found:?}");
    assert_eq!(changes(&shop, &[]), [0, 0]);
    // The database is set back to before a backup: numbers of transactions come again.
    shop.server.crash();
    let kept = shop.server.copy_of_data();
    shop.server.start();
    shop.sql("UPDATE customers SET balance = 7 WHERE id < 50");
    assert_eq!(changes(&shop, &[]), [49, 0]);
    shop.server.crash();
    shop.server.put_back(&kept);
    shop.server.start();
    shop.sql("UPDATE customers SET balance = 8 WHERE id < 20");
    for _ in 0..20 {
        shop.sql("UPDATE orders SET note = 'y' WHERE id = 1");
    }
    let found = increment(&shop, &[]);
    assert_eq!((found[0].0, found[1].0), (49, 1), "{found:?}");
    assert!(found[0].1.contains("set back"), "{found:?}");
    // What a load of a dump looks like: the witness was written by another transaction than it says.
    shop.sql("UPDATE mendb.cut SET oldest = oldest");
    assert!(increment(&shop, &[])[0].1.contains("dump"));
    assert_eq!(increment(&shop, &[])[0].1, "row_versions");
    assert_up_to_date(&shop);
}

/// The number of the transaction that a backup was cut before.
fn cut_at(report: &Value) -> u64 {
    let version = report["snapshot_version"].to_string();
    let number = version.trim_matches('"').split(':').next().unwrap();
    number
        .parse()
        .unwrap_or_else(|_| panic!("{version} is no version"))
}

#[test]
fn a_database_that_was_set_back_and_reached_the_transaction_of_a_lost_backup_again_is_noticed() {
    for version in [Version::Debian, Version::V18] {
        let mut shop = Shop::on(version);
        let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
        let now = |shop: &Shop| shop.copy(next).trim().parse::<u64>().unwrap();
        let newest = |shop: &Shop| {
            let backups = shop.json(&["list", "shop"]);
            cut_at(backups.as_array().unwrap().last().unwrap())
        };
        shop.ok(&["backup", "shop"]);
        // How many transactions a backup needs before its cut.
        let before = now(&shop);
        shop.repository = "other";
        shop.ok(&["backup", "shop", "--new-repository"]);
        let own = newest(&shop) - before;
        shop.repository = "repository";
        shop.server.crash();
        let kept = shop.server.copy_of_data();
        shop.server.start();
        for _ in 0..60 {
            shop.sql("UPDATE customers SET balance = 7 WHERE id < 50");
        }
        assert_eq!(changes(&shop, &[]), [49, 0]);
        let lost = newest(&shop);
        shop.server.crash();
        shop.server.put_back(&kept);
        shop.server.start();
        shop.sql("UPDATE orders SET note = 'y' WHERE id = 1");
        while now(&shop) < lost - own {
            shop.sql("SELECT pg_current_xact_id()");
        }
        // The other repository knows nothing of the lost one.
        shop.repository = "other";
        shop.ok(&["backup", "shop"]);
        assert_eq!(newest(&shop), lost, "the same number is reached again");
        shop.repository = "repository";
        let found = increment(&shop, &[]);
        assert_eq!((found[0].0, found[1].0), (49, 1), "{found:?}");
        assert!(found[0].1.contains("set back"), "{found:?}");
        assert_eq!(increment(&shop, &[])[0].1, "row_versions");
        assert_up_to_date(&shop);
    }
}

#[test]
fn a_schema_of_the_format_before_is_raised_when_nothing_is_held_in_it() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    shop.sql(
        "DROP TABLE mendb.stream, mendb.stream_cut;
         ALTER TABLE mendb.cut DROP CONSTRAINT cut_pkey, DROP drawn, ADD PRIMARY KEY (version);
         ALTER TABLE mendb.cut_table DROP CONSTRAINT cut_table_pkey, DROP drawn,
             ADD PRIMARY KEY (version, table_name, number);
         ALTER TABLE mendb.published DROP drawn;
         ALTER TABLE mendb.looked DROP wanted_rows, DROP wanted_sum;
         ALTER TABLE mendb.before DROP wanted_rows, DROP wanted_sum;
         UPDATE mendb.target SET format = 2;
         INSERT INTO mendb.held (operation, kind, table_name, definition) VALUES ('m', 'mend', 'public.x', '{}')",
    );
    let refused = shop.fails(1, &["backup", "shop", "--incremental"]);
    assert!(
        refused.contains("operation m holds table public.x in the format 2"),
        "{refused}"
    );
    shop.sql("DELETE FROM mendb.held; UPDATE orders SET note = 'x' WHERE id = 1");
    // Witnesses of then are not those that backups of now ask for.
    let found = increment(&shop, &[]);
    assert_eq!(found[1].0, 1);
    assert!(found[1].1.contains("does not know"), "{found:?}");
    assert_eq!(increment(&shop, &[])[1].1, "row_versions");
    shop.mend(&["--to", "monday"]);
    shop.ok(&["verify", "monday", "--live"]);
}

#[test]
fn an_increment_of_an_altered_table_is_refused_with_the_difference() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    // Neither is of the rows.
    shop.sql("CREATE INDEX ON orders (amount); ALTER TABLE orders ALTER amount SET DEFAULT 3");
    assert_eq!(changes(&shop, &[]), [0, 0]);
    for (alter, back, difference) in [
        (
            "ADD COLUMN extra int DEFAULT 7",
            "DROP COLUMN extra",
            "\"extra\" integer",
        ),
        (
            "ALTER note TYPE varchar(50)",
            "ALTER note TYPE varchar(40)",
            "\"note\" character varying(50), and the backup \"note\" character varying(40)",
        ),
    ] {
        shop.sql(&format!("ALTER TABLE orders {alter}"));
        let refused = shop.fails(1, &["backup", "shop", "--incremental"]);
        assert!(refused.contains(difference), "{refused}");
        assert!(refused.contains("take a full backup"), "{refused}");
        shop.sql(&format!("ALTER TABLE orders {back}"));
    }
    assert_up_to_date(&shop);
}

#[test]
fn values_that_changed_without_a_row_being_written_are_in_the_increment() {
    let shop = Shop::empty();
    shop.sql(
        "CREATE TYPE kind AS ENUM ('a', 'b');
         CREATE TABLE things (id int PRIMARY KEY, kind kind, n int);
         INSERT INTO things SELECT n, 'a', -n FROM generate_series(1, 20) n",
    );
    shop.ok(&["collection", "create", "things", "--table", "public.things"]);
    shop.ok(&["backup", "things"]);
    for change in [
        "ALTER TABLE things DROP COLUMN n; ALTER TABLE things ADD n int DEFAULT 5",
        "ALTER TYPE kind RENAME VALUE 'a' TO 'c'; ALTER TYPE kind RENAME VALUE 'b' TO 'a';
         ALTER TYPE kind RENAME VALUE 'c' TO 'b'",
    ] {
        shop.sql(change);
        shop.ok(&["backup", "things", "--incremental"]);
        shop.ok(&["verify", "things", "--live"]);
    }
}

#[test]
fn increments_go_on_after_a_mend_and_its_undo() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let monday = shop.content();
    shop.sql("UPDATE customers SET balance = 1 WHERE id < 10");
    shop.ok(&["backup", "shop", "--incremental", "--label", "tuesday"]);
    let tuesday = shop.content();
    shop.damage();
    let mend = shop.mend(&["--to", "monday"]);
    // The state before the mend is the newest backup.
    assert_eq!(changes(&shop, &["--label", "mended"]), [501, 340]);
    assert_up_to_date(&shop);
    let mended_to_less = shop.mend(&["--to", "tuesday", "--tables", "public.customers"]);
    assert_eq!(shop.content().0[0], tuesday.0[0]);
    // That of some tables is none to stand on.
    assert_eq!(changes(&shop, &[]), [9, 0]);
    assert_up_to_date(&shop);
    shop.ok(&["undo", &mended_to_less]);
    shop.ok(&["undo", &mend]);
    shop.ok(&["backup", "shop", "--incremental"]);
    assert_up_to_date(&shop);
    for (to, expected) in [
        ("tuesday", &tuesday),
        ("monday", &monday),
        ("mended", &monday),
    ] {
        shop.mend(&["--to", to]);
        assert_eq!(&shop.content(), expected, "{to}");
    }
    shop.ok(&["verify", "shop"]);
}

#[test]
fn chains_of_increments_are_compacted_and_pruned() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "0"]);
    let mut contents = vec![shop.content()];
    for round in 1..6 {
        shop.sql(&format!(
            "UPDATE customers SET balance = balance + {round} WHERE id % 50 = {round};
             DELETE FROM orders WHERE id % 97 = {round};
             INSERT INTO orders (customer, amount) SELECT 1 + n, {round} FROM generate_series(1, 10) n"
        ));
        shop.ok(&[
            "backup",
            "shop",
            "--incremental",
            "--label",
            &round.to_string(),
        ]);
        contents.push(shop.content());
    }
    shop.ok(&["chain", "compact", "shop", "--from", "1", "--to", "3"]);
    shop.ok(&["verify", "shop"]);
    shop.ok(&["prune", "shop", "--keep-last", "2"]);
    shop.ok(&["verify", "shop"]);
    for round in [4, 5] {
        shop.mend(&["--to", &round.to_string()]);
        assert_eq!(shop.content(), contents[round]);
    }
    shop.ok(&["backup", "shop", "--incremental"]);
    assert_up_to_date(&shop);
}

/// Takes a backup while others write, and tells what its snapshot held: it is kept from going on until somebody else has
/// read that snapshot, too.
fn taken_with_its_content(shop: &Shop, arguments: &[&str]) -> Content {
    let mut holder = shop.server.connect();
    holder
        .batch_execute("BEGIN; LOCK TABLE mendb.cut IN SHARE MODE")
        .unwrap();
    let mut child = shop.command(arguments);
    let mut child = child
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waits =
        "SELECT count(*) FROM pg_locks WHERE relation = 'mendb.cut'::regclass AND NOT granted";
    while shop.copy(waits) == "0\n" {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it had a snapshot"
        );
        thread::yield_now();
    }
    let exported = fs::read_dir(shop.server.data().join("pg_snapshots")).unwrap();
    let names: Vec<String> = exported
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let [name] = names.as_slice() else {
        panic!("{names:?}")
    };
    let mut reader = shop.server.connect();
    let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{name}'");
    reader.batch_execute(&begin).unwrap();
    let content = Content([CUSTOMERS, ORDERS].map(|query| {
        let mut out = String::new();
        let mut copied = reader
            .copy_out(&format!("COPY ({query}) TO STDOUT"))
            .unwrap();
        std::io::Read::read_to_string(&mut copied, &mut out).unwrap();
        out
    }));
    drop(holder);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    content
}

#[test]
fn backups_of_a_bank_that_is_open_hold_what_their_snapshots_held() {
    bank(&Shop::new(), &[]);
}

#[test]
fn so_they_do_on_18() {
    bank(&Shop::on(Version::V18), &[]);
}

/// Takes backups while money is moved; the first of them in this way.
pub fn bank(shop: &Shop, first: &[&str]) {
    const ROUNDS: usize = 20;
    shop.sql("UPDATE customers SET balance = 100; ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey");
    let over = AtomicBool::new(false);
    let mut contents = Vec::new();
    thread::scope(|scope| {
        for writer in 0..4_u64 {
            let over = &over;
            scope.spawn(move || write(shop, writer, &|_| over.load(Ordering::SeqCst)));
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                let label = round.to_string();
                let kind: &[&str] = match round {
                    0 => first,
                    // The methods take turns at random.
                    _ if round % 7 == 3 => &["--incremental", "--compare-rows"],
                    _ => &["--incremental"],
                };
                let arguments = [&["backup", "shop", "--label", &label], kind].concat();
                contents.push(taken_with_its_content(shop, &arguments));
            }
        }));
        over.store(true, Ordering::SeqCst);
        done.unwrap();
    });
    shop.ok(&["verify", "shop"]);
    assert_eq!(
        shop.copy("SELECT sum(balance) FROM customers"),
        "50000.00\n"
    );
    shop.ok(&["backup", "shop", "--incremental"]);
    assert_up_to_date(shop);
    for (at, strategy) in [(13, "merged"), (5, "sequential"), (19, "merged")] {
        let rename = "public.customers=public.customers2,public.orders=public.orders2";
        let to = at.to_string();
        shop.ok(&[
            "restore",
            "shop",
            "--to",
            &to,
            "--rename",
            rename,
            "--strategy",
            strategy,
        ]);
        let found = [CUSTOMERS, ORDERS].map(|query| {
            shop.copy(
                &query
                    .replace("customers", "customers2")
                    .replace("orders", "orders2"),
            )
        });
        assert_eq!(Content(found), contents[at], "backup {at}");
        shop.sql("DROP TABLE customers2, orders2");
    }
    for at in [7, 0, 18, 3, 11] {
        shop.mend(&["--to", &at.to_string()]);
        assert_eq!(shop.content(), contents[at], "backup {at}");
        assert_eq!(
            shop.copy("SELECT sum(balance) FROM customers"),
            "50000.00\n"
        );
    }
    shop.assert_nothing_held();
}

/// Moves money, and writes, changes and removes orders, with parts that are taken back, until so many transactions are
/// enough.
pub fn write(shop: &Shop, writer: u64, enough: &dyn Fn(u64) -> bool) {
    let mut client = shop.server.connect();
    client
        .batch_execute(&format!(
            "SET synchronous_commit = {}",
            writer.is_multiple_of(2)
        ))
        .unwrap();
    let mut random = writer.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut done = 0;
    'transactions: while !enough(done) {
        done += 1;
        let (from, to, amount) = (1 + next(500), 1 + next(500), next(9));
        let (one, other) = (from.min(to), from.max(to));
        let (order, change) = (1 + next(3_000), next(4));
        let of_order = match change {
            0 => format!("UPDATE orders SET amount = {amount} WHERE id = {order}"),
            1 => format!("DELETE FROM orders WHERE id = {order}"),
            2 => format!(
                "INSERT INTO orders (id, customer) VALUES ({order}, {one}) ON CONFLICT DO NOTHING"
            ),
            _ => format!("INSERT INTO orders (customer, amount) VALUES ({one}, {amount})"),
        };
        let end = match next(8) {
            0 => "ROLLBACK".to_owned(),
            1 => format!(
                "PREPARE TRANSACTION 'w{writer}'; {} PREPARED 'w{writer}'",
                ["COMMIT", "ROLLBACK"][next(2) as usize]
            ),
            _ => "COMMIT".to_owned(),
        };
        let statements = format!(
            "BEGIN; UPDATE customers SET balance = balance - {amount} WHERE id = {one}; SAVEPOINT a;
             UPDATE customers SET balance = balance + {amount} WHERE id = {other}; RELEASE a;
             SAVEPOINT b; DELETE FROM customers WHERE id = {one}; ROLLBACK TO b; SAVEPOINT c; {of_order}; RELEASE c; {end}"
        );
        // One after the other: sent together they would be one transaction.
        for statement in statements.split(';') {
            if let Err(error) = client.batch_execute(statement) {
                let code = error.code().map(SqlState::code);
                assert_eq!(code, Some("40P01"), "{statement}: {error:?}");
                client.batch_execute("ROLLBACK").unwrap();
                continue 'transactions;
            }
        }
    }
}
