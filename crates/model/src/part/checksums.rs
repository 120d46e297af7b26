//! `checksums.txt`: what a part consists of, as the server that wrote it keeps it beside the files.
//!
//! ```text
//! checksums format version: 4\n
//! frames of compressed data: CityHash128 of the rest (16 bytes), method (1),
//!                            bytes of the frame from the method on (u32), bytes unpacked (u32), packed bytes
//! unpacked: files (varint), then for each its name (varint and bytes), size (varint), hash (16 bytes),
//!           1 if it is itself compressed, else 0; if 1, size (varint) and hash (16 bytes) of what is in it
//! ```
//!
//! Version 3 is the same without frames, version 2 a text. Numbers are little-endian. Damaged bytes are
//! an error and never make a reader allocate more than [`MAX_BYTES`].

use std::collections::BTreeMap;
use std::str::FromStr;

use super::content::FileChecksum;
use super::hash::{Hash128, Sip};
use crate::{Malformed, varint};

/// The largest list that is read, unpacked: room for half a million files.
pub const MAX_BYTES: usize = 64 << 20;

/// What `checksums.txt` says of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumEntry {
    /// Its size; of a projection, that of all its files.
    pub bytes: u64,
    /// Its hash, as [`super::FileHasher`] computes it; of a projection, its [`Checksums::part_hash`].
    pub hash: Hash128,
    /// Size and hash of what a compressed file unpacks to.
    pub uncompressed: Option<FileChecksum>,
}

impl ChecksumEntry {
    /// The file's identity within a server.
    pub fn identity(&self) -> FileChecksum {
        FileChecksum {
            bytes: self.bytes,
            hash: self.hash,
        }
    }
}

/// The files of a part by name, as its `checksums.txt` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksums {
    entries: BTreeMap<String, ChecksumEntry>,
}

impl Checksums {
    /// Reads a `checksums.txt`.
    ///
    /// # Errors
    /// It is damaged, of a version that is not known, or names a file outside of its directory.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let rest = bytes
            .strip_prefix(b"checksums format version: ")
            .ok_or_else(|| bad("it does not begin with its version"))?;
        let end = rest.iter().take(4).position(|byte| *byte == b'\n');
        let (version, rest) = rest.split_at(end.ok_or_else(|| bad("its version does not end"))?);
        let rest = &rest[1..];
        match version {
            b"2" => parse_text(rest),
            b"3" => parse_binary(rest),
            b"4" => parse_binary(&unpack(rest)?),
            _ => {
                let version = String::from_utf8_lossy(version);
                Err(bad(format!("version {version:?} is none of 2, 3 and 4")))
            }
        }
    }

    /// What is said of a file.
    pub fn get(&self, name: &str) -> Option<&ChecksumEntry> {
        self.entries.get(name)
    }

    /// Files and projections, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ChecksumEntry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// Files, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &ChecksumEntry)> {
        self.iter().filter(|(name, _)| !is_projection(name))
    }

    /// Projections: names of directories that have a `checksums.txt` of their own.
    pub fn projections(&self) -> impl Iterator<Item = (&str, &ChecksumEntry)> {
        self.iter().filter(|(name, _)| is_projection(name))
    }

    /// Bytes of all files, those of projections included.
    pub fn bytes(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| entry.bytes);
        sizes.fold(0, u64::saturating_add)
    }

    /// The identity of the part: what servers that know it call `hash_of_all_files`. It is computed from
    /// names and hashes, so parts of servers that do not know it compare with those of servers that do.
    pub fn part_hash(&self) -> Hash128 {
        let mut sip = Sip::new();
        for (name, entry) in &self.entries {
            sip.update(&(name.len() as u64).to_le_bytes());
            sip.update(name.as_bytes());
            sip.update(&entry.hash.to_stored());
        }
        sip.finish()
    }

    fn insert(&mut self, name: String, entry: ChecksumEntry) -> Result<(), Malformed> {
        let leaves = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
        if leaves {
            return Err(bad(format!("{name:?} is no name of a file")));
        }
        if self.entries.contains_key(&name) {
            return Err(bad(format!("{name:?} is there twice")));
        }
        self.entries.insert(name, entry);
        Ok(())
    }
}

fn is_projection(name: &str) -> bool {
    name.ends_with(".proj")
}

fn bad(detail: impl Into<String>) -> Malformed {
    Malformed::new("checksums.txt", detail)
}

/// Unpacks frames until the bytes end.
fn unpack(mut bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    const HASH: usize = 16;
    const HEADER: usize = 9;
    const LZ4: u8 = 0x82;
    const ZSTD: u8 = 0x90;
    const NONE: u8 = 0x02;
    let cut = || bad("a frame is cut short");
    let mut unpacked = Vec::new();
    while !bytes.is_empty() {
        let (hash, rest) = bytes.split_first_chunk::<HASH>().ok_or_else(cut)?;
        let (header, _) = rest.split_first_chunk::<HEADER>().ok_or_else(cut)?;
        let [method, a, b, c, d, e, f, g, h] = *header;
        let frame_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let room = u32::from_le_bytes([e, f, g, h]) as usize;
        let frame = rest.get(..frame_bytes).ok_or_else(cut)?;
        let packed = frame.get(HEADER..).ok_or_else(cut)?;
        if Hash128::city(frame) != Hash128::from_stored(*hash) {
            return Err(bad("a frame does not have its hash"));
        }
        if unpacked.len() + room > MAX_BYTES {
            return Err(bad(format!("unpacked it is larger than {MAX_BYTES} bytes")));
        }
        let content = match method {
            LZ4 => lz4_flex::block::decompress(packed, room).map_err(|e| bad(e.to_string()))?,
            ZSTD => zstd::bulk::decompress(packed, room).map_err(|e| bad(e.to_string()))?,
            NONE => packed.to_vec(),
            _ => return Err(bad(format!("compression method {method:#x} is not known"))),
        };
        if content.len() != room {
            return Err(bad("a frame unpacks to another size than it says"));
        }
        unpacked.extend_from_slice(&content);
        bytes = &rest[frame_bytes..];
    }
    Ok(unpacked)
}

fn parse_binary(mut bytes: &[u8]) -> Result<Checksums, Malformed> {
    let mut checksums = Checksums::default();
    let count = take_number(&mut bytes)?;
    for _ in 0..count {
        let length = take_number(&mut bytes)?;
        let name = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.split_at_checked(length))
            .ok_or_else(ends)?;
        bytes = name.1;
        let name = String::from_utf8(name.0.to_vec()).map_err(|_| bad("a name is not UTF-8"))?;
        let FileChecksum { bytes: size, hash } = take_identity(&mut bytes)?;
        let (&compressed, rest) = bytes.split_first().ok_or_else(ends)?;
        bytes = rest;
        let uncompressed = match compressed {
            0 => None,
            1 => Some(take_identity(&mut bytes)?),
            _ => return Err(bad(format!("{name:?} is neither compressed nor not"))),
        };
        let entry = ChecksumEntry {
            bytes: size,
            hash,
            uncompressed,
        };
        checksums.insert(name, entry)?;
    }
    if bytes.is_empty() {
        Ok(checksums)
    } else {
        Err(bad("more follows after the last file"))
    }
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    varint::take(bytes).ok_or_else(ends)
}

fn take_identity(bytes: &mut &[u8]) -> Result<FileChecksum, Malformed> {
    let size = take_number(bytes)?;
    let (hash, rest) = bytes.split_first_chunk::<16>().ok_or_else(ends)?;
    *bytes = rest;
    Ok(FileChecksum {
        bytes: size,
        hash: Hash128::from_stored(*hash),
    })
}

fn ends() -> Malformed {
    bad("it ends too early")
}

/// Version 2: lines of names, each with its properties on indented lines after it.
fn parse_text(bytes: &[u8]) -> Result<Checksums, Malformed> {
    let text = str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
    let mut lines = text.lines();
    let count: u64 = lines
        .next()
        .and_then(|line| line.strip_suffix(" files:")?.parse().ok())
        .ok_or_else(|| bad("it does not say how many files it lists"))?;
    let mut checksums = Checksums::default();
    for _ in 0..count {
        let name = lines.next().ok_or_else(ends)?.to_owned();
        let bytes = property(lines.next(), "size")?;
        let hash = hash_property(lines.next(), "hash")?;
        let uncompressed = match property(lines.next(), "compressed")? {
            0u8 => None,
            1 => Some(FileChecksum {
                bytes: property(lines.next(), "uncompressed size")?,
                hash: hash_property(lines.next(), "uncompressed hash")?,
            }),
            _ => return Err(bad(format!("{name:?} is neither compressed nor not"))),
        };
        let entry = ChecksumEntry {
            bytes,
            hash,
            uncompressed,
        };
        checksums.insert(name, entry)?;
    }
    match lines.next() {
        None => Ok(checksums),
        Some(_) => Err(bad("more follows after the last file")),
    }
}

fn value_of<'a>(line: Option<&'a str>, property: &str) -> Option<&'a str> {
    let line = line?.strip_prefix('\t')?;
    line.strip_prefix(property)?.strip_prefix(": ")
}

fn property<T: FromStr>(line: Option<&str>, name: &str) -> Result<T, Malformed> {
    value_of(line, name)
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| bad(format!("it does not tell the {name} of a file")))
}

/// Both halves of the number in decimal, the lower one first.
fn hash_property(line: Option<&str>, name: &str) -> Result<Hash128, Malformed> {
    value_of(line, name)
        .and_then(|value| value.split_once(' '))
        .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)))
        .map(|(low, high)| Hash128::from_halves(low, high))
        .ok_or_else(|| bad(format!("it does not tell the {name} of a file")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::from_hex;
    use crate::part::FileHasher;

    /// A wide part of ClickHouse 26.9: the numbers 0 to 999 in a column `k UInt64`, and a projection `p`.
    const OF_26_9: &str = "636865636b73756d7320666f726d61742076657273696f6e3a20340ab875bdcebb7a\
        826295ccd264f85a003f90f5000000e300000028b52ffd20e31907000609636f756e742e747874044f92ee86b47f8f\
        926eeb5879a8ac435500056b2e62696ebb1f2b4c697faadf282b7d55bca9e3e424fe01c03ec4077103e4541869f413\
        6097279e9511076b2e636d726b32330432ce7b6cf4c397648db363db98338a0130b0cd3ada9a43923e8a60243a0a2c\
        c5c106702e70726f6ad6018a99ecb04ccbb8623d6479eeb46b0c27000c7072696d6172792e63696478325f76a9c911\
        1384dcc82aba045f582a080110ae63acc9df72c60b927b62eac20595971273657269616c697a6174696f6e2e6a736f\
        6edc013292b768c8968ce7a845785cf478a48e00";

    /// Its projection.
    const PROJECTION: &str = "636865636b73756d7320666f726d61742076657273696f6e3a20340a380b685dd348\
        b6cfd0a03e364a85803790bb000000a900000028b52ffd20a94905000409636f756e742e747874016c9c55bde99a93\
        7ca9535458f41405ff001273657269616c697a6174696f6e2e6a736f6e84019ae32feaac2012f16e547bfa54690393\
        000e73756d2532386b2532392e62696e22716d369bd084682151d04f3455329e8a010846e5d4cf51552ce46dc4311b\
        12d7a9321073756d2532386b2532392e636d726b322fef6c65850480be5348f15f296500f553013083a405bf2e98d0\
        0127f8433ee3d3a0fb";

    /// The same numbers in a part of ClickHouse 18.16.
    const OF_18_16: &str = "636865636b73756d7320666f726d61742076657273696f6e3a20340a66b5b581a1c574\
        209c34dafbd10f2e1582890000007e000000f06f0409636f756e742e747874044f92ee86b47f8f926eeb5879a8ac43\
        5500056b2e62696ebb1f2b4c697faadf282b7d55bca9e3e424fe01c03ec4077103e4541869f4136097279e9511056b\
        2e6d726b1032aedb795d78bd1119fe6288a7b4feb3000b7072696d6172792e696478085164c80d51a880a9f05f9cef\
        afd0a57d00";

    fn fixture(hex: &str) -> Vec<u8> {
        from_hex(&hex.replace(' ', "")).unwrap()
    }

    #[test]
    fn a_real_list_of_either_server_is_read() {
        let new = Checksums::parse(&fixture(OF_26_9)).unwrap();
        let names: Vec<&str> = new.iter().map(|(name, _)| name).collect();
        let expected = "count.txt k.bin k.cmrk2 p.proj primary.cidx serialization.json";
        assert_eq!(names.join(" "), expected);
        assert_eq!(new.files().count(), 5);
        assert_eq!(new.bytes(), 4 + 4027 + 51 + 214 + 50 + 220);

        let old = Checksums::parse(&fixture(OF_18_16)).unwrap();
        let names: Vec<&str> = old.iter().map(|(name, _)| name).collect();
        assert_eq!(names.join(" "), "count.txt k.bin k.mrk primary.idx");
        assert_eq!(old.get("k.bin"), new.get("k.bin"));
        assert_ne!(old.part_hash(), new.part_hash());
    }

    #[test]
    fn the_hash_of_a_part_is_what_the_server_calls_hash_of_all_files() {
        let checksums = Checksums::parse(&fixture(OF_26_9)).unwrap();
        let told = "bc7f48903237b22062fc1e00ecc70260";
        assert_eq!(checksums.part_hash().to_string(), told);
    }

    #[test]
    fn the_hash_of_a_projection_is_that_of_a_part() {
        let checksums = Checksums::parse(&fixture(OF_26_9)).unwrap();
        let (name, entry) = checksums.projections().next().unwrap();
        let projection = Checksums::parse(&fixture(PROJECTION)).unwrap();
        assert_eq!(name, "p.proj");
        assert_eq!(projection.part_hash(), entry.hash);
        assert_eq!(projection.bytes(), 1 + 132 + 34 + 47);
    }

    #[test]
    fn files_are_hashed_as_the_server_hashed_them() {
        let checksums = Checksums::parse(&fixture(OF_18_16)).unwrap();
        let column = checksums.get("k.bin").unwrap().uncompressed.unwrap();
        let mut hasher = FileHasher::new();
        for number in 0u64..1000 {
            hasher.update(&number.to_le_bytes());
        }
        assert_eq!((column.bytes, column.hash), (8000, hasher.finish()));

        let mut hasher = FileHasher::new();
        hasher.update(b"1000");
        let count = checksums.get("count.txt").unwrap().identity();
        assert_eq!((count.bytes, count.hash), (4, hasher.finish()));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_found() {
        let bytes = fixture(OF_18_16);
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(Checksums::parse(&damaged).is_err(), "bit {at}");
        }
        for end in 27..bytes.len() {
            // Cut before the first frame it is a list that does not say how long it is.
            assert!(Checksums::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_refused_before_it_is_unpacked() {
        let bytes = written(4, &frame(0x90, &[0; 8], u32::MAX));
        let error = Checksums::parse(&bytes).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    #[test]
    fn names_that_lead_out_of_the_part_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b"] {
            let mut list = Checksums::default();
            let entry = ChecksumEntry {
                bytes: 1,
                hash: Hash128([1; 16]),
                uncompressed: None,
            };
            list.entries.insert(name.to_owned(), entry);
            assert!(
                Checksums::parse(&written(3, &binary(&list))).is_err(),
                "{name:?}"
            );
        }
    }

    fn written(version: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = format!("checksums format version: {version}\n").into_bytes();
        bytes.extend_from_slice(rest);
        bytes
    }

    fn frame(method: u8, packed: &[u8], unpacked_bytes: u32) -> Vec<u8> {
        let mut rest = vec![method];
        rest.extend_from_slice(&(packed.len() as u32 + 9).to_le_bytes());
        rest.extend_from_slice(&unpacked_bytes.to_le_bytes());
        rest.extend_from_slice(packed);
        let mut frame = Hash128::city(&rest).to_stored().to_vec();
        frame.extend_from_slice(&rest);
        frame
    }

    fn binary(list: &Checksums) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, list.entries.len() as u64);
        for (name, entry) in &list.entries {
            varint::put(&mut out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            varint::put(&mut out, entry.bytes);
            out.extend_from_slice(&entry.hash.to_stored());
            out.push(u8::from(entry.uncompressed.is_some()));
            if let Some(content) = entry.uncompressed {
                varint::put(&mut out, content.bytes);
                out.extend_from_slice(&content.hash.to_stored());
            }
        }
        out
    }

    fn text(list: &Checksums) -> String {
        let decimal = |hash: Hash128| {
            let number = u128::from_be_bytes(hash.0);
            format!("{} {}", number as u64, (number >> 64) as u64)
        };
        let mut out = format!("{} files:\n", list.entries.len());
        for (name, entry) in &list.entries {
            let hash = decimal(entry.hash);
            out += &format!("{name}\n\tsize: {}\n\thash: {hash}\n", entry.bytes);
            match entry.uncompressed {
                None => out += "\tcompressed: 0\n",
                Some(FileChecksum { bytes, hash }) => {
                    let hash = decimal(hash);
                    out += "\tcompressed: 1\n";
                    out += &format!("\tuncompressed size: {bytes}\n\tuncompressed hash: {hash}\n");
                }
            }
        }
        out
    }

    fn lists() -> impl Strategy<Value = Checksums> {
        let hash = || any::<[u8; 16]>().prop_map(Hash128);
        let content = (any::<u64>(), hash()).prop_map(|(bytes, hash)| FileChecksum { bytes, hash });
        let entry = (any::<u64>(), hash(), prop::option::of(content)).prop_map(
            |(bytes, hash, uncompressed)| ChecksumEntry {
                bytes,
                hash,
                uncompressed,
            },
        );
        prop::collection::btree_map("[a-zé%][a-z0-9._%]{0,20}", entry, 0..20)
            .prop_map(|entries| Checksums { entries })
    }

    proptest! {
        #[test]
        fn every_version_reads_as_it_was_written(list in lists(), cut in any::<prop::sample::Index>()) {
            let bytes = binary(&list);
            prop_assert_eq!(&Checksums::parse(&written(3, &bytes)).unwrap(), &list);
            prop_assert_eq!(&Checksums::parse(&written(2, text(&list).as_bytes())).unwrap(), &list);

            let (first, second) = bytes.split_at(cut.index(bytes.len()));
            let mut frames = frame(0x82, &lz4_flex::block::compress(first), first.len() as u32);
            frames.extend(frame(0x90, &zstd::bulk::compress(second, 1).unwrap(), second.len() as u32));
            prop_assert_eq!(&Checksums::parse(&written(4, &frames)).unwrap(), &list);
            let stored = frame(0x02, &bytes, bytes.len() as u32);
            prop_assert_eq!(&Checksums::parse(&written(4, &stored)).unwrap(), &list);
        }

        #[test]
        fn no_bytes_make_it_panic(
            version in 1u32..6,
            method in prop::sample::select(vec![0x02u8, 0x82, 0x90, 0x91]),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            claimed in 0u32..1000,
        ) {
            drop(Checksums::parse(&bytes));
            drop(Checksums::parse(&written(version, &bytes)));
            drop(Checksums::parse(&written(4, &frame(method, &bytes, claimed))));
        }
    }
}
