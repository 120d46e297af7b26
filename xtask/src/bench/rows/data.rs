//! The rows of the benchmark: the same for every system and in every run, written as a stream.
//!
//! A row is made from its id alone, so a smaller table is the beginning of a larger one. Ids ascend.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::bench::scratch::size_bytes;

/// The columns of the CSV file in PostgreSQL's words; mendb infers the same from the file.
pub const SQL_COLUMNS: &str = "id bigint not null, customer bigint, status text, \
                               amount bigint, created timestamp, note text";

/// Rows of one customer, about.
const ROWS_PER_CUSTOMER: u64 = 50;
/// A note is a number of eight digits and words, up to the first that makes it at least this long.
const NOTE_BYTES: usize = 46;
const STATUSES: [&str; 5] = ["new", "paid", "packed", "shipped", "returned"];
/// Text that compresses about as well as what people write into such a column.
const WORDS: [&str; 32] = [
    "please",
    "deliver",
    "before",
    "noon",
    "ring",
    "twice",
    "at",
    "the",
    "green",
    "door",
    "fragile",
    "glass",
    "keep",
    "upright",
    "customer",
    "called",
    "again",
    "about",
    "invoice",
    "gift",
    "wrap",
    "blue",
    "paper",
    "second",
    "floor",
    "left",
    "neighbour",
    "signed",
    "for",
    "parcel",
    "late",
    "refund",
];

/// The numbers that make a row.
struct Numbers(u64);

impl Numbers {
    fn of(id: u64, purpose: u64) -> Self {
        Self(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a>(&mut self, among: &[&'a str]) -> &'a str {
        among[self.below(among.len() as u64) as usize]
    }
}

/// Writes rows 1 to `rows` as CSV with a header, about 100 bytes each. Returns the bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write_rows(path: &Path, rows: u64) -> Result<u64, String> {
    written(path, |out| {
        writeln!(out, "id,customer,status,amount,created,note")?;
        let customers = (rows / ROWS_PER_CUSTOMER).max(1);
        let mut note = String::new();
        for id in 1..=rows {
            let mut numbers = Numbers::of(id, 0);
            let customer = numbers.below(customers);
            let status = numbers.pick(&STATUSES);
            let amount = numbers.below(1_000_000);
            let minute = numbers.below(60 * 24 * 28 * 12);
            note.clear();
            note.push_str(&format!("{:08x}", numbers.below(1 << 32)));
            while note.len() < NOTE_BYTES {
                note.push(' ');
                note.push_str(numbers.pick(&WORDS));
            }
            let (month, day) = (minute / 40_320 + 1, minute / 1440 % 28 + 1);
            let (hour, minute, second) = (minute / 60 % 24, minute % 60, numbers.below(60));
            writeln!(
                out,
                "{id},{customer},{status},{amount},2026-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{note}"
            )?;
        }
        Ok(rows)
    })?;
    size_bytes(path)
}

/// Writes partial upserts of `per_mille` of a thousand rows as JSON lines: a new status, and a new
/// amount, which the index covers. Each round picks other rows. Returns how many.
///
/// # Errors
/// The file cannot be written.
pub fn write_changes(path: &Path, rows: u64, round: u64, per_mille: u64) -> Result<u64, String> {
    written(path, |out| {
        let mut changed = 0;
        for id in 1..=rows {
            let mut numbers = Numbers::of(id, round);
            if numbers.below(1000) < per_mille {
                let (status, amount) = (numbers.pick(&STATUSES), numbers.below(1_000_000));
                writeln!(
                    out,
                    r#"{{"id":{id},"status":"{status}","amount":{amount}}}"#
                )?;
                changed += 1;
            }
        }
        Ok(changed)
    })
}

/// As [`write_changes`], of neighbouring rows in the middle: so many of a hundred thousand, at least one.
///
/// # Errors
/// The file cannot be written.
pub fn write_neighbours(
    path: &Path,
    rows: u64,
    round: u64,
    of_100_000: u64,
) -> Result<u64, String> {
    let changed = (rows * of_100_000 / 100_000).max(1);
    let first = (rows - changed) / 2 + 1;
    written(path, |out| {
        for id in first..first + changed {
            let mut numbers = Numbers::of(id, round);
            let (status, amount) = (numbers.pick(&STATUSES), numbers.below(1_000_000));
            writeln!(
                out,
                r#"{{"id":{id},"status":"{status}","amount":{amount}}}"#
            )?;
        }
        Ok(changed)
    })
}

fn written(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<u64>,
) -> Result<u64, String> {
    let attempt = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let written = write(&mut out)?;
        out.flush()?;
        Ok(written)
    };
    attempt().map_err(|error: io::Error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scratch::Scratch;

    #[test]
    fn rows_are_the_same_each_time_and_changes_as_many_as_asked_for() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path("rows");
        let mut texts = Vec::new();
        for _ in 0..2 {
            let bytes = write_rows(&path, 10_000).unwrap();
            assert!((90..115).contains(&(bytes / 10_000)), "{bytes}");
            texts.push(std::fs::read_to_string(&path).unwrap());
        }
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0].lines().count(), 10_001);
        let changed = write_changes(&path, 10_000, 1, 10).unwrap();
        assert!((70..130).contains(&changed), "{changed}");
        let first = std::fs::read_to_string(&path).unwrap();
        write_changes(&path, 10_000, 2, 10).unwrap();
        assert_ne!(first, std::fs::read_to_string(&path).unwrap());
    }
}
