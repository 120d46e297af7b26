//! The whole story with the repository on a real S3-speaking server.

use crate::program::Place;
use crate::s3_server::{BUCKET, Server};

#[test]
fn a_chain_on_s3_comes_back() {
    let server = Server::start();
    let place = Place::new().with_repository(
        format!("s3://{BUCKET}/team/a"),
        server
            .settings()
            .map(|(name, value)| (name.to_uppercase(), value)),
    );
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "full"]);
    let full = place.shop();
    place.edit_shop(1);
    place.ok(&["backup", "shop", "--incremental"]);
    let increment = place.shop();
    place.ok(&["verify", "shop", "--live"]);
    place.drop_shop();
    place.ok(&["restore", "shop"]);
    assert_eq!(place.shop(), increment);
    place.drop_shop();
    place.ok(&["restore", "full"]);
    assert_eq!(place.shop(), full);
    place.drop_shop();
    place.ok(&["chain", "compact", "shop", "--full"]);
    place.fails(1, &["restore", "shop", "--to", "full"]);
    place.ok(&["restore", "shop", "--strategy", "merged"]);
    assert_eq!(place.shop(), increment);
    drop(server);
    let said = place.fails(1, &["backup", "shop"]);
    assert!(said.contains(&format!("s3://{BUCKET}/team/a")), "{said}");
}
