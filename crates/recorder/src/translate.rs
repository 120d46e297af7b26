//! From system calls to what they did to the recorded directory.
//!
//! Positions of `write` are counted, not read: a process that reads and writes through one descriptor, and
//! does not seek between, would be misplaced. The comparison at the end of a recording finds that.

use std::cell::Cell;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::call::{Call, buffers, descriptor, string};
use crate::descriptor::{Description, Descriptors};
use crate::error::Result;
use crate::told::Told;
use crate::trace::{Change, DataChange, Event, Synced, Trace};
use crate::tree::{NameChange, Node, Tree};
use crate::watched::Watched;

/// What the calls came to.
pub(crate) struct Translated {
    pub(crate) trace: Trace,
    /// The directory after all of it.
    pub(crate) after: Tree,
    /// Whether a process was killed in a call that changes files: nobody knows what that did.
    pub(crate) is_cut_short: bool,
}

/// Translates all calls of a recording.
pub(crate) fn translate(
    watched: &Watched,
    told: Told,
    working_directory: &Path,
    before: Tree,
    calls: &[Call],
) -> Result<Translated> {
    let mut translator = Translator {
        watched,
        told,
        descriptors: Descriptors::new(calls, working_directory.as_os_str().as_bytes()),
        tree: before.clone(),
        calls,
        is_done: vec![false; calls.len()],
        mapped: HashSet::new(),
        events: Vec::new(),
        is_cut_short: false,
    };
    for (index, call) in calls.iter().enumerate() {
        translator.call(index, call.ended)?;
    }
    let mut events = translator.events;
    events.sort_by_key(|event| event.at);
    Ok(Translated {
        trace: Trace { before, events },
        after: translator.tree,
        is_cut_short: translator.is_cut_short,
    })
}

struct Translator<'a> {
    watched: &'a Watched,
    told: Told,
    descriptors: Descriptors,
    tree: Tree,
    calls: &'a [Call],
    is_done: Vec<bool>,
    /// Files that may be mapped: what is written to them otherwise says nothing of what they hold.
    mapped: HashSet<usize>,
    events: Vec<Event>,
    is_cut_short: bool,
}

impl Translator<'_> {
    /// Does a call, as having ended in a line.
    fn call(&mut self, index: usize, at: usize) -> Result<()> {
        if std::mem::replace(&mut self.is_done[index], true) {
            return Ok(());
        }
        let call = &self.calls[index];
        self.descriptors.know(call.thread);
        if call.is_unfinished {
            self.is_cut_short |= changes_files(&call.name);
            return Ok(());
        }
        let Some(result) = call.result else {
            return Ok(());
        };
        let returned = usize::try_from(result).unwrap_or(0);
        match call.name.as_str() {
            "open" | "creat" => self.open(call, at, index, 0),
            "openat" | "openat2" => self.open(call, at, index, 1),
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => {
                self.write(call, at, returned)
            }
            "ftruncate" | "truncate" => self.truncate(call, at),
            "fallocate" => self.fallocate(call, at),
            "fsync" | "fdatasync" => self.sync(call, at),
            "sync" | "syncfs" => {
                self.push(call, at, Change::Sync(Synced::All));
                Ok(())
            }
            "rename" | "renameat" | "renameat2" => self.rename(call, at, index),
            "link" | "linkat" => self.link(call, at, index),
            "unlink" | "unlinkat" | "rmdir" => self.unlink(call, at),
            "mkdir" | "mkdirat" => self.mkdir(call, at, index),
            "dup" | "dup2" | "dup3" | "fcntl" => {
                self.duplicate(call, result);
                Ok(())
            }
            "lseek" => {
                if let Some(description) = self.description(call, 0)? {
                    description.position.set(returned);
                }
                Ok(())
            }
            "chdir" | "fchdir" => self.move_to(call),
            "mmap" => self.map(call),
            "clone" | "clone3" | "fork" | "vfork" => {
                let child = u32::try_from(result).ok();
                child.map(|child| self.descriptors.know(child));
                Ok(())
            }
            _ => self.refuse(call),
        }
    }

    fn push(&mut self, call: &Call, at: usize, change: Change) {
        if matches!(&change, Change::Data(file, _) if self.mapped.contains(file)) {
            return;
        }
        change.apply(&mut self.tree);
        self.events.push(Event {
            at,
            began: call.began,
            shown: call.shown(),
            change,
        });
    }

    /// A path below the root, of an absolute one. `None` for others.
    fn below(&self, path: &[u8]) -> Option<PathBuf> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                other => plain.push(other),
            }
        }
        Some(plain.strip_prefix(&self.watched.root).ok()?.to_owned())
    }

    /// The absolute path of an argument, with the descriptor of a directory before it, or not.
    fn whole(&mut self, call: &Call, argument: usize, directory: Option<usize>) -> Result<Vec<u8>> {
        let text = string(call.argument(argument));
        let text = text.ok_or_else(|| call.unsupported("a path that was not printed whole"))?;
        if text.starts_with(b"/") {
            return Ok(text);
        }
        let from = directory.and_then(|directory| descriptor(call.argument(directory)));
        let mut whole = match from.and_then(|from| from.path) {
            Some(from) => from,
            None => self.descriptors.directory(call.thread).clone(),
        };
        whole.push(b'/');
        whole.extend(text);
        Ok(whole)
    }

    /// The path of an argument, below the root; `None` for paths elsewhere.
    fn path(
        &mut self,
        call: &Call,
        argument: usize,
        directory: Option<usize>,
    ) -> Result<Option<PathBuf>> {
        let whole = self.whole(call, argument, directory)?;
        Ok(self.below(&whole))
    }

    fn move_to(&mut self, call: &Call) -> Result<()> {
        let to = if call.name == "chdir" {
            self.whole(call, 0, None)?
        } else {
            let shown = descriptor(call.argument(0)).and_then(|shown| shown.path);
            shown.ok_or_else(|| call.unsupported("a directory without a path"))?
        };
        *self.descriptors.directory(call.thread) = to;
        Ok(())
    }

    /// What the descriptor in an argument stands for, if that is below the root.
    fn description(&mut self, call: &Call, argument: usize) -> Result<Option<Rc<Description>>> {
        let Some(shown) = descriptor(call.argument(argument)) else {
            return Ok(None);
        };
        let Some(path) = shown.path.and_then(|path| self.below(&path)) else {
            return Ok(None);
        };
        let there = self.tree.find(&path);
        match self.descriptors.get(call.thread, shown.number) {
            Some(known) if known.path == path || there.is_none() || there == Some(known.node) => {
                Ok(Some(known))
            }
            _ => Err(call.unsupported(format!(
                "nobody saw how descriptor {} came to stand for {}",
                shown.number,
                path.display()
            ))),
        }
    }

    /// Does what other threads were about to do to names: what a call has found can be made in one that had
    /// not ended for strace.
    fn catch_up(&mut self, call: &Call, at: usize, index: usize) -> Result<()> {
        for later in index + 1..self.calls.len() {
            let other = &self.calls[later];
            if other.began < call.ended && makes_names(&other.name) {
                self.call(later, at)?;
            }
        }
        Ok(())
    }

    /// What a path points at, if anything.
    fn find(&mut self, call: &Call, at: usize, index: usize, path: &Path) -> Result<Option<Node>> {
        if self.tree.find(path).is_none() {
            self.catch_up(call, at, index)?;
        }
        Ok(self.tree.find(path))
    }

    /// The directory that a path is in and the name there.
    fn place(&mut self, call: &Call, at: usize, index: usize, path: &Path) -> Result<NameChange> {
        if self.tree.place(path).is_none() {
            self.catch_up(call, at, index)?;
        }
        let (directory, name) = self.tree.place(path).ok_or_else(|| {
            call.unsupported(format!("nobody saw how {} came to be", path.display()))
        })?;
        Ok(NameChange {
            directory,
            name: name.to_owned(),
            target: None,
        })
    }

    fn open(&mut self, call: &Call, at: usize, index: usize, path_argument: usize) -> Result<()> {
        let number = call.result.and_then(|number| i32::try_from(number).ok());
        let number = number.unwrap_or(-1);
        let directory = path_argument.checked_sub(1);
        let mut path = self.path(call, path_argument, directory)?;
        if path.is_none() {
            path = call.result_path.as_ref().and_then(|path| self.below(path));
        }
        let Some(path) = path else {
            self.descriptors.put(call.thread, number, None);
            return Ok(());
        };
        let flags = match call.name.as_str() {
            "creat" => "O_WRONLY|O_CREAT|O_TRUNC",
            _ => call.argument(path_argument + 1),
        };
        let has = |flag| {
            flags
                .split(['|', '=', ',', ' ', '}'])
                .any(|part| part == flag)
        };
        let writes = has("O_WRONLY") || has("O_RDWR");
        if has("O_TMPFILE") || (writes && (has("O_SYNC") || has("O_DSYNC"))) {
            return Err(call.unsupported("O_TMPFILE, O_SYNC or O_DSYNC"));
        }
        let creates = has("O_CREAT");
        let there = if creates {
            self.tree.find(&path)
        } else {
            self.find(call, at, index, &path)?
        };
        let node = match there {
            Some(node) => node,
            None if creates => {
                let mut name = self.place(call, at, index, &path)?;
                // That may have caught up with who made it.
                match self.tree.find(&path) {
                    Some(node) => node,
                    None => {
                        let node = Node::File(self.tree.files.len());
                        name.target = Some(node);
                        self.push(call, at, Change::Names(vec![name]));
                        node
                    }
                }
            }
            None => return Err(call.unsupported("nobody saw how it came to be")),
        };
        if let Node::File(file) = node
            && self.watched.may_be_mapped(&path)
        {
            self.mapped.insert(file);
        }
        if let Node::File(file) = node
            && has("O_TRUNC")
            && !self.tree.files[file].is_empty()
        {
            let change = DataChange::Resize { length: 0 };
            self.push(call, at, Change::Data(file, change));
        }
        let description = Description {
            node,
            path,
            position: Cell::new(0),
            appends: Cell::new(has("O_APPEND")),
        };
        (self.descriptors).put(call.thread, number, Some(Rc::new(description)));
        Ok(())
    }

    fn write(&mut self, call: &Call, at: usize, written: usize) -> Result<()> {
        let stream = self.told.stream(call);
        let description = match stream {
            Some(_) => None,
            None => self.description(call, 0)?,
        };
        if stream.is_none() && description.is_none() {
            return Ok(());
        }
        let bytes = match call.name.as_str() {
            "write" | "pwrite64" => string(call.argument(1)),
            _ => buffers(call.argument(1)),
        };
        let mut bytes = bytes.ok_or_else(|| call.unsupported("data that was not printed whole"))?;
        bytes.truncate(written);
        if let Some(stream) = stream {
            self.events.extend(self.told.tell(call, stream, &bytes));
        }
        let Some(description) = description else {
            return Ok(());
        };
        let Node::File(file) = description.node else {
            return Err(call.unsupported("a write to a directory"));
        };
        let explicit = call.name.starts_with('p').then(|| call.argument(3));
        let explicit = explicit.and_then(|offset| offset.parse::<usize>().ok());
        let offset = if description.appends.get() {
            self.tree.files[file].len()
        } else {
            explicit.unwrap_or(description.position.get())
        };
        if explicit.is_none() {
            description.position.set(offset + bytes.len());
        }
        if !bytes.is_empty() {
            let change = DataChange::Write { offset, bytes };
            self.push(call, at, Change::Data(file, change));
        }
        Ok(())
    }

    fn truncate(&mut self, call: &Call, at: usize) -> Result<()> {
        let node = if call.name == "truncate" {
            let path = self.path(call, 0, None)?;
            path.and_then(|path| self.tree.find(&path))
        } else {
            (self.description(call, 0)?).map(|description| description.node)
        };
        if let Some(Node::File(file)) = node {
            let length = number(call, 1)?;
            let change = DataChange::Resize { length };
            self.push(call, at, Change::Data(file, change));
        }
        Ok(())
    }

    fn fallocate(&mut self, call: &Call, at: usize) -> Result<()> {
        let Some(description) = self.description(call, 0)? else {
            return Ok(());
        };
        let Node::File(file) = description.node else {
            return Ok(());
        };
        let end = number(call, 2)?.saturating_add(number(call, 3)?);
        match call.argument(1) {
            "0" if end > self.tree.files[file].len() => {
                let change = DataChange::Resize { length: end };
                self.push(call, at, Change::Data(file, change));
                Ok(())
            }
            "0" | "FALLOC_FL_KEEP_SIZE" => Ok(()),
            _ => Err(call.unsupported("a hole in a file")),
        }
    }

    fn sync(&mut self, call: &Call, at: usize) -> Result<()> {
        if let Some(description) = self.description(call, 0)? {
            let synced = match description.node {
                Node::File(file) => Synced::File(file),
                Node::Directory(directory) => Synced::Directory(directory),
            };
            self.push(call, at, Change::Sync(synced));
        }
        Ok(())
    }

    /// The two paths of a rename or a link.
    fn two_paths(&mut self, call: &Call) -> Result<[Option<PathBuf>; 2]> {
        if call.name.contains("at") {
            Ok([self.path(call, 1, Some(0))?, self.path(call, 3, Some(2))?])
        } else {
            Ok([self.path(call, 0, None)?, self.path(call, 1, None)?])
        }
    }

    fn rename(&mut self, call: &Call, at: usize, index: usize) -> Result<()> {
        if call.argument(4).contains("RENAME_EXCHANGE") {
            return Err(call.unsupported("an exchange of names"));
        }
        let (from, to) = match self.two_paths(call)? {
            [None, None] => return Ok(()),
            [Some(from), Some(to)] => (from, to),
            _ => return Err(call.unsupported("a rename into or out of the recorded directory")),
        };
        let target = self.find(call, at, index, &from)?;
        let gone = self.place(call, at, index, &from)?;
        let mut comes = self.place(call, at, index, &to)?;
        comes.target = target;
        if comes.target.is_none() {
            return Err(call.unsupported("nobody saw how it came to be"));
        }
        if comes.target != self.tree.find(&to) {
            self.push(call, at, Change::Names(vec![gone, comes]));
        }
        Ok(())
    }

    fn link(&mut self, call: &Call, at: usize, index: usize) -> Result<()> {
        let [from, Some(to)] = self.two_paths(call)? else {
            return Ok(());
        };
        let node = match from {
            Some(from) => self.find(call, at, index, &from)?,
            None => None,
        };
        let Some(node) = node else {
            return Err(call.unsupported("a link to what is not below the recorded directory"));
        };
        let mut name = self.place(call, at, index, &to)?;
        name.target = Some(node);
        self.push(call, at, Change::Names(vec![name]));
        Ok(())
    }

    fn unlink(&mut self, call: &Call, at: usize) -> Result<()> {
        let path = if call.name == "unlinkat" {
            self.path(call, 1, Some(0))?
        } else {
            self.path(call, 0, None)?
        };
        let Some((directory, name)) = path.as_deref().and_then(|path| self.tree.place(path)) else {
            return Ok(());
        };
        let name = NameChange {
            directory,
            name: name.to_owned(),
            target: None,
        };
        self.push(call, at, Change::Names(vec![name]));
        Ok(())
    }

    fn mkdir(&mut self, call: &Call, at: usize, index: usize) -> Result<()> {
        let path = if call.name == "mkdirat" {
            self.path(call, 1, Some(0))?
        } else {
            self.path(call, 0, None)?
        };
        let Some(path) = path else {
            return Ok(());
        };
        if path.as_os_str().is_empty() {
            return Err(call.unsupported("the recorded directory is made anew"));
        }
        let mut name = self.place(call, at, index, &path)?;
        name.target = Some(Node::Directory(self.tree.directories.len()));
        self.push(call, at, Change::Names(vec![name]));
        Ok(())
    }

    fn duplicate(&mut self, call: &Call, result: i64) {
        let Some(old) = descriptor(call.argument(0)) else {
            return;
        };
        let description = self.descriptors.get(call.thread, old.number);
        if call.name != "fcntl" || call.argument(1).starts_with("F_DUPFD") {
            let new = i32::try_from(result).unwrap_or(-1);
            self.descriptors.put(call.thread, new, description);
        } else if call.argument(1) == "F_SETFL"
            && let Some(description) = description
        {
            description
                .appends
                .set(call.argument(2).contains("O_APPEND"));
        }
    }

    fn map(&mut self, call: &Call) -> Result<()> {
        let is_shared = call.argument(3).contains("MAP_SHARED");
        if !is_shared || !call.argument(2).contains("PROT_WRITE") {
            return Ok(());
        }
        match self.description(call, 4)? {
            Some(mapped) if !self.watched.may_be_mapped(&mapped.path) => Err(call
                .unsupported("a file is mapped shared and writable: strace shows no writes to it")),
            _ => Ok(()),
        }
    }

    /// Refuses calls that write what strace does not show, where they touch the recorded directory.
    fn refuse(&mut self, call: &Call) -> Result<()> {
        let (descriptors, paths): (&[usize], &[(usize, Option<usize>)]) = match call.name.as_str() {
            "copy_file_range" | "splice" => (&[2], &[]),
            "sendfile" => (&[0], &[]),
            "symlink" => (&[], &[(1, None)]),
            "symlinkat" => (&[], &[(2, Some(1))]),
            "mknod" => (&[], &[(0, None)]),
            "mknodat" => (&[], &[(1, Some(0))]),
            "io_uring_setup" => return Err(call.unsupported("an io_uring")),
            _ => return Ok(()),
        };
        for argument in descriptors {
            if self.description(call, *argument)?.is_some() {
                return Err(call.unsupported("a copy within the kernel"));
            }
        }
        for (argument, directory) in paths {
            if self.path(call, *argument, *directory)?.is_some() {
                return Err(call.unsupported("it is neither a file nor a directory"));
            }
        }
        Ok(())
    }
}

fn makes_names(name: &str) -> bool {
    ["open", "creat", "mkdir", "rename", "link"]
        .iter()
        .any(|call| name.starts_with(call))
}

fn changes_files(name: &str) -> bool {
    makes_names(name)
        || name.contains("write")
        || name.contains("truncate")
        || name == "fallocate"
        || name.starts_with("unlink")
        || name == "rmdir"
}

fn number(call: &Call, argument: usize) -> Result<usize> {
    let number = call.argument(argument).parse();
    number.map_err(|_| call.unsupported("no number where one belongs"))
}
