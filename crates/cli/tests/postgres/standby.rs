//! Backups of a hot standby, and what is refused there.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::postgres_server::{PostgresServer, Version};
use crate::shop::Shop;

/// A shop on a primary, and the standby that follows it.
struct Pair {
    shop: Shop,
    standby: PostgresServer,
}

impl Pair {
    /// Runs a command on the standby, with the journal of the primary or another one.
    fn run(&self, with_its_journal: bool, words: &[&str]) -> Output {
        let own = self.shop.directory().join("state/mendb/postgres");
        let state = match with_its_journal {
            true => std::fs::read_dir(own)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path(),
            false => PathBuf::from("elsewhere"),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .env("MENDB_POSTGRES_STATE", state)
            .env("XDG_STATE_HOME", self.shop.directory().join("state"))
            .current_dir(self.shop.directory())
            .args(["--target", &self.standby.url("postgres")])
            .args(["--repository", &self.shop.repository()])
            .args(words)
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        self.standby.follow(&self.shop.server);
        let output = self.run(true, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}\n{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, words: &[&str], why: &str) {
        self.standby.follow(&self.shop.server);
        let output = self.run(true, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}\n{stderr}");
        assert!(stderr.contains(why), "{words:?}\n{stderr}");
    }

    /// How the newest increment found what had changed in a table.
    fn found(&self, label: &str) -> Value {
        let shown = self.shop.json(&["show", label]);
        shown["tables"][1]["changes_by"].clone()
    }
}

#[test]
fn a_standby_is_backed_up_and_what_it_cannot_do_is_refused() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::on(version);
        let standby = shop.server.standby();
        let pair = Pair { shop, standby };
        let shop = &pair.shop;
        shop.ok(&["backup", "shop", "--label", "monday"]);
        // An increment on a backup of the primary, by the versions of rows.
        shop.sql(
            "UPDATE orders SET note = 'tuesday' WHERE id < 20; DELETE FROM orders WHERE id = 50",
        );
        pair.ok(&["backup", "shop", "--incremental", "--label", "tuesday"]);
        let tuesday = shop.content();
        shop.ok(&["verify", "tuesday", "--live"]);
        assert!(pair.found("tuesday").to_string().contains("row_versions"));
        // On one of a standby all rows are compared, there and on the primary.
        shop.sql("UPDATE orders SET note = 'wednesday' WHERE id < 10");
        pair.ok(&["backup", "shop", "--incremental", "--label", "wednesday"]);
        shop.ok(&["verify", "wednesday", "--live"]);
        let found = pair.found("wednesday").to_string();
        assert!(
            found.contains("all_rows") && found.contains("was taken of a standby"),
            "{found}"
        );
        shop.sql("UPDATE orders SET note = 'thursday' WHERE id < 5");
        shop.ok(&["backup", "shop", "--incremental", "--label", "thursday"]);
        shop.ok(&["verify", "thursday", "--live"]);
        // A full one.
        pair.ok(&["backup", "shop", "--label", "friday"]);
        shop.ok(&["verify", "friday", "--live"]);
        shop.ok(&["verify", "shop"]);
        assert!(
            pair.ok(&["verify", "friday", "--live"])
                .contains("public.orders")
        );
        let check = pair.ok(&["target", "check"]);
        assert!(check.contains("it is a standby"), "{check}");
        assert!(check.contains("public.orders     yes     no"), "{check}");
        let standby = "the server is a standby";
        pair.refused(&["restore", "shop", "--in-place"], standby);
        pair.refused(
            &[
                "restore",
                "shop",
                "--rename",
                "public.orders=public.orders2",
            ],
            standby,
        );
        pair.refused(
            &["backup", "shop", "--changes", "stream"],
            "kept on the primary",
        );
        // What is refused ends by itself.
        assert_eq!(shop.unfinished(), Vec::<String>::new());
        let output = pair.run(false, &["backup", "shop"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains("works on"),
            "{stderr}"
        );
        // The primary is mended to what the standby was.
        shop.mend(&["--to", "tuesday"]);
        assert_eq!(shop.content(), tuesday);
        shop.ok(&["backup", "shop", "--incremental"]);
        shop.ok(&["verify", "shop", "--live"]);
        shop.assert_nothing_held();
    }
}
