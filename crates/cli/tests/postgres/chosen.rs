//! Mends of rows that are chosen: by a condition, or by when they were written. The others stay as they are.

use crate::postgres_server::Version;
use crate::shop::{CUSTOMERS, Shop};

const WHERE: &str = "customer % 10 = 7";

fn of(shop: &Shop, condition: &str) -> String {
    shop.copy(&format!(
        "SELECT * FROM public.orders WHERE {condition} ORDER BY id"
    ))
}

/// Rows of the condition that were damaged, and others.
fn damage(shop: &Shop) {
    shop.sql(
        "UPDATE orders SET amount = 0 WHERE id % 3 = 0;
         DELETE FROM orders WHERE id % 11 = 5;
         INSERT INTO orders (id, customer, note) VALUES (9001, 7, 'in'), (9002, 8, 'out');
         UPDATE orders SET customer = 8 WHERE id = 26;
         UPDATE orders SET customer = 17 WHERE id = 28",
    );
}

#[test]
fn chosen_rows_are_mended_the_others_stay_and_undo_takes_back_these_alone() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::on(version);
        shop.ok(&["backup", "shop", "--label", "monday"]);
        let chosen_then = of(&shop, WHERE);
        let [customers, all_then] = shop.content().0;
        damage(&shop);
        let damaged = shop.content();
        // A row that left the condition, and one that came into it, are of it.
        let others = format!("NOT ({WHERE}) AND id NOT IN (26, 28)");
        let others_then = of(&shop, &others);
        let arguments = ["--tables", "public.orders", "--where", WHERE];
        let plan = shop.json(
            &[
                &["restore", "shop", "--in-place", "--dry-run"][..],
                &arguments,
            ]
            .concat(),
        );
        let scope = &plan["tables"][0]["scope"];
        assert_eq!(
            scope["condition"], "((customer % (10)::bigint) = 7)",
            "{plan}"
        );
        let report = shop.json(&[&["restore", "shop", "--in-place"][..], &arguments].concat());
        let mend = report["operation_id"].as_str().unwrap();
        assert_eq!(report["total"]["upserted"], plan["total"]["upserted"]);
        assert_eq!(report["total"]["erased"], plan["total"]["erased"]);
        assert_eq!(report["total"]["erased"], 1, "{report}");
        assert_eq!(of(&shop, WHERE), chosen_then);
        assert_eq!(of(&shop, &others), others_then);
        assert_eq!(shop.copy(CUSTOMERS), customers, "other tables stay, too");
        shop.ok(&["verify", "shop"]);
        let mended = shop.content();
        // What comes after the mend stays when it is undone.
        shop.sql("UPDATE orders SET note = 'later' WHERE id = 2999");
        let undo = shop.json(&["undo", mend]);
        shop.sql("UPDATE orders SET note = 'order 2999' WHERE id = 2999");
        assert_eq!(shop.content(), damaged);
        let again = shop.json(&["undo", undo["operation_id"].as_str().unwrap()]);
        assert_eq!(again["state"], "done");
        assert_eq!(shop.content(), mended);
        shop.ok(&["verify", "shop"]);
        // The rest of the backup is there to be mended to.
        shop.mend(&[]);
        assert_eq!(shop.content().0[1], all_then);
        shop.ok(&["verify", "monday", "--live"]);
        shop.assert_nothing_held();
    }
}

#[test]
fn a_condition_and_a_range_choose_together() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let before = of(&shop, "true");
    shop.sql("UPDATE orders SET note = 'x'");
    let mend = shop.mend(&[
        "--range",
        "public.orders:1000..2000",
        "--where",
        "amount > 700",
    ]);
    assert_eq!(
        shop.copy("SELECT min(id), max(id), count(*) FROM orders WHERE note IS DISTINCT FROM 'x'"),
        "1401\t1999\t599\n"
    );
    shop.ok(&["undo", &mend]);
    assert_eq!(shop.copy("SELECT DISTINCT note FROM orders"), "x\n");
    shop.mend(&[]);
    assert_eq!(of(&shop, "true"), before);
    shop.ok(&["verify", "shop"]);
}

#[test]
fn the_state_before_a_mend_of_chosen_rows_is_used_by_its_undo_alone() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    damage(&shop);
    let mend = shop.mend(&["--tables", "public.orders", "--where", WHERE]);
    let before = format!("before-{mend}");
    for arguments in [
        &["restore", "shop", "--in-place", "--to", &before][..],
        &[
            "restore",
            "shop",
            "--in-place",
            "--to",
            &before,
            "--range",
            "public.orders:1..9",
        ],
        &[
            "restore",
            "shop",
            "--to",
            &before,
            "--rename",
            "public.orders=public.orders2",
        ],
        &["diff", &before],
        &["verify", &before, "--live"],
    ] {
        let refused = shop.fails(1, arguments);
        assert!(
            refused.contains("it holds those that it mended"),
            "{refused}"
        );
        assert!(refused.contains(&format!("mendb undo {mend}")), "{refused}");
    }
    // Increments stand on what has all keys.
    shop.ok(&["backup", "shop", "--incremental"]);
    shop.ok(&["verify", "shop", "--live"]);
}

#[test]
fn a_condition_that_could_answer_otherwise_the_next_time_is_refused() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    shop.damage();
    let damaged = shop.content();
    shop.sql(
        "CREATE FUNCTION public.doubtful(int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN true; END';
         CREATE FUNCTION public.sure(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 % 2 = 0'",
    );
    for (condition, why) in [
        ("random() < 0.5", "IMMUTABLE"),
        ("now() > '2026-01-01'", "IMMUTABLE"),
        ("public.doubtful(id)", "IMMUTABLE"),
        ("customer IN (SELECT id FROM public.customers)", "subquer"),
        ("count(*) > 1", "aggregate"),
        ("nobody = 1", "does not exist"),
        ("doubled > 3", "does not exist"),
        ("id = 1; DROP TABLE public.orders", "syntax error"),
        ("id = 1) TABLESPACE x WHERE (true", "syntax error"),
        ("id", "must be type boolean"),
        ("id = 'x'", "invalid input"),
        ("", "syntax error"),
    ] {
        let refused = shop.fails(
            1,
            &[
                "restore",
                "shop",
                "--in-place",
                "--tables",
                "public.orders",
                "--where",
                condition,
            ],
        );
        assert!(
            refused.contains(why) && refused.contains("--where"),
            "{condition}: {refused}"
        );
        assert_eq!(shop.content(), damaged);
    }
    assert_eq!(shop.unfinished(), [""; 0], "nothing was begun");
    // A column of one table is none of the other.
    let refused = shop.fails(
        1,
        &["restore", "shop", "--in-place", "--where", "balance = 0"],
    );
    assert!(refused.contains("of table public.orders"), "{refused}");
    shop.mend(&[
        "--tables",
        "public.orders",
        "--where",
        "public.sure(id) -- and a comment",
    ]);
    let of_odd = "SELECT count(*) FROM orders WHERE id % 20 = 3 AND id <= 3000";
    assert_eq!(shop.copy(of_odd), "0\n", "they are still gone");
    shop.mend(&["--tables", "public.orders", "--where", "true"]);
    assert_eq!(shop.copy(of_odd), "150\n");
    let beside = shop.fails(
        2,
        &[
            "restore",
            "shop",
            "--rename",
            "public.orders=public.o",
            "--where",
            "true",
        ],
    );
    assert!(beside.contains("--in-place"), "{beside}");
}

#[test]
fn chosen_rows_are_those_there_are_when_writers_wait() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let wanted = of(&shop, WHERE);
    damage(&shop);
    let over = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = shop.server.connect();
            let mut written = 0;
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                written += 1;
                let write = format!("UPDATE orders SET amount = {written} WHERE id IN (7, 9002)");
                client.batch_execute(&write).unwrap();
            }
            written
        });
        let mended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                shop.mend(&[
                    "--to",
                    "monday",
                    "--tables",
                    "public.orders",
                    "--where",
                    WHERE,
                ]);
                damage_again(&shop);
            }
            shop.mend(&[
                "--to",
                "monday",
                "--tables",
                "public.orders",
                "--where",
                WHERE,
            ]);
        }));
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        mended.unwrap();
        writer.join().unwrap()
    });
    assert_eq!(of(&shop, WHERE), wanted);
    let last = shop.copy("SELECT DISTINCT amount FROM orders WHERE id IN (7, 9002)");
    assert_eq!(last, format!("{written}.00\n"), "no write is lost");
}

fn damage_again(shop: &Shop) {
    shop.sql(&format!("UPDATE orders SET note = 'again' WHERE {WHERE}"));
}

/// A shop whose server keeps the times of commits.
fn timed(version: Version) -> Shop {
    let mut shop = Shop::on(version);
    shop.server.crash();
    shop.server.start_with(&["track_commit_timestamp=on"]);
    shop
}

/// A moment after all that was committed so far, and before what comes.
fn moment(shop: &Shop) -> String {
    let last = "SELECT to_char(l.timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
                FROM pg_last_committed_xact() l";
    shop.copy(last).trim().to_owned()
}

#[test]
fn rows_that_were_written_after_a_moment_are_listed_and_left() {
    for version in [Version::Debian, Version::V18] {
        let shop = timed(version);
        // Each row has a commit time.
        shop.sql("UPDATE customers SET balance = balance; UPDATE orders SET note = note");
        shop.ok(&["backup", "shop", "--label", "monday"]);
        let before = shop.content();
        // The bad one, and good ones that come after it.
        shop.sql("UPDATE customers SET balance = 0; DELETE FROM orders WHERE id % 10 = 3");
        let at = moment(&shop);
        shop.sql(
            "UPDATE customers SET balance = 17 WHERE id = 5;
             BEGIN; SAVEPOINT a; UPDATE customers SET name = 'renamed' WHERE id = 6; RELEASE a; COMMIT;
             INSERT INTO orders (id, customer, note) VALUES (9001, 5, 'good')",
        );
        let damaged = shop.content();
        let arguments = ["restore", "shop", "--in-place", "--keep-newer-than", &at];
        let plan = shop.json(&[&arguments[..], &["--dry-run"]].concat());
        assert_eq!(plan["total"]["newer"], 3, "{plan}");
        let listed = plan["newer"].as_array().unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|row| (row["table"].as_str().unwrap(), row["key"].as_str().unwrap()))
            .collect();
        assert_eq!(
            listed,
            [
                ("public.customers", "5"),
                ("public.customers", "6"),
                ("public.orders", "9001")
            ]
        );
        let told = shop.ok(&[&arguments[..], &["--dry-run"]].concat());
        assert!(told.contains("3 rows differ and stay"), "{told}");
        let report = shop.json(&arguments);
        assert_eq!(report["total"]["newer"], 3, "{report}");
        let differ = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM customers WHERE balance <> id * 1.25";
        assert_eq!(shop.copy(differ), "5 6\n");
        assert_eq!(shop.copy("SELECT count(*) FROM orders"), "3001\n");
        shop.ok(&["verify", "shop"]);
        shop.ok(&["undo", report["operation_id"].as_str().unwrap()]);
        assert_eq!(shop.content(), damaged);
        shop.mend(&["--to", "monday"]);
        assert_eq!(shop.content(), before);
        shop.assert_nothing_held();
    }
}

#[test]
fn without_times_of_commits_newer_rows_are_not_guessed() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    shop.damage();
    let arguments = [
        "restore",
        "shop",
        "--in-place",
        "--keep-newer-than",
        "2026-01-01T00:00:00Z",
    ];
    let refused = shop.fails(1, &arguments);
    assert!(refused.contains("track_commit_timestamp = on"), "{refused}");
    // Switched on after the damage: of what was written before nothing is known.
    let mut shop = shop;
    shop.server.crash();
    shop.server.start_with(&["track_commit_timestamp=on"]);
    let damaged = shop.content();
    let refused = shop.fails(1, &arguments);
    assert!(
        refused.contains("was written is not known") && refused.contains("public.customers"),
        "{refused}"
    );
    assert_eq!(shop.content(), damaged);
    for bad in ["yesterday", "2026-01-01", "2026-13-01T00:00:00Z"] {
        shop.fails(
            2,
            &["restore", "shop", "--in-place", "--keep-newer-than", bad],
        );
    }
}
