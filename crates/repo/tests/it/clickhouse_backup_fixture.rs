//! Backups in the layouts of clickhouse-backup, made by hand: parts with correct checksums, written as
//! files or into archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use mendb_model::part::{Checksums, FileHasher, Hash128};
use mendb_repo::clickhouse_backup::path_name::encode;
use serde_json::{Value, json};

/// Files by their path, of a part or of a tree.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A part.
#[derive(Debug, Clone)]
pub struct MadePart {
    pub name: String,
    pub files: Files,
    pub hash: Hash128,
}

/// A part with a projection and a file of so many bytes, its content told by a seed.
pub fn part(name: &str, seed: u8, bytes: usize) -> MadePart {
    let data = |seed: u8, bytes: usize| -> Vec<u8> {
        let numbers = (0..bytes).map(|at| (at * (2 * usize::from(seed) + 1) / 7) as u8);
        numbers.map(|byte| byte ^ seed).collect()
    };
    let mut projection = Files::from([
        ("data.bin".to_owned(), data(seed ^ 0x55, bytes / 10)),
        ("count.txt".to_owned(), b"3".to_vec()),
    ]);
    let list = checksums(&projection, &[]);
    let projection_hash = Checksums::parse(&list).unwrap().part_hash();
    let projection_bytes = projection.values().map(|file| file.len() as u64).sum();
    projection.insert("checksums.txt".to_owned(), list);
    projection.insert(
        "columns.txt".to_owned(),
        b"columns format version: 1".to_vec(),
    );

    let mut files = Files::from([
        ("data.bin".to_owned(), data(seed, bytes)),
        ("empty.bin".to_owned(), Vec::new()),
        (
            "count.txt".to_owned(),
            (100 + u64::from(seed)).to_string().into_bytes(),
        ),
    ]);
    let list = checksums(&files, &[("p.proj", projection_bytes, projection_hash)]);
    let hash = Checksums::parse(&list).unwrap().part_hash();
    files.insert("checksums.txt".to_owned(), list);
    files.insert(
        "columns.txt".to_owned(),
        b"columns format version: 1".to_vec(),
    );
    files.insert("metadata_version.txt".to_owned(), b"0".to_vec());
    for (file, content) in projection {
        files.insert(format!("p.proj/{file}"), content);
    }
    MadePart {
        name: name.to_owned(),
        files,
        hash,
    }
}

/// A `checksums.txt` in frames that are not compressed.
fn checksums(files: &Files, projections: &[(&str, u64, Hash128)]) -> Vec<u8> {
    let hashed = files.iter().map(|(name, content)| {
        let mut hasher = FileHasher::new();
        hasher.update(content);
        (name.as_str(), content.len() as u64, hasher.finish())
    });
    let mut entries: Vec<_> = hashed.chain(projections.iter().copied()).collect();
    entries.sort_unstable();
    let mut list = Vec::new();
    put_number(&mut list, entries.len() as u64);
    for (name, bytes, hash) in entries {
        put_number(&mut list, name.len() as u64);
        list.extend_from_slice(name.as_bytes());
        put_number(&mut list, bytes);
        list.extend_from_slice(&hash.to_stored());
        list.push(0);
    }
    let mut frame = vec![0x02];
    frame.extend_from_slice(&(9 + list.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(list.len() as u32).to_le_bytes());
    frame.extend_from_slice(&list);
    let mut bytes = b"checksums format version: 4\n".to_vec();
    bytes.extend_from_slice(&Hash128::city(&frame).to_stored());
    bytes.extend_from_slice(&frame);
    bytes
}

/// Seven bits a byte, the lowest first, with a bit that says whether more follow.
fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// How a backup is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As `create` leaves it.
    Local,
    /// Uploaded without compression.
    Directory,
    /// Uploaded as one archive for each part.
    ByPart(Packing),
    /// Uploaded as archives of so many bytes.
    BySize(Packing, usize),
}

/// How archives are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Tar,
    Gzip,
    Zstd,
    Lz4,
    Snappy,
    Xz,
    Bzip2,
    Brotli,
}

impl Packing {
    pub const ALL: [Self; 8] = [
        Self::Tar,
        Self::Gzip,
        Self::Zstd,
        Self::Lz4,
        Self::Snappy,
        Self::Xz,
        Self::Bzip2,
        Self::Brotli,
    ];

    pub fn extension(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Gzip => "tar.gz",
            Self::Zstd => "tar.zstd",
            Self::Lz4 => "tar.lz4",
            Self::Snappy => "tar.sz",
            Self::Xz => "tar.xz",
            Self::Bzip2 => "tar.bz2",
            Self::Brotli => "tar.br",
        }
    }

    fn format(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy => "sz",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Brotli => "brotli",
        }
    }

    pub fn pack(self, tar: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Tar => tar,
            Self::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::stream::encode_all(&tar[..], 1).unwrap(),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
            Self::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(&tar).unwrap();
                encoder.into_inner().unwrap()
            }
            Self::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
            Self::Bzip2 => {
                let level = bzip2::Compression::fast();
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
            Self::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 1, 22);
                encoder.write_all(&tar).unwrap();
                encoder.into_inner()
            }
        }
    }
}

/// An archive with these members, whose names get the slash that clickhouse-backup puts before them.
pub fn tar<'f>(members: impl IntoIterator<Item = (String, &'f [u8])>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        append(
            &mut archive,
            &format!("/{name}"),
            tar::EntryType::Regular,
            content,
        );
    }
    archive.into_inner().unwrap()
}

/// Appends a member of any name.
pub fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    content: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    if kind.is_symlink() {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

/// A part in a backup.
#[derive(Debug, Clone)]
pub struct Held {
    pub disk: &'static str,
    pub part: MadePart,
    /// It is in the parent only.
    pub required: bool,
    /// Whether the table's document tells its hash.
    pub hashed: bool,
}

impl Held {
    pub fn new(part: &MadePart) -> Self {
        Self {
            disk: "default",
            part: part.clone(),
            required: false,
            hashed: true,
        }
    }

    pub fn required(part: &MadePart) -> Self {
        Self {
            required: true,
            ..Self::new(part)
        }
    }

    pub fn unhashed(self) -> Self {
        Self {
            hashed: false,
            ..self
        }
    }

    pub fn on(self, disk: &'static str) -> Self {
        Self { disk, ..self }
    }
}

/// A backup of the table `d-1.t.x`, whose name has to be encoded.
#[derive(Debug, Clone)]
pub struct Made {
    pub name: &'static str,
    pub layout: Layout,
    pub parent: &'static str,
    pub parts: Vec<Held>,
    /// Members of `metadata.json` to replace or add.
    pub metadata: Value,
    /// The same for the document of the table.
    pub table: Value,
}

pub const DATABASE: &str = "d-1";
pub const TABLE: &str = "t.x";
pub const QUERY: &str = "CREATE TABLE `d-1`.`t.x` UUID '4b7d2b1e-0000-4000-8000-000000000000' \
                         (`a` UInt64, `b` String) ENGINE = MergeTree ORDER BY a";

impl Made {
    pub fn new(name: &'static str, layout: Layout, parts: Vec<Held>) -> Self {
        Self {
            name,
            layout,
            parent: "",
            parts,
            metadata: json!({}),
            table: json!({}),
        }
    }

    pub fn requires(self, parent: &'static str) -> Self {
        Self { parent, ..self }
    }

    /// Every object of it, by its path below the directory of all backups.
    pub fn objects(&self) -> Files {
        let mut objects = Files::new();
        let mut put = |path: String, content: Vec<u8>| drop(objects.insert(path, content));
        let (database, table) = (encode(DATABASE), encode(TABLE));
        let mut metadata = json!({
            "backup_name": self.name,
            "disks": {"default": "/nowhere/clickhouse/", "d2": "/nowhere/d2/"},
            "disk_types": {"default": "local", "d2": "Local"},
            "version": "2.6.5",
            "creation_date": "2026-08-19T10:11:12Z",
            "tags": "regular",
            "clickhouse_version": "v26.9.1.1",
            "data_size": 4000,
            "metadata_size": 50,
            "databases": [{
                "name": DATABASE,
                "engine": "Atomic",
                "query": "CREATE DATABASE `d-1` ENGINE = Atomic",
            }],
            "tables": [{"database": DATABASE, "table": TABLE}],
            "functions": null,
            "data_format": match self.layout {
                Layout::Local => "",
                Layout::Directory => "directory",
                Layout::ByPart(packing) | Layout::BySize(packing, _) => packing.format(),
            },
        });
        if !self.parent.is_empty() {
            metadata["required_backup"] = self.parent.into();
        }
        put(
            format!("{}/metadata.json", self.name),
            merged(metadata, &self.metadata),
        );
        let document = merged(self.document(), &self.table);
        put(
            format!("{}/metadata/{database}/{table}.json", self.name),
            document,
        );
        let data = format!("{}/shadow/{database}/{table}", self.name);
        for disk in ["default", "d2"] {
            let own = self
                .parts
                .iter()
                .filter(|held| held.disk == disk && !held.required);
            let own: Vec<&MadePart> = own.map(|held| &held.part).collect();
            for (path, content) in self.laid_out(disk, &own) {
                put(format!("{data}/{path}"), content);
            }
        }
        objects
    }

    fn laid_out(&self, disk: &str, parts: &[&MadePart]) -> Files {
        let members = |part: &MadePart| {
            let files = part.files.clone().into_iter();
            let name = part.name.clone();
            files.map(move |(file, content)| (format!("{name}/{file}"), content))
        };
        let packed = |packing: Packing, members: &[(String, Vec<u8>)]| {
            let members = members
                .iter()
                .map(|(name, content)| (name.clone(), &content[..]));
            packing.pack(tar(members))
        };
        match self.layout {
            Layout::Local | Layout::Directory => {
                let all = parts.iter().flat_map(|part| members(part));
                all.map(|(path, content)| (format!("{disk}/{path}"), content))
                    .collect()
            }
            Layout::ByPart(packing) => {
                let archives = parts.iter().map(|part| {
                    let members: Vec<_> = members(part).collect();
                    let (name, extension) = (encode(&part.name), packing.extension());
                    (
                        format!("{disk}_{name}.{extension}"),
                        packed(packing, &members),
                    )
                });
                archives.collect()
            }
            Layout::BySize(packing, most_bytes) => {
                let mut slices = vec![Vec::new()];
                let mut bytes = 0;
                for member in parts.iter().flat_map(|part| members(part)) {
                    if bytes + member.1.len() > most_bytes && bytes > 0 {
                        slices.push(Vec::new());
                        bytes = 0;
                    }
                    bytes += member.1.len();
                    slices.last_mut().unwrap().push(member);
                }
                slices.retain(|slice| !slice.is_empty());
                let archives = slices.iter().enumerate().map(|(at, slice)| {
                    let name = format!("{disk}_{}.{}", at + 1, packing.extension());
                    (name, packed(packing, slice))
                });
                archives.collect()
            }
        }
    }

    fn document(&self) -> Value {
        let mut parts = json!({});
        let mut hashes = json!({"other_1_1_0": "00000000000000000000000000000000"});
        for held in &self.parts {
            let entry = match held.required {
                true => json!({"name": held.part.name, "required": true}),
                false => json!({"name": held.part.name, "size": 77}),
            };
            if parts[held.disk].is_null() {
                parts[held.disk] = json!([]);
            }
            parts[held.disk].as_array_mut().unwrap().push(entry);
            if held.hashed {
                hashes[&held.part.name] = held.part.hash.to_string().into();
            }
        }
        json!({
            "table": TABLE,
            "database": DATABASE,
            "parts": parts,
            "query": QUERY,
            "size": {"default": 77},
            "total_bytes": 4000,
            "metadata_only": false,
            "mutations": [{"mutation_id": "mutation_7.txt", "command": "DELETE WHERE a = 1"}],
            "hash_of_all_files": hashes,
        })
    }

    /// Writes it into the directory of all backups.
    pub fn write(&self, root: &Path) {
        write(root, &self.objects());
    }
}

fn merged(mut document: Value, changes: &Value) -> Vec<u8> {
    for (key, value) in changes.as_object().unwrap() {
        document[key] = value.clone();
    }
    serde_json::to_vec_pretty(&document).unwrap()
}

/// Writes a tree of files.
pub fn write(root: &Path, files: &Files) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Reads a tree of files.
pub fn read(root: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = read(&path).into_iter();
            files.extend(below.map(|(below, content)| (format!("{name}/{below}"), content)));
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}
