//! What a command prints on stdout: records as an aligned text table or as JSON.

use std::io::{self, Write};
use std::sync::Arc;

use mendb_server::{Listener, Told};
use serde::Serialize;

use crate::failure::Failure;
use crate::log;
pub use crate::output_format::OutputFormat;

/// Where a command's data goes.
#[derive(Debug, Clone)]
pub struct Output {
    /// How.
    pub format: OutputFormat,
    /// Whether reports that are not data stay unsaid.
    pub quiet: bool,
    /// Who hears it instead of stdout and stderr: a client of the server.
    pub listener: Option<Arc<Listener>>,
}

/// Pieces of a file that a listener hears.
const HEARD_BYTES: usize = 16 << 10;

/// A column of a text table: its title and the cell of a record.
pub struct Field<T> {
    title: &'static str,
    right: bool,
    cell: fn(&T) -> String,
}

impl<T> Field<T> {
    /// Text, aligned left.
    pub fn left(title: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            title,
            right: false,
            cell,
        }
    }

    /// Numbers, aligned right.
    pub fn right(title: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            title,
            right: true,
            cell,
        }
    }
}

impl Output {
    /// Prints records: a table with a title line, or a JSON array of them.
    pub fn records<T: Serialize>(&self, records: &[T], fields: &[Field<T>]) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Text => self.print(&table(records, fields)),
            OutputFormat::Json => self.print_json(&records),
        }
    }

    /// Prints one record: `text` of it, or a JSON object.
    pub fn record<T: Serialize>(
        &self,
        record: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Text => self.print(&text(record)),
            OutputFormat::Json => self.print_json(record),
        }
    }

    /// Prints the report of what a command did, as [`Self::record`]; nothing when quiet.
    pub fn report<T: Serialize>(
        &self,
        record: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.quiet && self.format == OutputFormat::Text {
            return Ok(());
        }
        self.record(record, text)
    }

    /// Whether progress on stderr would tell anybody anything.
    pub fn hides_progress(&self) -> bool {
        self.quiet || self.listener.is_some()
    }

    /// Says something that is not data.
    pub fn say(&self, text: &str) {
        match &self.listener {
            _ if self.quiet => {}
            Some(listener) => listener.tell(Told::Note(text.to_owned())),
            None => log::say(text),
        }
    }

    /// Where data goes that is written piece by piece.
    pub fn writer(&self) -> Box<dyn Write + Send> {
        match &self.listener {
            Some(listener) => Box::new(Heard(Arc::clone(listener))),
            None => Box::new(io::stdout()),
        }
    }

    /// Where a file goes that is written piece by piece, and how large the pieces should be where that matters: a
    /// client of the server that is slow has some of them waiting.
    pub fn file(&self, media_type: &'static str) -> (Option<usize>, Box<dyn Write + Send>) {
        match &self.listener {
            Some(listener) => {
                listener.tell(Told::Kind(media_type));
                let out = HeardBytes(Arc::clone(listener));
                (Some(HEARD_BYTES), Box::new(out))
            }
            None => (None, Box::new(io::stdout())),
        }
    }

    fn print_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(value).map_err(|error| {
            Failure::of(crate::failure::FailureKind::ReportBug, &error).context("cannot write JSON")
        })?;
        self.print(&format!("{json}\n"))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        if let Some(listener) = &self.listener {
            listener.tell(Told::Data(text.to_owned()));
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::io("cannot write to stdout", &error))
    }
}

/// Tells a listener what is written.
struct Heard(Arc<Listener>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.tell(Told::Data(text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a listener what is written.
struct HeardBytes(Arc<Listener>);

impl Write for HeardBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.tell(Told::Bytes(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records as lines of aligned columns, two spaces apart; nothing after the last column's text.
pub fn table<T>(records: &[T], fields: &[Field<T>]) -> String {
    let titles = fields.iter().map(|field| field.title.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(titles)
        .chain(
            records
                .iter()
                .map(|record| fields.iter().map(|field| (field.cell)(record)).collect()),
        )
        .collect();
    let width = |at: usize| {
        let cells = lines.iter().map(|line| line[at].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (at, (cell, field)) in line.iter().zip(fields).enumerate() {
            if at > 0 {
                shown.push_str("  ");
            }
            let padding = " ".repeat(widths[at] - cell.chars().count());
            if field.right {
                shown.push_str(&padding);
                shown.push_str(cell);
            } else {
                shown.push_str(cell);
                shown.push_str(&padding);
            }
        }
        out.push_str(shown.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_ends_its_lines_at_the_text() {
        let records = [("flights", 336_776u64), ("été", 7)];
        let fields = [
            Field::left("table", |r: &(&str, u64)| r.0.to_owned()),
            Field::right("rows", |r| r.1.to_string()),
            Field::left("note", |r| {
                if r.1 == 7 {
                    String::new()
                } else {
                    "big".into()
                }
            }),
        ];
        assert_eq!(
            table(&records, &fields),
            "table      rows  note\nflights  336776  big\nété           7\n"
        );
    }
}
