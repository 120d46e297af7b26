//! Backups of clickhouse-backup are read in every layout, and nothing is taken for what it is not.

use std::fs;
use std::path::Path;

use mendb_model::part::TableName;
use mendb_repo::clickhouse_backup::{
    FetchedPart, ImportedBackups, ImportedPart, Result, path_name::encode,
};
use mendb_repo::{RepositoryOptions, RetryPolicy};
use serde_json::json;
use tar::EntryType;

use crate::clickhouse_backup_fixture::{
    DATABASE, Files, Held, Layout, Made, MadePart, Packing, TABLE, append, part, read, tar, write,
};

fn layouts() -> Vec<Layout> {
    let archives = Packing::ALL.into_iter().flat_map(|packing| {
        let by_size = [1, 50_000, usize::MAX];
        let by_size = by_size.map(|bytes| Layout::BySize(packing, bytes));
        [Layout::ByPart(packing)].into_iter().chain(by_size)
    });
    let files = [Layout::Local, Layout::Directory];
    files.into_iter().chain(archives).collect()
}

pub fn table() -> TableName {
    TableName::new(DATABASE, TABLE)
}

pub fn options() -> RepositoryOptions {
    RepositoryOptions {
        retry: RetryPolicy {
            attempts: 3,
            first_backoff_ms: 1,
            max_backoff_ms: 2,
        },
        ..RepositoryOptions::default()
    }
}

pub fn open(root: &Path) -> ImportedBackups {
    let url = format!("clickhouse-backup+file://{}", root.display());
    ImportedBackups::open(&url, options()).unwrap()
}

async fn parts(root: &Path, backup: &str) -> Result<Vec<ImportedPart>> {
    open(root).backup(backup).await?.parts(&table()).await
}

/// Fetches the part of a name into a directory of its own.
async fn fetch(root: &Path, backup: &str, name: &str) -> Result<(FetchedPart, Files)> {
    let backup = open(root).backup(backup).await?;
    let parts = backup.parts(&table()).await?;
    let part = parts.iter().find(|part| part.part.name == name).unwrap();
    let into = tempfile::tempdir().unwrap();
    let fetched = backup.fetch_part(&table(), part, into.path()).await?;
    Ok((fetched, read(into.path())))
}

pub fn refused<T>(result: Result<T>) -> String {
    let error = result.err().expect("it was not refused");
    mendb_model::describe_error(&error)
}

/// Parts that differ, one of them larger than what is read at once.
pub fn sample() -> [MadePart; 3] {
    [
        part("202401_1_1_0", 1, 9_000_000),
        part("202401_2_2_0", 2, 30_000),
        part("202402_3_5_1_7", 3, 20_000),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn in_every_layout_each_part_comes_back_byte_for_byte() {
    let made = sample();
    for layout in layouts() {
        let root = tempfile::tempdir().unwrap();
        let held = [
            Held::new(&made[2]),
            Held::new(&made[0]).on("d2"),
            Held::new(&made[1]),
        ];
        Made::new("nightly", layout, held.into()).write(root.path());
        let parts = parts(root.path(), "nightly").await.unwrap();
        let names: Vec<_> = parts.iter().map(|part| part.part.name.as_str()).collect();
        assert_eq!(
            names,
            made.each_ref().map(|made| made.name.as_str()),
            "{layout:?}"
        );
        assert_eq!(parts[0].part.disk, "d2");
        for (part, made) in parts.iter().zip(&made) {
            assert_eq!((part.part.hash, part.ambiguous), (made.hash, false));
            let (fetched, files) = fetch(root.path(), "nightly", &made.name).await.unwrap();
            assert_eq!(files, made.files, "{layout:?} {}", made.name);
            let file_bytes = made.files.values().map(|file| file.len() as u64).sum();
            assert_eq!(fetched.file_bytes, file_bytes);
            let rows = str::from_utf8(&made.files["count.txt"])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(fetched.rows, Some(rows));
            assert!(fetched.requests > 0 && fetched.bytes > 0);
            if part.rows_known {
                assert_eq!((part.part.rows, part.part.bytes), (rows, file_bytes));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_without_hashes_are_looked_into_and_are_the_same() {
    let made = sample();
    for layout in layouts() {
        let root = tempfile::tempdir().unwrap();
        let held = made.iter().map(|part| Held::new(part).unhashed());
        Made::new("old", layout, held.collect()).write(root.path());
        let parts = parts(root.path(), "old").await.unwrap();
        for (part, made) in parts.iter().zip(&made) {
            assert_eq!(part.part.hash, made.hash, "{layout:?}");
            assert!(part.rows_known && !part.ambiguous, "{layout:?}");
            let rows = str::from_utf8(&made.files["count.txt"]).unwrap();
            assert_eq!(part.part.rows.to_string(), rows);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_followed_to_the_backup_that_has_the_part_on_whatever_disk() {
    let [large, small, other] = sample();
    for layout in layouts() {
        let root = tempfile::tempdir().unwrap();
        let full = vec![Held::new(&large).on("d2"), Held::new(&small)];
        Made::new("full", layout, full).write(root.path());
        let first = vec![Held::required(&large), Held::required(&small).unhashed()];
        let first = Made::new("first", layout, first).requires("full");
        first.write(root.path());
        let second = vec![
            Held::required(&large),
            Held::required(&small),
            Held::new(&other),
        ];
        let second = Made::new("second", layout, second).requires("first");
        second.write(root.path());
        let parts = parts(root.path(), "second").await.unwrap();
        let backups: Vec<_> = parts.iter().map(|part| part.backup.as_str()).collect();
        assert_eq!(backups, ["full", "full", "second"], "{layout:?}");
        assert_eq!(parts[0].part.disk, "default");
        for made in [&large, &small, &other] {
            let (_, files) = fetch(root.path(), "second", &made.name).await.unwrap();
            assert_eq!(files, made.files, "{layout:?} {}", made.name);
        }
    }
}

#[tokio::test]
async fn a_part_that_is_only_named_is_told_and_taken_by_what_it_is() {
    let [_, made, _] = sample();
    for hashed_in_parent in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let mut full = Held::new(&made);
        full.hashed = hashed_in_parent;
        Made::new("full", Layout::Local, vec![full]).write(root.path());
        let held = vec![Held::required(&made).unhashed()];
        Made::new("next", Layout::Local, held)
            .requires("full")
            .write(root.path());
        let parts = parts(root.path(), "next").await.unwrap();
        assert!(parts[0].ambiguous);
        assert_eq!(parts[0].part.hash, made.hash);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_part_of_the_same_name_in_the_parent_is_refused_with_both_hashes() {
    let (meant, found) = (part("all_1_1_0", 1, 3000), part("all_1_1_0", 2, 3000));
    for layout in layouts() {
        let root = tempfile::tempdir().unwrap();
        let next = Made::new("next", layout, vec![Held::required(&meant)]).requires("full");
        next.write(root.path());
        let words = [
            "all_1_1_0",
            "next",
            &meant.hash.to_string(),
            &found.hash.to_string(),
        ];

        // The parent tells that it is another one.
        Made::new("full", layout, vec![Held::new(&found)]).write(root.path());
        let error = refused(parts(root.path(), "next").await);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");

        // It does not tell, but its files do.
        Made::new("full", layout, vec![Held::new(&found).unhashed()]).write(root.path());
        let error = refused(fetch(root.path(), "next", "all_1_1_0").await);
        assert!(
            words[2..].iter().all(|word| error.contains(word)),
            "{error}"
        );
        assert!(error.contains("full"), "{error}");
    }
}

#[tokio::test]
async fn without_hashes_the_crc_of_the_list_tells_parts_apart() {
    let (meant, found) = (part("all_1_1_0", 1, 3000), part("all_1_1_0", 2, 3000));
    let root = tempfile::tempdir().unwrap();
    let mut next = Made::new(
        "next",
        Layout::Local,
        vec![Held::required(&meant).unhashed()],
    );
    next.table = json!({"checksums": {"all_1_1_0": 1}});
    next.requires("full").write(root.path());
    Made::new("full", Layout::Local, vec![Held::new(&found).unhashed()]).write(root.path());
    let listed = parts(root.path(), "next").await.unwrap();
    assert!(!listed[0].ambiguous);
    let error = refused(fetch(root.path(), "next", "all_1_1_0").await);
    assert!(
        error.contains("CRC64 0000000000000001") || error.contains("0000000000000001"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_chain_names_the_part_and_what_is_missing() {
    let [_, made, other] = sample();
    let root = tempfile::tempdir().unwrap();
    let next = Made::new("next", Layout::Local, vec![Held::required(&made)]);
    next.write(root.path());
    let error = refused(parts(root.path(), "next").await);
    assert!(
        error.contains("it names none") && error.contains(&made.name),
        "{error}"
    );

    let next = next.requires("full");
    next.write(root.path());
    let error = refused(parts(root.path(), "next").await);
    assert!(
        error.contains("full does not exist") && error.contains("backup next"),
        "{error}"
    );

    let full = Made::new("full", Layout::Local, vec![Held::new(&other)]);
    full.write(root.path());
    let error = refused(parts(root.path(), "next").await);
    assert!(error.contains("full has no part of that name"), "{error}");

    let document = format!("full/metadata/{}/{}.json", encode(DATABASE), encode(TABLE));
    fs::remove_file(root.path().join(document)).unwrap();
    let error = refused(parts(root.path(), "next").await);
    assert!(error.contains("full has no table d-1.t.x"), "{error}");

    let full = Made::new("full", Layout::Local, vec![Held::required(&made)]);
    full.requires("next").write(root.path());
    let error = refused(parts(root.path(), "next").await);
    assert!(error.ends_with("next -> full -> next"), "{error}");
}

#[tokio::test]
async fn a_part_that_vanished_is_missing_before_anything_is_fetched() {
    let [_, made, other] = sample();
    for layout in layouts() {
        let root = tempfile::tempdir().unwrap();
        let backup = Made::new("b", layout, vec![Held::new(&made), Held::new(&other)]);
        let objects = backup.objects().into_iter();
        let slices = matches!(layout, Layout::BySize(..));
        let kept = objects.filter(|(path, _)| {
            let data = path.contains("/shadow/");
            !data || !slices && !path.contains(&made.name)
        });
        write(root.path(), &kept.collect());
        let error = refused(parts(root.path(), "b").await);
        assert!(
            error.contains("is missing") && error.contains("does not exist"),
            "{error}"
        );
        assert!(error.contains(&made.name), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_part_can_be_missing_cut_or_changed() {
    let [_, made, _] = sample();
    let proved = made
        .files
        .keys()
        .filter(|file| *file != "metadata_version.txt");
    let proved: Vec<&String> = proved
        .filter(|file| *file != "p.proj/columns.txt")
        .collect();
    for layout in [Layout::Directory, Layout::ByPart(Packing::Zstd)] {
        for file in &proved {
            for damage in ["gone", "cut", "changed"] {
                let mut damaged = made.clone();
                let content = damaged.files.get_mut(*file).unwrap();
                match damage {
                    "gone" => drop(damaged.files.remove(*file)),
                    _ if content.is_empty() || file.ends_with("columns.txt") => continue,
                    "cut" => drop(content.pop()),
                    _ => content[0] ^= 1,
                }
                let root = tempfile::tempdir().unwrap();
                Made::new("b", layout, vec![Held::new(&damaged)]).write(root.path());
                let name = file.rsplit('/').next().unwrap();
                let error = match parts(root.path(), "b").await {
                    Ok(_) => refused(fetch(root.path(), "b", &made.name).await),
                    refused_early => refused(refused_early),
                };
                assert!(error.contains(name), "{layout:?} {damage}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_ends_too_early_is_never_a_part() {
    let [_, made, _] = sample();
    for packing in Packing::ALL {
        for layout in [Layout::ByPart(packing), Layout::BySize(packing, usize::MAX)] {
            let mut objects = Made::new("b", layout, vec![Held::new(&made)]).objects();
            let is_archive = |path: &&String| path.ends_with(packing.extension());
            let archive = objects.keys().find(is_archive).unwrap().clone();
            let whole = objects[&archive].clone();
            // The padding at the end of a plain archive carries nothing.
            let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
            for cut in [0, 1, 511, 512, 513, end / 2, end - 600, end - 9] {
                objects.insert(archive.clone(), whole[..cut].to_vec());
                let root = tempfile::tempdir().unwrap();
                write(root.path(), &objects);
                let error = refused(fetch(root.path(), "b", &made.name).await);
                assert!(
                    error.contains(&made.name) || error.contains("default_"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_with_changed_bytes_is_refused_by_the_name_of_its_part_or_file() {
    let [_, made, _] = sample();
    for packing in Packing::ALL {
        let mut objects = Made::new("b", Layout::ByPart(packing), vec![Held::new(&made)]).objects();
        let is_archive = |path: &&String| path.ends_with(packing.extension());
        let archive = objects.keys().find(is_archive).unwrap().clone();
        let whole = objects[&archive].clone();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for at in [0, 5, end / 4, end / 3, end / 2] {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            objects.insert(archive.clone(), changed);
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &objects);
            let fetched = fetch(root.path(), "b", &made.name).await;
            if let Ok((_, files)) = fetched {
                assert_eq!(files, made.files, "a byte that carries nothing");
                continue;
            }
            let error = refused(fetched);
            assert!(
                error.contains(&made.name) || error.contains("default_"),
                "{packing:?} {at}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn members_that_no_part_has_are_refused_and_those_of_other_parts_skipped() {
    let [_, made, other] = sample();
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::ByPart(Packing::Tar);
    let mut objects = Made::new("b", layout, vec![Held::new(&made)]).objects();
    let archive = objects
        .keys()
        .find(|path| path.ends_with(".tar"))
        .unwrap()
        .clone();
    let files = |part: &MadePart| -> Vec<(String, Vec<u8>)> {
        let files = part.files.clone().into_iter();
        files
            .map(|(file, content)| (format!("{}/{file}", part.name), content))
            .collect()
    };
    let name = &made.name;
    for (path, kind) in [
        (format!("/{name}/../../evil"), EntryType::Regular),
        ("/../evil".to_owned(), EntryType::Regular),
        ("//etc/evil".to_owned(), EntryType::Regular),
        (format!("/{name}/a/b/c"), EntryType::Regular),
        (format!("/{name}/link"), EntryType::Symlink),
        (format!("/{name}/hard"), EntryType::Link),
        (format!("/{name}/pipe"), EntryType::Fifo),
    ] {
        let mut evil = tar::Builder::new(Vec::new());
        append(
            &mut evil,
            &path,
            kind,
            if kind.is_file() { b"evil" } else { b"" },
        );
        for (member, content) in files(&made) {
            append(
                &mut evil,
                &format!("/{member}"),
                EntryType::Regular,
                &content,
            );
        }
        objects.insert(archive.clone(), evil.into_inner().unwrap());
        write(root.path(), &objects);
        let error = refused(fetch(root.path(), "b", name).await);
        assert!(
            error.contains("damaged") && error.contains("no "),
            "{path}: {error}"
        );
    }

    let mixed = files(&other).into_iter().chain(files(&made));
    let mixed: Vec<_> = mixed.collect();
    let mixed = mixed
        .iter()
        .map(|(name, content)| (name.clone(), &content[..]));
    objects.insert(archive, tar(mixed));
    write(root.path(), &objects);
    let (_, fetched) = fetch(root.path(), "b", name).await.unwrap();
    assert_eq!(fetched, made.files);
}

#[tokio::test]
async fn what_is_linked_elsewhere_is_not_written_over_and_strangers_are_refused() {
    let [_, made, _] = sample();
    let root = tempfile::tempdir().unwrap();
    Made::new("b", Layout::ByPart(Packing::Tar), vec![Held::new(&made)]).write(root.path());
    let backup = open(root.path()).backup("b").await.unwrap();
    let part = &backup.parts(&table()).await.unwrap()[0];

    let live = root.path().join("live.bin");
    fs::write(&live, "live").unwrap();
    let into = root.path().join("into");
    fs::create_dir(&into).unwrap();
    fs::hard_link(&live, into.join("data.bin")).unwrap();
    backup.fetch_part(&table(), part, &into).await.unwrap();
    assert_eq!(read(&into), made.files);
    assert_eq!(fs::read(&live).unwrap(), b"live");

    fs::write(into.join("stranger.bin"), "x").unwrap();
    let error = refused(backup.fetch_part(&table(), part, &into).await);
    assert!(error.contains("stranger.bin"), "{error}");
}

#[tokio::test]
async fn compressions_that_are_not_read_are_named() {
    let [_, made, _] = sample();
    for extension in ["tar.7z", "tar.lzma", "tar.Z"] {
        let objects = Made::new("b", Layout::ByPart(Packing::Tar), vec![Held::new(&made)]);
        let objects = objects.objects().into_iter().map(|(path, content)| {
            let renamed = path
                .strip_suffix(".tar")
                .map(|stem| format!("{stem}.{extension}"));
            (renamed.unwrap_or(path), content)
        });
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &objects.collect());
        let error = refused(parts(root.path(), "b").await);
        let compression = extension.strip_prefix("tar.").unwrap();
        assert!(
            error.contains(&format!("compressed with {compression}")),
            "{error}"
        );
        assert!(error.contains("clickhouse-backup download"), "{error}");
    }
}

#[tokio::test]
async fn parts_on_disks_that_keep_no_files_are_refused_by_the_name_of_the_disk() {
    let [_, made, _] = sample();
    let root = tempfile::tempdir().unwrap();
    let mut backup = Made::new("b", Layout::Local, vec![Held::new(&made)]);
    backup.metadata = json!({"disk_types": {"default": "s3"}});
    backup.write(root.path());
    let error = refused(parts(root.path(), "b").await);
    assert!(error.contains("disk default of type s3"), "{error}");
}

#[tokio::test]
async fn local_backups_have_their_parts_on_every_disk_of_the_server() {
    let [_, first, second] = sample();
    let third = part("202403_9_9_0", 9, 100);
    let root = tempfile::tempdir().unwrap();
    let (main, d2) = (root.path().join("main/backup"), root.path().join("d2"));
    let held = vec![
        Held::new(&first),
        Held::new(&second).on("d2"),
        Held::new(&third),
    ];
    let mut backup = Made::new("b", Layout::Local, held);
    let path = |name: &str| format!("{}/", root.path().join(name).display());
    backup.metadata = json!({"disks": {
        "default": path("main"), "d2": path("d2"), "gone": "/nowhere/", "odd": "relative",
    }});
    backup.table = json!({"parts": {
        "default": [{"name": first.name}, {"name": third.name, "rebalanced_disk": "d2"}],
        "d2": [{"name": second.name}],
    }});
    for (object, content) in backup.objects() {
        let moved = object.contains("/d2/") || object.contains(&third.name);
        let place = if moved {
            d2.join("backup")
        } else {
            main.clone()
        };
        write(&place, &Files::from([(object, content)]));
    }
    for made in [&first, &second, &third] {
        let (_, files) = fetch(&main, "b", &made.name).await.unwrap();
        assert_eq!(files, made.files);
    }
}

#[tokio::test]
async fn a_part_that_is_listed_twice_or_has_no_name_of_a_part_is_refused() {
    let [_, made, _] = sample();
    let root = tempfile::tempdir().unwrap();
    let twice = vec![Held::new(&made), Held::new(&made).on("d2")];
    Made::new("twice", Layout::Local, twice).write(root.path());
    let error = refused(parts(root.path(), "twice").await);
    assert!(error.contains("twice"), "{error}");

    let odd = part("odd", 1, 10);
    Made::new("odd", Layout::Local, vec![Held::new(&odd)]).write(root.path());
    let error = refused(parts(root.path(), "odd").await);
    assert!(
        error.contains("part odd") && error.contains("no part has"),
        "{error}"
    );
}

#[tokio::test]
async fn slices_are_read_for_the_parts_that_are_in_them() {
    let [large, small, other] = sample();
    for packing in Packing::ALL {
        let root = tempfile::tempdir().unwrap();
        let held = [&large, &small, &other].map(Held::new);
        // Of `large` the big file fills one archive, what comes before and after it others.
        Made::new("b", Layout::BySize(packing, 100_000), held.into()).write(root.path());
        let backup = open(root.path()).backup("b").await.unwrap();
        let parts = backup.parts(&table()).await.unwrap();
        let into = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        // The second time all are indexed.
        for part in [&parts[1], &parts[2], &parts[1], &parts[0]] {
            let into = into.path().join(bytes.len().to_string());
            let fetched = backup.fetch_part(&table(), part, &into).await.unwrap();
            bytes.push(fetched.bytes);
        }
        assert!(bytes[2] < 200_000, "{packing:?} {bytes:?}");
        assert!(
            bytes[0] > bytes[2],
            "the first pays for the index: {packing:?} {bytes:?}"
        );
        if packing == Packing::Tar {
            assert!(bytes[0] < 1_000_000, "headers only: {bytes:?}");
            assert!(bytes[3] >= 9_000_000, "{bytes:?}");
        }
    }
}
