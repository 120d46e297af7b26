//! Rows written to a file in one of the formats.

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use mendb_model::schema::ColumnPosition;
use mendb_model::{ColumnType, TableSchema, Value, ValueRef, key, row};
use mendb_repo::arrow::{BatchEncoder, Content, ConvertError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{Format, csv, jsonl};

/// A Parquet batch ends after this many rows …
const BATCH_ROWS: usize = 8 * 1024;
/// … or after about this many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// A Parquet row group ends when it takes this much memory.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The key of a Parquet file's metadata that holds the schema of its table, as JSON.
pub const SCHEMA_KEY: &str = "mendb.schema";

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file.
    #[error("cannot write")]
    Io(#[from] io::Error),
    /// The rows.
    #[error("cannot make a Parquet batch")]
    Convert(#[from] ConvertError),
    /// A Datetime that lies beyond what a Parquet timestamp holds, in the midst of others.
    #[error("a Datetime is too far off for Parquet's milliseconds; csv and jsonl take it")]
    FarDatetime,
    /// The Parquet writer.
    #[error("cannot write Parquet")]
    Parquet(#[source] Box<ParquetError>),
}

impl From<ParquetError> for WriteError {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(io) => Self::Io(*io),
                Err(source) => Self::Parquet(Box::new(ParquetError::External(source))),
            },
            other => Self::Parquet(Box::new(other)),
        }
    }
}

/// A file that rows are written to.
pub enum Sink<W: Write + Send> {
    /// CSV.
    Csv(TextSink<W>),
    /// JSON lines.
    Jsonl(TextSink<W>),
    /// Parquet.
    Parquet(Box<ParquetSink<W>>),
}

impl<W: Write + Send> Sink<W> {
    /// Begins a file of rows of `schema`; in CSV `null` stands for NULL, and there is a header if
    /// `header`.
    ///
    /// # Errors
    /// The beginning cannot be written, or a column has a name the format cannot hold.
    pub fn new(
        format: Format,
        out: W,
        schema: &TableSchema,
        null: &str,
        header: bool,
    ) -> Result<Self, WriteError> {
        Ok(match format {
            Format::Csv => Self::Csv(TextSink::csv(out, schema, null, header)?),
            Format::Jsonl => Self::Jsonl(TextSink::jsonl(out, schema)),
            Format::Parquet => Self::Parquet(Box::new(ParquetSink::new(out, schema)?)),
        })
    }

    /// Writes a row: one value per column.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, values: &[Value]) -> Result<(), WriteError> {
        match self {
            Self::Csv(sink) => sink.push_csv(values)?,
            Self::Jsonl(sink) => sink.push_jsonl(values)?,
            Self::Parquet(sink) => sink.push(values)?,
        }
        Ok(())
    }

    /// Ends the file and gives back what it was written to, flushed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<W, WriteError> {
        let mut out = match self {
            Self::Csv(sink) | Self::Jsonl(sink) => sink.out,
            Self::Parquet(sink) => sink.finish()?,
        };
        out.flush()?;
        Ok(out)
    }
}

/// A file of lines.
pub struct TextSink<W> {
    out: W,
    /// The text before each column's value: in JSON `{"name":` and `,"name":`.
    before: Vec<Vec<u8>>,
    types: Vec<ColumnType>,
    null: String,
    line: Vec<u8>,
}

impl<W: Write> TextSink<W> {
    fn csv(mut out: W, schema: &TableSchema, null: &str, header: bool) -> io::Result<Self> {
        if header {
            let names = schema.columns.iter().map(|column| column.name.as_str());
            // Names of columns hold nothing that would need quotes.
            let header = names.collect::<Vec<_>>().join(",");
            out.write_all(header.as_bytes())?;
            out.write_all(b"\n")?;
        }
        let before = |at| if at == 0 { Vec::new() } else { b",".to_vec() };
        Ok(Self::new(out, schema, before, null))
    }

    fn jsonl(out: W, schema: &TableSchema) -> Self {
        let before = |at: usize| {
            let mut text = if at == 0 {
                b"{".to_vec()
            } else {
                b",".to_vec()
            };
            jsonl::write_text(&mut text, &schema.columns[at].name);
            text.push(b':');
            text
        };
        Self::new(out, schema, before, "")
    }

    fn new(out: W, schema: &TableSchema, before: impl Fn(usize) -> Vec<u8>, null: &str) -> Self {
        Self {
            out,
            before: (0..schema.columns.len()).map(before).collect(),
            types: schema
                .columns
                .iter()
                .map(|column| column.column_type)
                .collect(),
            null: null.to_owned(),
            line: Vec::new(),
        }
    }

    fn push_csv(&mut self, values: &[Value]) -> io::Result<()> {
        self.line.clear();
        for ((value, column_type), before) in values.iter().zip(&self.types).zip(&self.before) {
            self.line.extend_from_slice(before);
            csv::write_field(&mut self.line, value, *column_type, &self.null);
        }
        self.end_line()
    }

    fn push_jsonl(&mut self, values: &[Value]) -> io::Result<()> {
        self.line.clear();
        for ((value, column_type), before) in values.iter().zip(&self.types).zip(&self.before) {
            self.line.extend_from_slice(before);
            jsonl::write_value(&mut self.line, value, *column_type);
        }
        self.line.push(b'}');
        self.end_line()
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }
}

/// A Parquet file.
pub struct ParquetSink<W: Write + Send> {
    encoder: BatchEncoder,
    /// Begun with the first batch, whose schema is that of the file.
    writer: Writer<W>,
    key_types: Vec<ColumnType>,
    value_types: Vec<ColumnType>,
    /// The schema as JSON.
    schema_json: String,
    /// Positions of the key columns, in key order.
    key: Vec<usize>,
    /// Positions of the other columns, in slot order.
    slots: Vec<usize>,
}

enum Writer<W: Write + Send> {
    Waiting(Option<W>),
    Begun(Box<ArrowWriter<W>>, SchemaRef),
}

impl<W: Write + Send> ParquetSink<W> {
    fn new(out: W, schema: &TableSchema) -> Result<Self, WriteError> {
        let mut key = vec![0; schema.key.len()];
        let mut slots = Vec::new();
        for (at, place) in schema.column_positions().into_iter().enumerate() {
            match place {
                ColumnPosition::Key(position) => key[position] = at,
                ColumnPosition::Slot(_) => slots.push(at),
            }
        }
        Ok(Self {
            encoder: BatchEncoder::new(schema, Content::Rows)?,
            writer: Writer::Waiting(Some(out)),
            key_types: schema.key_types(),
            value_types: schema.value_types(),
            schema_json: serde_json::to_string(schema).map_err(io::Error::from)?,
            key,
            slots,
        })
    }

    fn push(&mut self, values: &[Value]) -> Result<(), WriteError> {
        let pick = |at: &usize| -> ValueRef<'_> { values[*at].as_ref() };
        let key = key::encode(&self.key_types, self.key.iter().map(pick));
        let mut cells = Vec::new();
        row::encode_into(&mut cells, &self.value_types, self.slots.iter().map(pick));
        self.encoder.push(&key, &cells)?;
        if self.encoder.rows() >= BATCH_ROWS || self.encoder.bytes() >= BATCH_BYTES {
            self.write_batch()?;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), WriteError> {
        let batch = self.encoder.finish()?;
        if let Writer::Waiting(out) = &mut self.writer {
            let out = out.take().expect("a writer that waits has not begun");
            self.writer = Writer::Begun(
                Box::new(begin(out, &batch, &self.schema_json)?),
                batch.schema(),
            );
        }
        let Writer::Begun(writer, schema) = &mut self.writer else {
            unreachable!("the writer has just begun")
        };
        if *schema != batch.schema() {
            return Err(WriteError::FarDatetime);
        }
        writer.write(&batch)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<W, WriteError> {
        if self.encoder.rows() > 0 || matches!(self.writer, Writer::Waiting(_)) {
            self.write_batch()?;
        }
        match self.writer {
            Writer::Begun(writer, _) => Ok(writer.into_inner()?),
            Writer::Waiting(_) => unreachable!("the last batch has begun the writer"),
        }
    }
}

fn begin<W: Write + Send>(
    out: W,
    batch: &RecordBatch,
    schema_json: &str,
) -> Result<ArrowWriter<W>, WriteError> {
    let schema = KeyValue::new(SCHEMA_KEY.to_owned(), schema_json.to_owned());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_created_by(concat!("mendb ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![schema]))
        .build();
    Ok(ArrowWriter::try_new(out, batch.schema(), Some(properties))?)
}
