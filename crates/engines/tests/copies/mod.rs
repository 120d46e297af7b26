//! Parts that are brought by copying them from a directory.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_engines::Supplier;
use mendb_model::part::{FileChecksum, PartFile};

/// Has each part in a directory, to be copied.
pub struct Copies<'a>(pub &'a Path);

impl Supplier for Copies<'_> {
    fn go_on(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn place_of(&mut self, _: &FileChecksum) -> ControlFlow<(), Option<PathBuf>> {
        ControlFlow::Continue(None)
    }

    fn is_gone(&mut self, _: &FileChecksum) -> ControlFlow<(), Option<PathBuf>> {
        ControlFlow::Continue(None)
    }

    fn is_nowhere(&mut self, _: &FileChecksum) {}

    fn fetch(&mut self, _: &[(&PartFile, PathBuf)]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn fetch_part(&mut self, _: usize, into: &Path) -> ControlFlow<(), u64> {
        copy(self.0, into);
        ControlFlow::Continue(0)
    }
}

/// Copies what is in a directory into another, which may be there.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
