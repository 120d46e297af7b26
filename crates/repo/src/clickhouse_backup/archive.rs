//! Archives of parts: how they are named, and what is in them.
//!
//! Members are called `/<part>/<file>` or `/<part>/<projection>.proj/<file>`. An archive is bytes from
//! elsewhere: a member of another kind than a file, or of a name that leads out of its part, is an error
//! and not skipped, since an archive that has one was not written for what it is read for.

use std::io::{self, Read};

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use tar::EntryType;

use super::error::{ImportError, Result};
use super::path_name;
use super::reader::{ObjectReader, Transfer};
use crate::foreign::Guarded;

/// Largest window of a zstd archive that is read, as a power of two: 32 MiB. What clickhouse-backup
/// writes has 8 MiB at most.
const WINDOW_LOG_MAX: u32 = 25;
/// Most memory for an xz archive, in KiB: what the strongest preset of xz needs, and a little. What
/// clickhouse-backup writes needs 8 MiB.
const XZ_KIB_MAX: u32 = 68 << 10;
/// Bytes of a brotli archive that are read at once.
const BROTLI_BUFFER_BYTES: usize = 64 << 10;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    Lz4,
    Snappy,
    Xz,
    Bzip2,
    Brotli,
}

impl Compression {
    /// By the extension of the archive: what is after the first dot.
    pub(super) fn of(extension: &str) -> Option<Self> {
        match extension {
            "tar" => Some(Self::None),
            "tar.gz" | "tgz" => Some(Self::Gzip),
            "tar.zstd" | "tar.zst" => Some(Self::Zstd),
            "tar.lz4" => Some(Self::Lz4),
            "tar.sz" => Some(Self::Snappy),
            "tar.xz" => Some(Self::Xz),
            "tar.bz2" => Some(Self::Bzip2),
            "tar.br" => Some(Self::Brotli),
            _ => None,
        }
    }
}

/// What an archive of a disk has in it, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// The files of one part.
    Part(String),
    /// Files of any parts: one of several archives that were cut by size.
    Slice(u32),
}

/// Takes the name of an archive of a disk apart: what it holds, and its extension. `None` for names of
/// other disks.
pub(super) fn parse_name<'n>(name: &'n str, disk: &str) -> Option<(Holds, &'n str)> {
    let (stem, extension) = name
        .strip_prefix(disk)?
        .strip_prefix('_')?
        .split_once('.')?;
    let holds = match stem.parse() {
        Ok(number) => Holds::Slice(number),
        Err(_) => Holds::Part(path_name::decode(stem)?),
    };
    Some((holds, extension))
}

/// A file in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The part it belongs to.
    pub(super) part: String,
    /// Its path inside the part.
    pub(super) file: String,
    /// Its size.
    pub(super) bytes: u64,
}

/// Whether to go on to the next member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    On,
    Enough,
}

/// Goes through the files of an archive in their order. Whatever of a file `each` does not read is
/// skipped, without reading it where the archive is not compressed.
pub(super) fn walk(
    reader: ObjectReader,
    compression: Compression,
    transfer: &Transfer,
    each: impl FnMut(&Member, &mut dyn Read) -> Result<Walk>,
) -> Result<()> {
    let object = reader.full_name();
    let failed = |error| transfer.explain(&object, &error);
    let unpacked: Box<dyn Read> = match compression {
        Compression::None => {
            let mut archive = tar::Archive::new(reader);
            let entries = archive.entries_with_seek().map_err(failed)?;
            members(entries, &object, transfer, each)?;
            return Ok(());
        }
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut unpacked = zstd::stream::read::Decoder::new(reader).map_err(failed)?;
            unpacked.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
            Box::new(unpacked)
        }
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(reader)),
        Compression::Snappy => Box::new(snap::read::FrameDecoder::new(reader)),
        Compression::Xz => Box::new(XzReader::new_mem_limit(reader, true, XZ_KIB_MAX)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(reader)),
        Compression::Brotli => {
            let mut unpacked = Decompressor::new(reader, BROTLI_BUFFER_BYTES);
            // Windows of more than 16 MiB.
            let large = BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW;
            unpacked.set_parameter(large, 0);
            Box::new(unpacked)
        }
    };
    unpacked_members(Guarded(unpacked), &object, transfer, each)
}

/// Goes through an archive that is unpacked, to its very end if nobody has enough before: there the
/// compressor put what proves all of it.
fn unpacked_members<R: Read>(
    unpacked: R,
    object: &str,
    transfer: &Transfer,
    each: impl FnMut(&Member, &mut dyn Read) -> Result<Walk>,
) -> Result<()> {
    let failed = |error| transfer.explain(object, &error);
    let mut archive = tar::Archive::new(unpacked);
    let entries = archive.entries().map_err(failed)?;
    if members(entries, object, transfer, each)? == Walk::On {
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
    }
    Ok(())
}

fn members<R: Read>(
    entries: tar::Entries<'_, R>,
    object: &str,
    transfer: &Transfer,
    mut each: impl FnMut(&Member, &mut dyn Read) -> Result<Walk>,
) -> Result<Walk> {
    for entry in entries {
        let mut entry = entry.map_err(|error| transfer.explain(object, &error))?;
        let kind = entry.header().entry_type();
        let refuse = |detail: &str, path: &[u8]| ImportError::Archive {
            object: object.to_owned(),
            detail: format!("{:?} {detail}", String::from_utf8_lossy(path)),
        };
        let path = entry.path_bytes();
        match kind {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory => continue,
            _ => return Err(refuse("is no file", &path)),
        }
        let (part, file) =
            inside(&path).ok_or_else(|| refuse("is no name of a file of a part", &path))?;
        let member = Member {
            part,
            file,
            bytes: entry.size(),
        };
        if each(&member, &mut entry)? == Walk::Enough {
            return Ok(Walk::Enough);
        }
    }
    Ok(Walk::On)
}

/// The part and the path inside of it that the path of a member names.
fn inside(path: &[u8]) -> Option<(String, String)> {
    let path = str::from_utf8(path).ok()?;
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.strip_prefix('/').unwrap_or(path);
    let (part, file) = path.split_once('/')?;
    (is_plain(part) && is_file_of_part(file)).then(|| (part.to_owned(), file.to_owned()))
}

/// Whether a path is one that a part has: a file, or a file of a projection.
pub(super) fn is_file_of_part(path: &str) -> bool {
    match path.split_once('/') {
        None => is_plain(path),
        Some((projection, file)) => {
            is_plain(projection) && projection.ends_with(".proj") && is_plain(file)
        }
    }
}

/// Whether a name is one of a file or directory, and leads nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

/// Reads a file of an archive whole.
pub(super) fn read_whole(
    member: &Member,
    from: &mut dyn Read,
    most_bytes: u64,
    object: &str,
    transfer: &Transfer,
) -> Result<Vec<u8>> {
    let wrong = |detail: &str| ImportError::Archive {
        object: object.to_owned(),
        detail: format!("{}/{} {detail}", member.part, member.file),
    };
    if member.bytes > most_bytes {
        return Err(wrong("is larger than such a file can be"));
    }
    let mut bytes = Vec::new();
    from.take(most_bytes)
        .read_to_end(&mut bytes)
        .map_err(|error| transfer.explain(object, &error))?;
    if bytes.len() as u64 == member.bytes {
        Ok(bytes)
    } else {
        Err(wrong("is cut short"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_archives_tell_a_part_or_a_number() {
        let part = |name: &str| Holds::Part(name.to_owned());
        assert_eq!(
            parse_name("default_2024%2D01_1_1_0.tar.gz", "default"),
            Some((part("2024-01_1_1_0"), "tar.gz"))
        );
        assert_eq!(
            parse_name("disk_1_12.tar", "disk_1"),
            Some((Holds::Slice(12), "tar"))
        );
        assert_eq!(parse_name("default_all_1_1_0.tar", "def"), None);
        assert_eq!(parse_name("default_all_1_1_0", "default"), None);
    }

    #[test]
    fn paths_of_members_lead_into_a_part_or_are_refused() {
        let file = |part: &str, file: &str| Some((part.to_owned(), file.to_owned()));
        assert_eq!(inside(b"/all_1_1_0/a.bin"), file("all_1_1_0", "a.bin"));
        assert_eq!(inside(b"./p/x.proj/a.bin"), file("p", "x.proj/a.bin"));
        for bad in [
            "a.bin",
            "/a.bin",
            "//p/a",
            "/../p/a",
            "/p/../a",
            "/p/..",
            "/p/./a",
            "/p//a",
            "/p/",
            "/p/dir/a",
            "/p/x.proj/y.proj/a",
            "/p/x.proj/..",
            "/p/a\\b",
            "/p/a\0",
        ] {
            assert_eq!(inside(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(inside(b"/p/\xff"), None);
    }

    proptest! {
        #[test]
        fn no_member_leads_out_of_its_part(path in "[./a\\\\]{0,12}|.{0,20}") {
            if let Some((part, file)) = inside(path.as_bytes()) {
                let names: Vec<_> = [part.as_str()].into_iter().chain(file.split('/')).collect();
                prop_assert!(names.len() <= 3);
                prop_assert!(names.iter().all(|name| !["", ".", ".."].contains(name)));
            }
        }
    }
}
