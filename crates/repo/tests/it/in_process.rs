//! The promises without a server.

use mendb_repo::Repository;

use crate::parts_sample::options;
use crate::promises::every_promise;

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_every_promise_holds() {
    for (name, promise) in every_promise() {
        println!("{name}");
        promise(Repository::open("memory:", options()).await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory_every_promise_holds() {
    let root = tempfile::tempdir().unwrap();
    for (name, promise) in every_promise() {
        println!("{name}");
        let path = root.path().join(format!("{name} #1 %20é"));
        let repository = Repository::open(path.to_str().unwrap(), options())
            .await
            .unwrap();
        promise(repository).await;
    }
}

#[tokio::test]
async fn a_named_repository_in_memory_is_the_same_for_all_in_the_process() {
    let created = Repository::open("memory:one", options()).await.unwrap();
    let header = created.create_if_absent().await.unwrap();
    let opened = Repository::open("memory:one", options()).await.unwrap();
    assert_eq!(opened.header().await.unwrap(), Some(header));
    let other = Repository::open("memory:two", options()).await.unwrap();
    assert_eq!(other.header().await.unwrap(), None);
}

#[tokio::test]
async fn opening_creates_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("backups");
    let repository = Repository::open(path.to_str().unwrap(), options())
        .await
        .unwrap();
    assert!(repository.collections().await.unwrap().is_empty());
    assert!(!path.exists());
}
