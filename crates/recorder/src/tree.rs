//! Files and directories below the recorded one, in memory.
//!
//! Names point at files and directories by number, as they do at inodes: a file keeps its number through
//! renames and links, and when its last name is gone.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, failed};

/// What a name points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    File(usize),
    Directory(usize),
}

/// The number of the recorded directory itself.
pub(crate) const ROOT: usize = 0;

/// A name that comes, points elsewhere, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameChange {
    pub(crate) directory: usize,
    pub(crate) name: OsString,
    pub(crate) target: Option<Node>,
}

/// The names of a directory.
pub(crate) type Names = BTreeMap<OsString, Node>;

/// Everything below a directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) directories: Vec<Names>,
}

impl Tree {
    /// Reads what is below a directory.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self {
            files: Vec::new(),
            directories: vec![Names::new()],
        };
        tree.read_directory(root, ROOT, &mut HashMap::new())?;
        Ok(tree)
    }

    fn read_directory(
        &mut self,
        path: &Path,
        number: usize,
        seen: &mut HashMap<u64, usize>,
    ) -> Result<()> {
        for entry in fs::read_dir(path).map_err(failed("list", path))? {
            let entry = entry.map_err(failed("list", path))?;
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
            let node = if metadata.is_dir() {
                self.directories.push(Names::new());
                let child = self.directories.len() - 1;
                self.read_directory(&path, child, seen)?;
                Node::Directory(child)
            } else if metadata.is_file() {
                if let Some(file) = seen.get(&metadata.ino()) {
                    Node::File(*file)
                } else {
                    self.files
                        .push(fs::read(&path).map_err(failed("read", &path))?);
                    seen.insert(metadata.ino(), self.files.len() - 1);
                    Node::File(self.files.len() - 1)
                }
            } else {
                return Err(Error::Incomplete {
                    root: path,
                    detail: "it is neither a file nor a directory".to_owned(),
                });
            };
            self.directories[number].insert(entry.file_name(), node);
        }
        Ok(())
    }

    /// What a path below the root points at.
    pub(crate) fn find(&self, path: &Path) -> Option<Node> {
        let mut node = Node::Directory(ROOT);
        for name in path {
            let Node::Directory(directory) = node else {
                return None;
            };
            node = *self.directories.get(directory)?.get(name)?;
        }
        Some(node)
    }

    /// The directory that a path is in, and the name there.
    pub(crate) fn place<'p>(&self, path: &'p Path) -> Option<(usize, &'p OsStr)> {
        match self.find(path.parent()?)? {
            Node::Directory(directory) => Some((directory, path.file_name()?)),
            Node::File(_) => None,
        }
    }

    pub(crate) fn rename(&mut self, change: &NameChange) {
        self.provide(Node::Directory(change.directory));
        let names = &mut self.directories[change.directory];
        match change.target {
            Some(node) => {
                names.insert(change.name.clone(), node);
                self.provide(node);
            }
            None => {
                names.remove(&change.name);
            }
        }
    }

    /// Makes room for a file or directory that is new.
    fn provide(&mut self, node: Node) {
        match node {
            Node::File(file) if file >= self.files.len() => {
                self.files.resize_with(file + 1, Vec::new);
            }
            Node::Directory(directory) if directory >= self.directories.len() => {
                self.directories.resize_with(directory + 1, Names::new);
            }
            _ => {}
        }
    }

    pub(crate) fn file(&mut self, file: usize) -> &mut Vec<u8> {
        self.provide(Node::File(file));
        &mut self.files[file]
    }

    /// Every path with what it points at. A directory that has come into itself, as halves of renames can have
    /// it, is told once.
    pub(crate) fn paths(directories: &[Names]) -> Vec<(PathBuf, Node)> {
        let mut paths = Vec::new();
        let mut above = Vec::new();
        walk(directories, ROOT, Path::new(""), &mut above, &mut paths);
        paths
    }

    /// The first difference to another tree. Of files that `skip` names only the presence is compared.
    pub(crate) fn difference(&self, other: &Self, skip: impl Fn(&Path) -> bool) -> Option<String> {
        let [ours, theirs] = [self, other].map(|tree| {
            let paths = Self::paths(&tree.directories).into_iter();
            paths.collect::<BTreeMap<_, _>>()
        });
        if let Some(path) = theirs.keys().find(|path| !ours.contains_key(*path)) {
            return Some(format!("{} is there", path.display()));
        }
        for (path, node) in ours {
            let (ours, theirs) = match (node, theirs.get(&path)) {
                (_, None) => return Some(format!("{} is not there", path.display())),
                (Node::File(ours), Some(Node::File(theirs))) => {
                    (&self.files[ours], &other.files[*theirs])
                }
                (Node::Directory(_), Some(Node::Directory(_))) => continue,
                _ => return Some(format!("{} is of another kind", path.display())),
            };
            if ours != theirs && !skip(&path) {
                let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
                return Some(format!(
                    "{} has {} bytes instead of {} and differs at byte {at}",
                    path.display(),
                    theirs.len(),
                    ours.len()
                ));
            }
        }
        None
    }
}

fn walk(
    directories: &[Names],
    directory: usize,
    at: &Path,
    above: &mut Vec<usize>,
    paths: &mut Vec<(PathBuf, Node)>,
) {
    let Some(names) = directories.get(directory) else {
        return;
    };
    above.push(directory);
    for (name, node) in names {
        let path = at.join(name);
        match node {
            Node::Directory(inner) if above.contains(inner) => {}
            Node::Directory(inner) => {
                paths.push((path.clone(), *node));
                walk(directories, *inner, &path, above, paths);
            }
            Node::File(_) => paths.push((path, *node)),
        }
    }
    above.pop();
}
