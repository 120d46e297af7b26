//! The text of a file as UTF-8, whatever it is encoded in. A byte order mark is taken off, and says
//! the encoding where none was asked for.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use serde::Serialize;

/// How much is read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// How much of a file is looked at before it is read, to learn how it is written.
const HEAD_BYTES: u64 = 64 << 10;

/// How characters are written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8.
    #[value(name = "utf-8")]
    Utf8,
    /// UTF-16; without a byte order mark little-endian.
    #[value(name = "utf-16")]
    Utf16,
    /// ISO 8859-1.
    #[value(name = "latin1")]
    Latin1,
    /// Windows-1252, of Western editions of Excel.
    #[value(name = "windows-1252")]
    Windows1252,
}

/// Text that is read from its beginning to its end.
pub struct TextReader {
    head: Vec<u8>,
    reader: Box<dyn BufRead + Send>,
    bytes_read: Arc<AtomicU64>,
}

impl TextReader {
    /// Begins to read `raw`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(raw: impl Read + Send + 'static, asked: Option<Encoding>) -> io::Result<Self> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut raw = Counted {
            raw,
            bytes_read: Arc::clone(&bytes_read),
        };
        let mut mark = Vec::new();
        raw.by_ref().take(3).read_to_end(&mut mark)?;
        let (marked, length, big_endian) = match mark.as_slice() {
            [0xef, 0xbb, 0xbf] => (Some(Encoding::Utf8), 3, false),
            [0xff, 0xfe, ..] => (Some(Encoding::Utf16), 2, false),
            [0xfe, 0xff, ..] => (Some(Encoding::Utf16), 2, true),
            _ => (None, 0, false),
        };
        let encoding = asked.or(marked).unwrap_or(Encoding::Utf8);
        let length = if marked == Some(encoding) { length } else { 0 };
        let raw = Cursor::new(mark.split_off(length)).chain(raw);
        let mut reader: Box<dyn BufRead + Send> = if encoding == Encoding::Utf8 {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, raw))
        } else {
            let decoded = Decoder::new(raw, encoding, big_endian);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoded))
        };
        let mut head = Vec::new();
        reader.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        let rest = reader;
        Ok(Self {
            reader: Box::new(Cursor::new(head.clone()).chain(rest)),
            head,
            bytes_read,
        })
    }

    /// The first bytes of the text; all of it where it is short.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes of the file that have been read, a buffer ahead of what was used.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

impl Read for TextReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reader.read(out)
    }
}

impl BufRead for TextReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

struct Counted<R> {
    raw: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.raw.read(out)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Turns another encoding into UTF-8.
struct Decoder<R> {
    raw: R,
    encoding: Encoding,
    big_endian: bool,
    /// Bytes that were read and not decoded: half of a character.
    pending: Vec<u8>,
    /// Text that was decoded and not handed out.
    decoded: Cursor<Vec<u8>>,
}

impl<R: Read> Decoder<R> {
    fn new(raw: R, encoding: Encoding, big_endian: bool) -> Self {
        Self {
            raw,
            encoding,
            big_endian,
            pending: Vec::new(),
            decoded: Cursor::default(),
        }
    }

    /// Decodes more; `false` at the end.
    fn refill(&mut self) -> io::Result<bool> {
        let begun = self.pending.len();
        let chunk = u64::try_from(BUFFER_BYTES).unwrap_or(u64::MAX);
        let mut raw = self.raw.by_ref().take(chunk);
        raw.read_to_end(&mut self.pending)?;
        let is_end = self.pending.len() == begun;
        let mut text = String::new();
        match self.encoding {
            Encoding::Utf16 => {
                let used = decode_utf16(&self.pending, self.big_endian, is_end, &mut text)?;
                self.pending.drain(..used);
            }
            Encoding::Windows1252 => text.extend(self.pending.drain(..).map(windows_1252)),
            Encoding::Latin1 | Encoding::Utf8 => {
                text.extend(self.pending.drain(..).map(char::from));
            }
        }
        self.decoded = Cursor::new(text.into_bytes());
        Ok(!is_end)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.decoded.read(out)?;
            if read > 0 || out.is_empty() || !self.refill()? {
                return Ok(read);
            }
        }
    }
}

/// Decodes whole characters; gives how many bytes they were.
fn decode_utf16(
    bytes: &[u8],
    big_endian: bool,
    is_end: bool,
    text: &mut String,
) -> io::Result<usize> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-16: {what}"));
    let unit = |pair: &[u8]| {
        let pair = [pair[0], pair[1]];
        if big_endian {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        }
    };
    let mut units: Vec<u16> = bytes.chunks_exact(2).map(unit).collect();
    if !is_end
        && units
            .last()
            .is_some_and(|last| (0xd800..0xdc00).contains(last))
    {
        units.pop();
    }
    if is_end && bytes.len() % 2 == 1 {
        return Err(bad("it ends within a character"));
    }
    for decoded in char::decode_utf16(units.iter().copied()) {
        text.push(decoded.map_err(|_| bad("half of a character stands alone"))?);
    }
    Ok(units.len() * 2)
}

/// The characters that Windows has where Latin-1 has control characters, from 0x80.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..0xa0 => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], asked: Option<Encoding>) -> io::Result<String> {
        let mut reader = TextReader::new(Cursor::new(bytes.to_vec()), asked)?;
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        assert_eq!(reader.bytes_read(), bytes.len() as u64);
        Ok(text)
    }

    fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_says_the_encoding_and_is_taken_off() {
        assert_eq!(read(b"\xef\xbb\xbf\"id\"", None).unwrap(), "\"id\"");
        assert_eq!(read(b"id", None).unwrap(), "id");
        assert_eq!(read(b"", None).unwrap(), "");
        assert_eq!(read(b"\xff\xfei\0d\0", None).unwrap(), "id");
        assert_eq!(read(b"\xfe\xff\0i\0d", None).unwrap(), "id");
        assert_eq!(
            read(b"\xfe\xff\0i\0d", Some(Encoding::Utf16)).unwrap(),
            "id"
        );
    }

    #[test]
    fn western_bytes_are_characters_when_asked_for() {
        assert_eq!(
            read(b"\x80\xe9", Some(Encoding::Windows1252)).unwrap(),
            "€é"
        );
        assert_eq!(
            read(b"\x80\xe9", Some(Encoding::Latin1)).unwrap(),
            "\u{80}é"
        );
    }

    #[test]
    fn half_a_character_is_an_error() {
        for bytes in [&b"a\0b"[..], b"\x00\xd8", b"\x00\xdca\0"] {
            let error = read(bytes, Some(Encoding::Utf16)).unwrap_err();
            assert!(error.to_string().starts_with("not UTF-16"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn utf_16_is_read_as_it_was_written(text: String, repeat in 1usize..4000) {
            let text = text.trim_start_matches(['\u{feff}', '\u{fffe}']).repeat(repeat);
            let little = utf16(&text, u16::to_le_bytes);
            prop_assert_eq!(read(&little, Some(Encoding::Utf16)).unwrap(), text.clone());
            let big = [b"\xfe\xff".to_vec(), utf16(&text, u16::to_be_bytes)].concat();
            prop_assert_eq!(read(&big, None).unwrap(), text);
        }
    }
}
