//! Servers that prove who they are, and connections that services name. Debian's only: that of the Python package was
//! built without TLS.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::shop::Shop;

/// What openssl makes: signers, and a certificate of `localhost` that the first has signed.
struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let made = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for signer in ["ours", "other"] {
            made.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={signer} \
                 -keyout {signer}.key -out {signer}.crt"
            ));
        }
        fs::write(
            made.directory.path().join("names"),
            "subjectAltName=DNS:localhost\n",
        )
        .unwrap();
        made.openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server -keyout server.key -out server.csr",
        );
        made.openssl(
            "x509 -req -in server.csr -CA ours.crt -CAkey ours.key -CAcreateserial -days 2 -extfile names -out server.crt",
        );
        made
    }

    fn openssl(&self, line: &str) {
        let mut openssl = Command::new("openssl");
        let output = openssl
            .args(line.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A server that takes encrypted connections over the network only, and its port.
fn encrypted(shop: &mut Shop, certificates: &Certificates) -> u16 {
    let data = shop.server.data();
    shop.server.crash();
    let owner = fs::metadata(&data).unwrap();
    for name in ["server.crt", "server.key"] {
        let to = data.join(name);
        fs::copy(certificates.file(name), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        let (user, group) = (
            std::os::unix::fs::MetadataExt::uid(&owner),
            std::os::unix::fs::MetadataExt::gid(&owner),
        );
        chown(&to, Some(user), Some(group)).unwrap();
    }
    let who = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
    fs::write(data.join("pg_hba.conf"), who).unwrap();
    shop.server.listen(&["ssl=on"])
}

/// Runs the program with a URL, and variables of the environment.
fn at(shop: &Shop, url: &str, variables: &[(&str, &Path)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
    command
        .env("XDG_STATE_HOME", shop.directory().join("state"))
        .envs(variables.iter().copied())
        .current_dir(shop.directory())
        .args([
            "--target",
            url,
            "--repository",
            &format!("file://{}/repository", shop.directory().display()),
        ])
        .args(arguments)
        .stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn a_server_proves_who_it_is_as_far_as_that_is_asked_for() {
    let mut shop = Shop::new();
    let certificates = Certificates::new();
    let port = encrypted(&mut shop, &certificates);
    let [ours, other] =
        ["ours.crt", "other.crt"].map(|name| certificates.file(name).display().to_string());
    for (host, parameters, expected) in [
        ("localhost", String::new(), Ok(())),
        ("127.0.0.1", "sslmode=require".to_owned(), Ok(())),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            Ok(()),
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={ours}"),
            Ok(()),
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            Err("of the host as it is named"),
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other}"),
            Err("other.crt are believed"),
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            Err("other.crt are believed"),
        ),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={other}"),
            Err("other.crt are believed"),
        ),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/no/such.crt".to_owned(),
            Err("cannot read /no/such.crt"),
        ),
        (
            "localhost",
            "sslmode=disable".to_owned(),
            Err("no encryption"),
        ),
        (
            "localhost",
            "sslmode=allow".to_owned(),
            Err("sslmode=allow"),
        ),
    ] {
        let url = format!("postgres://postgres@{host}:{port}/shop?{parameters}");
        let output = at(&shop, &url, &[], &["target", "check"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        match expected {
            Ok(()) => assert!(output.status.success(), "{url}: {stderr}"),
            Err(why) => {
                assert!(!output.status.success(), "{url}");
                assert!(stderr.contains(why), "{url}: {stderr}");
            }
        }
    }
}

#[test]
fn a_service_names_a_database_and_all_is_done_through_an_encrypted_connection() {
    let mut shop = Shop::empty();
    shop.sql("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n");
    let certificates = Certificates::new();
    let port = encrypted(&mut shop, &certificates);
    let services = shop.directory().join("services");
    let ours = certificates.file("ours.crt");
    let text = format!(
        "[shop]\nhost=localhost\nport={port}\ndbname=shop\nuser=postgres\nsslmode=verify-full\nsslrootcert={}\n",
        ours.display()
    );
    fs::write(&services, text).unwrap();
    let before = shop.copy("SELECT * FROM t ORDER BY id");
    for (url, variables) in [
        (
            "postgres://?service=shop",
            vec![("PGSERVICEFILE", services.as_path())],
        ),
        (
            "postgres://",
            vec![
                ("PGSERVICEFILE", services.as_path()),
                ("PGSERVICE", Path::new("shop")),
            ],
        ),
    ] {
        let run = |arguments: &[&str]| {
            let output = at(&shop, url, &variables, arguments);
            assert!(
                output.status.success(),
                "{arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        if url.contains("service") {
            run(&["collection", "create", "c", "--table", "public.t"]);
            run(&["backup", "c"]);
        }
        shop.sql("UPDATE t SET a = NULL");
        run(&["restore", "c", "--in-place"]);
        assert_eq!(shop.copy("SELECT * FROM t ORDER BY id"), before);
        run(&["backup", "c", "--incremental"]);
    }
}
