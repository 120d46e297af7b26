//! The servers that other tests use do what those tests rely on.

mod servers;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use servers::flights::{self, TABLES};
use servers::{Flavor, Server, ServerOptions};

const FLAVORS: [Flavor; 2] = [Flavor::Current, Flavor::V18];

fn start(flavor: Flavor) -> Server {
    Server::start(flavor, ServerOptions::default())
}

fn address(url: &str) -> String {
    let address = url.trim_start_matches("http://");
    address.trim_end_matches('/').to_owned()
}

/// A table `d.t` with five rows in three parts.
fn fill(server: &Server) {
    server.create_database("d");
    server.query("CREATE TABLE d.t (a UInt32, s String) ENGINE = MergeTree ORDER BY a");
    server.query("INSERT INTO d.t VALUES (1, 'x'), (2, 'it''s; \\n two')");
    server.insert("INSERT INTO d.t FORMAT TSV", b"3\t\n4\tline\\n\n");
    server.insert(
        "INSERT INTO d.t (s, a) FORMAT RowBinary",
        b"\x03\n\0\xff\x05\0\0\0",
    );
}

#[test]
fn rows_come_back() {
    for flavor in FLAVORS {
        let server = start(flavor);
        fill(&server);
        assert_eq!(
            server.query_bytes("SELECT * FROM d.t ORDER BY a FORMAT RowBinary"),
            b"\x01\0\0\0\x01x\x02\0\0\0\x0bit's; \n two\x03\0\0\0\0\x04\0\0\0\x05line\n\x05\0\0\0\x03\n\0\xff"
        );
        let version = server.query("SELECT version()");
        let expected = match flavor {
            Flavor::Current => "26.9.",
            Flavor::V18 => "18.16.",
        };
        assert!(version.starts_with(expected), "{version}");
        let address = address(&server.url());
        assert_eq!(server.target(), format!("clickhouse://default@{address}/"));
    }
}

#[test]
fn an_error_has_its_code_and_message() {
    for flavor in FLAVORS {
        let server = start(flavor);
        for (sql, code) in [
            ("SELECT * FROM system.nonesuch", 60),
            ("SELEC 1", 62),
            ("SELECT 1; SELECT 2", 62),
            ("SELECT 1 SETTINGS nonesuch = 1", 115),
            (
                "SELECT throwIf(number = 3000000) FROM numbers(4000000)",
                395,
            ),
        ] {
            let message = server.try_query(sql).unwrap_err();
            assert!(message.starts_with(&format!("Code: {code}")), "{message}");
            assert!(message.contains("DB::Exception: "), "{message}");
        }
        fill(&server);
        let refused =
            server.try_insert("INSERT INTO d.t FORMAT TSV", b"7\tgood\nnot a number\tx\n");
        assert!(refused.unwrap_err().starts_with("Code: "));
        assert_eq!(server.query("SELECT count() FROM d.t"), "5\n");
    }
}

#[test]
fn only_the_given_user_gets_in() {
    for flavor in FLAVORS {
        let user = ("reader".to_owned(), "secret".to_owned());
        let options = ServerOptions {
            user: Some(user),
            ..ServerOptions::default()
        };
        let server = Server::start(flavor, options);
        assert_eq!(server.query("SELECT 1"), "1\n");
        assert!(server.target().contains("//reader:secret@"));
        let refused = server
            .try_query_as(("default", ""), "SELECT 1")
            .unwrap_err();
        assert!(refused.starts_with("Code: "), "{refused}");
    }
}

#[test]
fn parts_are_directories_where_the_server_says() {
    for flavor in FLAVORS {
        let server = start(flavor);
        fill(&server);
        let paths = server
            .query("SELECT path FROM system.parts WHERE active AND database = 'd' AND table = 't'");
        assert_eq!(paths.lines().count(), 3, "{paths}");
        for path in paths.lines() {
            assert!(Path::new(path).starts_with(server.data_path()), "{path}");
            assert!(Path::new(path).join("checksums.txt").exists(), "{path}");
        }
        server.query("ALTER TABLE d.t FREEZE");
        assert!(server.data_path().join("shadow").exists());
    }
}

#[test]
fn acknowledged_rows_survive_a_kill() {
    for flavor in FLAVORS {
        let mut server = start(flavor);
        fill(&server);
        let url = server.url();
        for round in 1..=3 {
            server.query(&format!("INSERT INTO d.t VALUES ({round}, 'round')"));
            server.kill();
            assert!(server.try_query("SELECT 1").is_err());
            server.restart();
            assert_eq!(server.url(), url);
            let count = server.query("SELECT count() FROM d.t WHERE s = 'round'");
            assert_eq!(count.trim(), round.to_string());
        }
    }
}

#[test]
fn a_dropped_server_is_gone() {
    for flavor in FLAVORS {
        let server = start(flavor);
        let (address, data) = (address(&server.url()), server.data_path().to_owned());
        drop(server);
        assert!(TcpStream::connect(address).is_err());
        assert!(!data.exists());
    }
}

/// Says to a process of its own which server it owns in [`a_server_ends_with_its_owner`].
const OWNER: &str = "MENDB_TEST_OWNER";

#[test]
fn a_server_ends_with_its_owner() {
    if let Ok(flavor) = std::env::var(OWNER) {
        let server = start(FLAVORS[usize::from(flavor == "1")]);
        println!("\nserves {}", server.url());
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    for flavor in ["0", "1"] {
        let directory = tempfile::tempdir().unwrap();
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_server_ends_with_its_owner", "--nocapture"])
            .env(OWNER, flavor)
            .env("TMPDIR", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(owner.stdout.take().unwrap()).lines();
        let url = said
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("serves ").map(str::to_owned))
            .unwrap();
        owner.kill().unwrap();
        owner.wait().unwrap();
        // A connection shows the end. 18.16 also ends one where nothing is asked for 3 seconds.
        let is_gone = (0..5).any(|_| match TcpStream::connect(address(&url)) {
            Ok(mut connection) => {
                let _ = connection.read_to_end(&mut Vec::new());
                false
            }
            Err(_) => true,
        });
        assert!(is_gone, "{url}");
    }
}

#[test]
fn clients_insert_and_select_beside_each_other() {
    let server = start(Flavor::Current);
    server.create_database("d");
    server.query("CREATE TABLE d.t (client UInt8, n UInt32) ENGINE = MergeTree ORDER BY n");
    let each = |client: usize| {
        for round in 0..20 {
            let row = format!("{client}\t{round}\n");
            server.insert("INSERT INTO d.t FORMAT TSV", row.as_bytes());
            let seen = server.query(&format!("SELECT count() FROM d.t WHERE client = {client}"));
            assert_eq!(seen.trim(), (round + 1).to_string());
        }
    };
    thread::scope(|scope| {
        for client in 0..8 {
            scope.spawn(move || each(client));
        }
    });
    assert_eq!(server.query("SELECT count() FROM d.t"), "160\n");
}

#[test]
fn disks_policies_logs_and_backups_are_as_asked() {
    let server = Server::start(
        Flavor::Current,
        ServerOptions {
            jbod: true,
            tiered: true,
            objects: true,
            backups: true,
            part_log: true,
            old_parts_lifetime_s: Some(7),
            ..ServerOptions::default()
        },
    );
    server.create_database("d");
    for policy in ["jbod", "tiered", "objects"] {
        server.query(&format!(
            "CREATE TABLE d.{policy} (a UInt32) ENGINE = MergeTree ORDER BY a \
             SETTINGS storage_policy = '{policy}'"
        ));
        for row in 0..4 {
            server.query(&format!("INSERT INTO d.{policy} VALUES ({row})"));
        }
    }
    server.query("ALTER TABLE d.tiered MOVE PARTITION tuple() TO DISK 'cold'");
    let disks = |table: &str| -> BTreeSet<String> {
        let rows = server.query(&format!(
            "SELECT disk_name, path FROM system.parts \
             WHERE active AND database = 'd' AND table = '{table}'"
        ));
        let rows = rows.lines().map(|row| row.split_once('\t').unwrap());
        rows.map(|(disk, path)| {
            // What is called the path of an object disk are the files that point to objects.
            let root = match disk {
                "objects" => server.data_path().join("disks/objects"),
                _ => server.disk_path(disk),
            };
            assert!(Path::new(path).starts_with(root), "{path}");
            disk.to_owned()
        })
        .collect()
    };
    assert_eq!(disks("jbod"), ["d1", "d2"].map(str::to_owned).into());
    assert_eq!(disks("tiered"), ["cold".to_owned()].into());
    assert_eq!(disks("objects"), ["objects".to_owned()].into());
    let objects = std::fs::read_dir(server.disk_path("objects")).unwrap();
    assert_ne!(
        objects.count(),
        0,
        "objects are in the directory of their disk"
    );
    assert_eq!(
        server.query("SELECT type FROM system.disks WHERE name = 'objects'"),
        "ObjectStorage\n"
    );

    server.query("SYSTEM FLUSH LOGS");
    let logged =
        "SELECT count() FROM system.part_log WHERE table = 'jbod' AND event_type = 'NewPart'";
    assert_eq!(server.query(logged), "4\n");
    let lifetime = "SELECT value FROM system.merge_tree_settings WHERE name = 'old_parts_lifetime'";
    assert_eq!(server.query(lifetime), "7\n");

    let file = server.disk_path("backups").join("whole");
    for to in [
        "Disk('backups', 'b')".to_owned(),
        format!("File('{}')", file.display()),
    ] {
        server.query(&format!("BACKUP TABLE d.jbod TO {to}"));
        server.query(&format!("RESTORE TABLE d.jbod AS d.back FROM {to}"));
        assert_eq!(server.query("SELECT sum(a), count() FROM d.back"), "6\t4\n");
        server.query("DROP TABLE d.back SYNC");
    }
}

#[test]
fn data_can_live_in_a_given_directory() {
    for flavor in FLAVORS {
        let directory = tempfile::tempdir().unwrap();
        let options = ServerOptions {
            data: Some(directory.path().to_owned()),
            part_log: true,
            ..ServerOptions::default()
        };
        let server = Server::start(flavor, options.clone());
        fill(&server);
        drop(server);
        let server = Server::start(flavor, options);
        assert_eq!(server.query("SELECT count() FROM d.t"), "5\n");
    }
}

#[test]
fn the_story_has_a_million_rows_in_all_kinds_of_parts() {
    for flavor in FLAVORS {
        let server = start(flavor);
        flights::load_story(&server, "nyc");
        let checksums = TABLES.map(|table| flights::checksum(&server, "nyc", table));
        let rows: u64 = checksums
            .iter()
            .map(|sum| sum.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert!(rows > 1_000_000, "{checksums:?}");
        assert_eq!(
            server.query("SHOW TABLES FROM nyc").lines().count(),
            TABLES.len()
        );
        if flavor == Flavor::Current {
            assert_eq!(
                server.query(
                    "SELECT table, part_type FROM system.parts \
                     WHERE active AND database = 'nyc' GROUP BY table, part_type ORDER BY table"
                ),
                "flights_compact\tCompact\nflights_wide\tWide\nplanes\tCompact\nweather\tCompact\n"
            );
            let projections = "SELECT count() > 0 FROM system.projection_parts \
                               WHERE active AND database = 'nyc' AND table = 'weather'";
            assert_eq!(server.query(projections), "1\n");
        }
        let newest = flights::checksum_final(&server, "nyc", "planes");
        assert!(newest.starts_with("3322 rows"), "{newest}");
        server.query("OPTIMIZE TABLE nyc.flights_wide FINAL");
        assert_eq!(
            flights::checksum(&server, "nyc", "flights_wide"),
            checksums[0],
            "merging changes no checksum"
        );
        server.query("OPTIMIZE TABLE nyc.planes FINAL");
        assert_eq!(flights::checksum(&server, "nyc", "planes"), newest);
        let planes = flights::plain_select(&server, "nyc", "planes");
        assert_eq!(planes.lines().count(), 3322);
        server.query("INSERT INTO nyc.planes (tailnum) VALUES ('N1')");
        assert_ne!(flights::checksum(&server, "nyc", "planes"), newest);
    }
}
