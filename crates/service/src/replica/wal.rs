//! Reads what a connection has committed from SQLite's write-ahead log.
//!
//! The log has a head of 32 bytes, and frames: a head of 24 bytes and a page. The last frame of a transaction says how
//! many pages the file has then. Frames behind the last such frame are of a transaction that was taken back or is not
//! over, and are written over by the next.
//!
//! *Alone*: the connection has the file for itself (`locking_mode = EXCLUSIVE`), so that nobody else empties the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::pages::Pages;

const HEAD_BYTES: u64 = 32;
const FRAME_HEAD_BYTES: usize = 24;
/// Without its last bit, which tells how checksums are reckoned.
const MAGIC: u32 = 0x377f_0682;

/// The log of one file, and how far it was read.
pub(super) struct Wal {
    path: PathBuf,
    /// Of its head: what tells this filling of the log from others.
    salts: Option<[u8; 8]>,
    frames: u64,
}

impl Wal {
    /// That of a file that was just opened.
    pub(super) fn new(file: &Path) -> Self {
        let mut path = file.as_os_str().to_owned();
        path.push("-wal");
        Self {
            path: path.into(),
            salts: None,
            frames: 0,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Frames that were read since the log was emptied.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// The log was emptied.
    pub(super) fn emptied(&mut self) {
        self.salts = None;
        self.frames = 0;
    }

    /// What was committed since the last call; `None` where nothing was.
    ///
    /// # Errors
    /// The log cannot be read, or is not what the connection alone would leave.
    pub(super) fn read_new(&mut self) -> io::Result<Option<Pages>> {
        let strange = |detail: &str| Err(io::Error::new(ErrorKind::InvalidData, detail.to_owned()));
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.frames == 0 => {
                return Ok(None);
            }
            file => file?,
        };
        let mut head = [0; HEAD_BYTES as usize];
        if !read_at(&file, &mut head, 0)? {
            return match self.frames {
                0 => Ok(None),
                _ => strange("SQLite's log was emptied by another process"),
            };
        }
        if number(&head, 0) & !1 != MAGIC {
            return strange("it is no write-ahead log of SQLite");
        }
        let salts: [u8; 8] = std::array::from_fn(|at| head[16 + at]);
        if self.salts.is_some_and(|known| known != salts) {
            return strange("SQLite's log was begun anew by another process");
        }
        let page_bytes = number(&head, 8);
        let mut frame = vec![0; FRAME_HEAD_BYTES + page_bytes as usize];
        let mut committed: Option<Pages> = None;
        let mut open = BTreeMap::new();
        let frame_bytes = frame.len() as u64;
        let mut at = self.frames;
        while read_at(&file, &mut frame, HEAD_BYTES + at * frame_bytes)? {
            if frame[8..16] != salts {
                break;
            }
            at += 1;
            open.insert(number(&frame, 0), frame[FRAME_HEAD_BYTES..].to_vec());
            let file_pages = number(&frame, 4);
            if file_pages == 0 {
                continue;
            }
            let pages = committed.get_or_insert_default();
            pages.page_bytes = page_bytes;
            pages.file_pages = file_pages;
            pages.written.append(&mut open);
            self.frames = at;
            self.salts = Some(salts);
        }
        if let Some(pages) = &mut committed {
            // The file may have become shorter since a page was written.
            let file_pages = pages.file_pages;
            pages.written.retain(|page, _| *page <= file_pages);
        }
        Ok(committed)
    }
}

/// Fills a buffer from a place on; `false` where the file ends before.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The big-endian number at a place of a head.
fn number(head: &[u8], at: usize) -> u32 {
    let bytes = std::array::from_fn(|byte| head[at + byte]);
    u32::from_be_bytes(bytes)
}
