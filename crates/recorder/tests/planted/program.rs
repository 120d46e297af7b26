//! Small programs that write files: each as it should be, and with a fault that only a crash would show.
//!
//! `mendb-planted PROGRAM FAULT DIRECTORY`; the fault `none` is the right one.
#![expect(
    clippy::unwrap_used,
    reason = "a failed write ends the program, and the test sees that"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, fault, directory] = &arguments[..] else {
        panic!("usage: mendb-planted PROGRAM FAULT DIRECTORY");
    };
    let directory = Path::new(directory);
    match program.as_str() {
        "records" => records(directory, fault),
        "log" => log(directory, fault),
        "settings" => settings(directory, fault),
        "backup" => backup(directory, fault),
        "crowd" => crowd(directory),
        other => panic!("there is no program {other}"),
    }
}

fn sync_directory(directory: &Path) {
    File::open(directory).unwrap().sync_all().unwrap();
}

fn write(path: &Path, content: &[u8], is_synced: bool) {
    let mut file = File::create(path).unwrap();
    file.write_all(content).unwrap();
    if is_synced {
        file.sync_all().unwrap();
    }
}

/// A file for each record, acknowledged one by one.
fn records(directory: &Path, fault: &str) {
    for number in 0..3 {
        let path = directory.join(format!("record-{number}"));
        write(
            &path,
            format!("record {number}").as_bytes(),
            fault != "no-sync",
        );
        if fault != "no-directory-sync" {
            sync_directory(directory);
        }
        println!("acknowledged {number}");
    }
}

/// One file that grows, each part of more than a page: a head, with a number and a sum, and the rest.
fn log(directory: &Path, fault: &str) {
    let mut log = File::create(directory.join("log")).unwrap();
    sync_directory(directory);
    for number in 0..3u8 {
        let mut part = vec![number + 1; 6000];
        // The right one tells a torn part by its end.
        part[5999] = if fault == "no-end" { number + 1 } else { 0xee };
        log.write_all(&part).unwrap();
        if fault == "early" {
            println!("acknowledged {number}");
        }
        log.sync_data().unwrap();
        if fault != "early" {
            println!("acknowledged {number}");
        }
    }
}

/// A file that is replaced by a new one.
fn settings(directory: &Path, fault: &str) {
    let [new, there] = ["settings.new", "settings"].map(|name| directory.join(name));
    write(&there, "old settings".as_bytes(), true);
    sync_directory(directory);
    println!("created");
    write(&new, &[b'n'; 5000], fault != "rename-first");
    fs::rename(&new, &there).unwrap();
    if fault == "rename-first" {
        File::open(&there).unwrap().sync_all().unwrap();
    }
    sync_directory(directory);
    println!("replaced");
}

/// Segments, and a manifest that says they are there.
fn backup(directory: &Path, fault: &str) {
    let segments = || {
        for number in 0..3 {
            let path = directory.join(format!("segment-{number}"));
            write(&path, &[b'a' + number; 1500], true);
        }
        sync_directory(directory);
    };
    let manifest = || {
        write(&directory.join("manifest"), b"3 segments", true);
        sync_directory(directory);
    };
    if fault == "manifest-first" {
        manifest();
        segments();
    } else {
        segments();
        manifest();
    }
    println!("done");
}

/// Threads and a child that work in the same directories at once.
fn crowd(directory: &Path) {
    std::thread::scope(|scope| {
        for thread in 0..6 {
            scope.spawn(move || {
                for round in 0..20 {
                    let inner = directory.join(format!("{}/{}", round % 5, round % 3));
                    fs::create_dir_all(&inner).unwrap();
                    let path = inner.join(format!("{thread}-{round}"));
                    write(&path.with_extension("new"), &[thread; 700], round % 2 == 0);
                    fs::rename(path.with_extension("new"), &path).unwrap();
                    if round % 4 == 0 {
                        let link = inner.join(format!("{thread}-{round}-again"));
                        fs::hard_link(&path, &link).unwrap();
                        fs::remove_file(&path).unwrap();
                    }
                }
            });
        }
    });
    let script = "cd 1/0; echo one > child; echo two >> child; mv child 'a \"<child>\"'";
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(directory)
        .status();
    assert!(status.unwrap().success());
}
