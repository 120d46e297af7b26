//! Copies of parts that share their files with the original.
//!
//! *Hazard*: a linked file is one file. What the server rewrites in place when it attaches a part, which
//! are small texts beside the data, would change in the original too: texts are copied.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// What belongs to a part in its table, not to its content: the server writes them anew.
const OF_THE_TABLE: [&str; 3] = [
    "metadata_version.txt",
    "txn_version.txt",
    "delete-on-destroy.txt",
];

/// Makes a copy of a part, with its owner and mode; what is at `to` is replaced. Returns the bytes of its
/// files.
pub(super) fn link_part(from: &Path, to: &Path) -> io::Result<u64> {
    remove(to)?;
    link_directory(from, to)
}

fn link_directory(from: &Path, to: &Path) -> io::Result<u64> {
    let original = fs::metadata(from)?;
    fs::create_dir(to)?;
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let (source, copy) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            bytes += link_directory(&source, &copy)?;
        } else if OF_THE_TABLE.iter().all(|not| name != *not) {
            link_file(&source, &copy)?;
            bytes += entry.metadata()?.len();
        }
    }
    fs::set_permissions(to, original.permissions())?;
    give(to, &original)?;
    Ok(bytes)
}

/// Makes a file the same as another: a text, and one on another file system, is copied.
pub(super) fn link_file(from: &Path, to: &Path) -> io::Result<()> {
    let is_text = from.extension().is_some_and(|extension| extension == "txt");
    if !is_text {
        match fs::hard_link(from, to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
            linked => return linked,
        }
    }
    fs::copy(from, to)?;
    give(to, &fs::metadata(from)?)
}

/// Gives a file to an owner, if it has another.
pub(super) fn give(path: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let now = fs::metadata(path)?;
    if (now.uid(), now.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    super::markers::ignore_missing(fs::remove_dir_all(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shared_and_texts_are_not() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("p.proj")).unwrap();
        for name in [
            "data.bin",
            "columns.txt",
            "metadata_version.txt",
            "p.proj/data.bin",
        ] {
            fs::write(from.join(name), name).unwrap();
        }
        fs::create_dir(&to).unwrap();
        fs::write(to.join("leftover"), "").unwrap();
        let bytes: usize = ["data.bin", "columns.txt", "p.proj/data.bin"]
            .map(str::len)
            .iter()
            .sum();
        assert_eq!(link_part(&from, &to).unwrap(), bytes as u64);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        for (name, shared) in [
            ("data.bin", true),
            ("p.proj/data.bin", true),
            ("columns.txt", false),
        ] {
            assert_eq!(
                inode(&from.join(name)) == inode(&to.join(name)),
                shared,
                "{name}"
            );
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), name);
        }
        assert!(!to.join("metadata_version.txt").exists());
        assert!(!to.join("leftover").exists());
    }
}
