//! The promises on a real S3-speaking server.

use mendb_repo::{Repository, RepositoryOptions};

use crate::parts_sample;
use crate::promises::every_promise;
use crate::s3_server::{BUCKET, Server};

fn options(server: &Server) -> RepositoryOptions {
    let settings = server.settings();
    RepositoryOptions {
        s3: settings.map(|(key, value)| (key.to_owned(), value)).into(),
        ..parts_sample::options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_s3_every_promise_holds() {
    let server = Server::start();
    for (name, promise) in every_promise() {
        println!("{name}");
        let url = format!("s3://{BUCKET}/prefix/{name}");
        promise(Repository::open(&url, options(&server)).await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_or_a_server_that_is_gone_is_named() {
    let server = Server::start();
    let repository = Repository::open("s3://elsewhere", options(&server)).await;
    let error = repository.unwrap().create_if_absent().await.unwrap_err();
    assert!(
        error.to_string().contains("s3://elsewhere/mendb.json"),
        "{error}"
    );
    let options = options(&server);
    drop(server);
    let error = Repository::open("s3://mendb", options).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read s3://mendb/mendb.json");
    assert!(error.is_retriable());
}
