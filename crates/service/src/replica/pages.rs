//! The pages that commits wrote, as they are in the log.
//!
//! ```text
//! files u32, and of each: length of its name u16, its name, bytes of a page u32, pages of the file u32,
//!                         pages here u32, and of each: its number u32 (from 1), its bytes
//! ```
//!
//! Numbers are little-endian. An entry has one file, a snapshot all of them with all their pages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::Error;

/// What SQLite allows.
const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=65_536;
/// Where a file of SQLite says how large its pages are.
const PAGE_BYTES_AT: usize = 16;

/// Pages of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePages {
    /// Its name.
    pub(super) name: String,
    pub(super) pages: Pages,
}

/// What a commit left of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pages {
    /// Of each page.
    pub(super) page_bytes: u32,
    /// Pages of the file after it.
    pub(super) file_pages: u32,
    /// Those that it wrote, by their numbers, from 1.
    pub(super) written: BTreeMap<u32, Vec<u8>>,
}

impl FilePages {
    /// All pages of a file, which no process is writing.
    pub(super) fn of_file(name: &str, path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            action: format!("read {}", path.display()),
            source,
        })?;
        let pages = Pages::of(&bytes).map_err(|detail| Error::JournalRecord {
            path: path.display().to_string(),
            detail,
        })?;
        Ok(Self {
            name: name.to_owned(),
            pages,
        })
    }
}

impl Pages {
    /// Those of a whole file.
    fn of(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let at = PAGE_BYTES_AT;
        let said = bytes.get(at..at + 2).and_then(|said| said.try_into().ok());
        let said = said
            .map(u16::from_be_bytes)
            .ok_or("it is no file of SQLite")?;
        // 65,536 does not fit there.
        let page_bytes = if said == 1 { 65_536 } else { u32::from(said) };
        if !PAGE_BYTES.contains(&page_bytes) || !bytes.len().is_multiple_of(page_bytes as usize) {
            return Err("it is not made of whole pages".to_owned());
        }
        let pages = bytes.chunks(page_bytes as usize);
        let written: BTreeMap<u32, Vec<u8>> = (1..).zip(pages.map(<[u8]>::to_vec)).collect();
        Ok(Self {
            page_bytes,
            file_pages: u32::try_from(written.len()).map_err(|_| "it is too large")?,
            written,
        })
    }
}

/// Whether a file of a log may have a name: parts of small letters, digits, dots and dashes, none of which leads up.
pub(super) fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(is_good);
    name.split('/').all(is_part)
}

/// The bytes of files.
pub(super) fn encode(files: &[FilePages]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let put = |bytes: &mut Vec<u8>, number: u32| bytes.extend(number.to_le_bytes());
    put(&mut bytes, u32::try_from(files.len()).unwrap_or(u32::MAX));
    for FilePages { name, pages } in files {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_le_bytes());
        bytes.extend(name.as_bytes());
        put(&mut bytes, pages.page_bytes);
        put(&mut bytes, pages.file_pages);
        put(
            &mut bytes,
            u32::try_from(pages.written.len()).unwrap_or(u32::MAX),
        );
        for (number, page) in &pages.written {
            put(&mut bytes, *number);
            bytes.extend(page);
        }
    }
    bytes
}

/// The files that bytes are of; what is wrong with bytes that are of none.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<FilePages>, String> {
    let mut rest = bytes;
    let count = number(&mut rest)?;
    let mut files = Vec::new();
    for _ in 0..count {
        let length: [u8; 2] = cut(&mut rest, 2)?.try_into().map_err(|_| CUT_OFF)?;
        let name = cut(&mut rest, u16::from_le_bytes(length).into())?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name));
        let name = name
            .ok_or("it has a file with a name that is none")?
            .to_owned();
        let (page_bytes, file_pages) = (number(&mut rest)?, number(&mut rest)?);
        if file_pages > 0 && !PAGE_BYTES.contains(&page_bytes) {
            return Err(format!("{name} has pages of {page_bytes} bytes"));
        }
        let mut written = BTreeMap::new();
        for _ in 0..number(&mut rest)? {
            let at = number(&mut rest)?;
            let page = cut(&mut rest, page_bytes as usize)?;
            if !(1..=file_pages).contains(&at) || written.insert(at, page.to_vec()).is_some() {
                return Err(format!("{name} cannot have page {at} here"));
            }
        }
        files.push(FilePages {
            name,
            pages: Pages {
                page_bytes,
                file_pages,
                written,
            },
        });
    }
    match rest {
        [] => Ok(files),
        _ => Err("it goes on behind its end".to_owned()),
    }
}

const CUT_OFF: &str = "it ends too early";

fn cut<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
    let (here, behind) = rest.split_at_checked(length).ok_or(CUT_OFF)?;
    *rest = behind;
    Ok(here)
}

fn number(rest: &mut &[u8]) -> Result<u32, &'static str> {
    let bytes = cut(rest, 4)?.try_into().map_err(|_| CUT_OFF)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn files() -> impl Strategy<Value = Vec<FilePages>> {
        let pages = btree_map(1_u32..20, vec(any::<u8>(), 512), 0..4);
        let file = ("[a-z]{1,8}(/[a-z]{1,8})?", pages, 20_u32..30);
        let file = file.prop_map(|(name, written, file_pages)| FilePages {
            name,
            pages: Pages {
                page_bytes: 512,
                file_pages,
                written,
            },
        });
        vec(file, 0..4)
    }

    proptest! {
        #[test]
        fn pages_read_back(files in files()) {
            prop_assert_eq!(decode(&encode(&files)), Ok(files));
        }

        #[test]
        fn bytes_of_others_are_refused_or_read_and_never_more(bytes: Vec<u8>) {
            if let Ok(files) = decode(&bytes) {
                prop_assert_eq!(encode(&files), bytes);
            }
        }

        #[test]
        fn what_is_cut_off_or_goes_on_is_refused(files in files(), at: prop::sample::Index) {
            let mut bytes = encode(&files);
            prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "/etc/x", "../x", "a/../x", "a//b", "a/", "A", "."] {
            let file = FilePages {
                name: name.to_owned(),
                pages: Pages::default(),
            };
            assert!(decode(&encode(&[file])).is_err(), "{name}");
        }
    }
}
