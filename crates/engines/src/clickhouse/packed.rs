//! Parts whose files are one file, `data.packed`, as servers make of small parts where told to.
//!
//! ```text
//! version 0 (1 byte), files (u64), then for each its name (varint and bytes), offset (u64), size (u64);
//! then the files
//! ```
//!
//! Numbers are little-endian. Damaged bytes are an error and never make a reader take more memory than
//! [`MAX_FILES`] and [`MAX_MEMBER_BYTES`] allow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The name of the file.
pub(super) const NAME: &str = "data.packed";
const MAX_FILES: u64 = 1 << 20;
const MAX_NAME_BYTES: u64 = 1 << 12;
/// Of a file that is read as a whole: lists of checksums and counts.
const MAX_MEMBER_BYTES: u64 = 64 << 20;

/// An open `data.packed`.
pub(super) struct Packed {
    file: BufReader<File>,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    offset: u64,
    bytes: u64,
}

impl Packed {
    /// Opens one and reads what is in it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let total = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let members = read_members(&mut file, total)?;
        Ok(Self { file, members })
    }

    /// Where a file in it begins.
    pub(super) fn offset_of(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|member| member.offset)
    }

    /// The size of a file in it.
    pub(super) fn bytes_of(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|member| member.bytes)
    }

    /// A small file in it.
    pub(super) fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let member = self.members.get(name).ok_or(io::ErrorKind::NotFound)?;
        if member.bytes > MAX_MEMBER_BYTES {
            return Err(bad(format!("{name} in it has {} bytes", member.bytes)));
        }
        self.file.seek(SeekFrom::Start(member.offset))?;
        let mut content = Vec::new();
        (&mut self.file)
            .take(member.bytes)
            .read_to_end(&mut content)?;
        Ok(content)
    }
}

/// Reads what is in a file of `total` bytes; every member lies within it.
fn read_members(file: &mut impl Read, total: u64) -> io::Result<BTreeMap<String, Member>> {
    let [version] = read_array(file)?;
    if version != 0 {
        return Err(bad(format!(
            "its version is {version}, and only 0 is known"
        )));
    }
    let count = u64::from_le_bytes(read_array(file)?);
    if count > MAX_FILES {
        return Err(bad(format!("it says that it holds {count} files")));
    }
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let length = read_varint(file)?;
        if length > MAX_NAME_BYTES {
            return Err(bad("a name in it is too long"));
        }
        let mut name = Vec::new();
        file.take(length).read_to_end(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| bad("a name in it is not UTF-8"))?;
        let member = Member {
            offset: u64::from_le_bytes(read_array(file)?),
            bytes: u64::from_le_bytes(read_array(file)?),
        };
        let end = member.offset.checked_add(member.bytes);
        if end.is_none_or(|end| end > total) {
            return Err(bad(format!("{name:?} in it reaches beyond its end")));
        }
        members.insert(name, member);
    }
    Ok(members)
}

fn read_array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Seven bits a byte, the lowest first.
fn read_varint(file: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = read_array(file)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(bad("a length in it does not end"))
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let head: usize = 9 + files.iter().map(|(name, _)| 17 + name.len()).sum::<usize>();
        let mut bytes = vec![0];
        bytes.extend((files.len() as u64).to_le_bytes());
        let mut offset = head as u64;
        for (name, content) in files {
            bytes.push(u8::try_from(name.len()).unwrap());
            bytes.extend(name.as_bytes());
            bytes.extend(offset.to_le_bytes());
            bytes.extend((content.len() as u64).to_le_bytes());
            offset += content.len() as u64;
        }
        for (_, content) in files {
            bytes.extend(*content);
        }
        bytes
    }

    #[test]
    fn files_are_read_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        std::fs::write(&path, packed(&[("count.txt", b"12"), ("data.bin", b"xyz")])).unwrap();
        let mut packed = Packed::open(&path).unwrap();
        assert_eq!(packed.read("count.txt").unwrap(), b"12");
        assert_eq!(packed.read("data.bin").unwrap(), b"xyz");
        assert_eq!(packed.bytes_of("data.bin"), Some(3));
        assert_eq!(
            packed.read("columns.txt").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn bytes_that_were_cut_or_changed_are_an_error_or_other_bytes_but_no_panic() {
        let good = packed(&[("count.txt", b"12"), ("data.bin", b"xyz")]);
        for cut in 0..good.len() {
            let cut_short = &good[..cut];
            assert!(read_members(&mut &cut_short[..], cut as u64).is_err());
        }
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0xff;
            drop(read_members(&mut &changed[..], changed.len() as u64));
        }
    }
}
