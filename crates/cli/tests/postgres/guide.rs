//! The guide of PostgreSQL does what it says.

use crate::postgres_server::PostgresServer;
use crate::reader::Reader;

const GUIDE: &str = include_str!("../../../../docs/guide-postgresql.md");

#[test]
fn the_guide_of_postgresql_is_true() {
    let server = PostgresServer::new();
    let (socket, port) = server.socket();
    let mut reader = Reader::new(&[server.programs()]);
    let repository = reader.path("repository").display().to_string();
    reader.replacements = vec![
        (
            "postgres:///shop?host=/var/run/postgresql".to_owned(),
            format!("postgres:///shop?host={}&port={port}", socket.display()),
        ),
        ("/var/backups/mendb".to_owned(), repository),
    ];
    reader.variables = vec![
        ("PGHOST", socket.display().to_string()),
        ("PGPORT", port.to_string()),
        ("PGUSER", "postgres".to_owned()),
    ];
    reader.follow(GUIDE, |_, _| false);
}
