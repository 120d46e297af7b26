//! Rows and changes come back from segments bit for bit.

use mendb_model::manifest::Segment;
use mendb_model::name::TablePath;
use mendb_model::{
    Change, Column, ColumnSet, ColumnType, Digest, Replaced, TableSchema, Value, key, row,
};
use mendb_repo::arrow::{BatchEncoder, ConvertError, Datetimes, data_type};
use mendb_repo::{Content, Error, Repository, RepositoryOptions, SegmentTarget};
use proptest::prelude::*;

use crate::rows::{Row, Rows, blocks, rows, schema, unblock};
use crate::sample::{COLLECTION, full, target};

/// Rows or changes in segments, in memory.
struct Written {
    repository: Repository,
    content: Content,
    segments: Vec<Segment>,
}

/// Runs requests to a repository in memory, which wait for nobody.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn encode(
    schema: &TableSchema,
    content: Content,
    rows: &Rows,
    segment_bytes: u64,
) -> Result<Written, Error> {
    let options = RepositoryOptions {
        segment_bytes,
        ..RepositoryOptions::default()
    };
    let target = SegmentTarget {
        path: TablePath::table("t"),
        ..target(&full(0), 0)
    };
    run(async {
        let repository = Repository::open("memory:", options).await?;
        let mut writer = repository.segment_writer(target, schema, content)?;
        let mut segments = Vec::new();
        for block in blocks(rows, 7) {
            segments.extend(writer.push(&block).await?);
        }
        segments.extend(writer.finish().await?);
        Ok(Written {
            repository,
            content,
            segments,
        })
    })
}

impl Written {
    fn read(&self, schema: &TableSchema) -> Result<Vec<Row>, Error> {
        let segments = self.segments.iter();
        let rows = segments.map(|segment| self.decode(schema, self.content, segment));
        Ok(rows.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn decode(
        &self,
        schema: &TableSchema,
        content: Content,
        segment: &Segment,
    ) -> Result<Vec<Row>, Error> {
        let id = full(0);
        let read = self
            .repository
            .read_segment(COLLECTION, &id, segment, schema, content);
        let blocks: Vec<_> = run(read)?.collect::<Result<_, _>>()?;
        Ok(unblock(&blocks))
    }
}

fn table_of_one(column_type: ColumnType) -> TableSchema {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        not_null: true,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Uint32),
            column("value", column_type),
        ],
        key: vec!["id".into()],
        indexes: Vec::new(),
    }
}

fn numbered(schema: &TableSchema, values: impl IntoIterator<Item = Value>) -> Rows {
    let values = values.into_iter().enumerate();
    values
        .map(|(id, value)| {
            let key = key::encode(&schema.key_types(), [Value::Uint(id as u64).as_ref()]);
            (key, row::encode(&schema.value_types(), &[value]))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read(
        (schema, content, rows) in (schema(), any::<bool>()).prop_flat_map(|(schema, changes)| {
            let content = if changes { Content::Changes } else { Content::Rows };
            (Just(schema.clone()), Just(content), rows(&schema, content))
        }),
        segment_bytes in 1u64..4000,
    ) {
        let written = encode(&schema, content, &rows, segment_bytes).unwrap();
        let mut read = Vec::new();
        for segment in &written.segments {
            let of_segment = written.decode(&schema, content, segment).unwrap();
            let mut digest = Digest::default();
            of_segment.iter().for_each(|(key, value)| digest.add(key, value));
            prop_assert_eq!(segment.digest, digest);
            prop_assert_eq!(&of_segment.first().unwrap().0, &segment.first_key);
            prop_assert_eq!(&of_segment.last().unwrap().0, &segment.last_key);
            read.extend(of_segment);
        }
        prop_assert_eq!(read, rows.into_iter().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_changes_replaced_is_written_where_each_of_them_says_it(
        (schema, rows) in schema().prop_flat_map(|schema| {
            (Just(schema.clone()), rows(&schema, Content::Changes))
        }),
        marks in proptest::collection::vec(proptest::option::of(any::<u64>()), 40),
        untold in proptest::option::of(0usize..40),
        segment_bytes in 1u64..4000,
    ) {
        let says = |(at, (key, change)): (usize, (Vec<u8>, Vec<u8>))| {
            let change = Change::decode(&change).unwrap();
            let replaced = match marks[at % marks.len()] {
                _ if untold == Some(at) => Replaced::Unknown,
                Some(mark) => Replaced::Row(mark),
                None => Replaced::Nothing,
            };
            (key, Change { replaced, ..change })
        };
        let rows: Vec<_> = rows.into_iter().enumerate().map(says).collect();
        let is_told = rows.iter().all(|(_, change)| change.replaced != Replaced::Unknown);
        let encoded = rows.iter().map(|(key, change)| (key.clone(), change.encode()));
        let written = encode(&schema, Content::Changes, &encoded.collect(), segment_bytes).unwrap();
        let mut read = Vec::new();
        for segment in &written.segments {
            let of_segment = written.decode(&schema, Content::Changes, segment).unwrap();
            let of_segment = of_segment.into_iter();
            let of_segment: Vec<_> = of_segment
                .map(|(key, change)| (key, Change::decode(&change).unwrap()))
                .collect();
            let mut digest = Digest::default();
            for (key, change) in &of_segment {
                digest.add(key, &change.view().without_replaced().encode());
            }
            prop_assert_eq!(segment.digest, digest, "as an older mendb reckons it");
            let is_known = |(_, change): &(Vec<u8>, Change)| change.replaced != Replaced::Unknown;
            let known = of_segment.iter().filter(|change| is_known(change)).count();
            prop_assert!(known == 0 || known == of_segment.len());
            read.extend(of_segment);
        }
        prop_assert_eq!(read.len(), rows.len());
        for ((key, written), (read_key, read)) in rows.iter().zip(&read) {
            prop_assert_eq!(key, read_key);
            let untold = Change {
                replaced: Replaced::Unknown,
                ..written.clone()
            };
            let is_right = read == written || (!is_told && *read == untold);
            prop_assert!(is_right);
        }
    }
}

#[test]
fn a_segment_ends_at_its_size_and_no_row_is_torn() {
    let schema = table_of_one(ColumnType::Uint64);
    let rows = numbered(&schema, (0..100_000).map(Value::Uint));
    let row_bytes: usize = rows
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let segment_bytes = row_bytes as u64 / 4;
    let written = encode(&schema, Content::Rows, &rows, segment_bytes).unwrap();
    let of_segments: Vec<_> = written
        .segments
        .iter()
        .map(|segment| segment.digest.rows)
        .collect();
    assert_eq!(of_segments.len(), 4);
    assert_eq!(of_segments.iter().sum::<u64>(), 100_000);
    let read = written.read(&schema).unwrap();
    assert_eq!(read, rows.into_iter().collect::<Vec<_>>());
}

#[test]
fn no_rows_make_no_segment() {
    let schema = table_of_one(ColumnType::Bool);
    let written = encode(&schema, Content::Rows, &Rows::new(), 1000).unwrap();
    assert!(written.segments.is_empty());
}

#[test]
fn datetimes_are_timestamps_until_one_lies_beyond_them() {
    let schema = table_of_one(ColumnType::Datetime);
    let at = |seconds: i64, encoder: &mut BatchEncoder| {
        let row = numbered(&schema, [Value::Int(seconds)])
            .pop_first()
            .unwrap();
        encoder.push(&row.0, &row.1).unwrap();
        let batch = encoder.finish().unwrap();
        batch.schema().field(1).data_type().clone()
    };
    let mut encoder = BatchEncoder::new(&schema, Content::Rows).unwrap();
    let timestamps = data_type(ColumnType::Datetime, Datetimes::Timestamps);
    let seconds = data_type(ColumnType::Datetime, Datetimes::Seconds);
    assert_eq!(at(1_790_000_000, &mut encoder), timestamps);
    assert_eq!(at(i64::MAX / 1000, &mut encoder), timestamps);
    assert_eq!(at(i64::MAX / 1000 + 1, &mut encoder), seconds);
    assert_eq!(at(0, &mut encoder), seconds);

    let rows = numbered(&schema, [0, i64::MIN, 7].map(Value::Int));
    let written = encode(&schema, Content::Rows, &rows, 1).unwrap();
    assert_eq!(written.segments.len(), 3);
}

#[test]
fn rows_that_break_their_schema_are_refused_by_name() {
    let schema = table_of_one(ColumnType::Decimal {
        precision: 4,
        scale: 2,
    });
    let refused = |rows: Rows| match encode(&schema, Content::Rows, &rows, 1000) {
        Err(Error::Rows { table, source }) => {
            assert_eq!(table, "t");
            source
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was written"),
    };
    assert_eq!(
        refused(numbered(&schema, [Value::Null])).to_string(),
        "column \"value\" is NOT NULL and holds NULL"
    );
    assert_eq!(
        refused(numbered(&schema, [Value::Decimal(10_000)])).to_string(),
        "column \"value\" holds a decimal of more than 4 digits"
    );
    let cut = Rows::from([(vec![1, 2], vec![0])]);
    assert!(matches!(refused(cut), ConvertError::Malformed(_)));
}

#[test]
fn a_change_that_sets_no_column_or_unknown_ones_is_told_apart() {
    let schema = table_of_one(ColumnType::Int64);
    let key = key::encode(&schema.key_types(), [Value::Uint(1).as_ref()]);
    let change = |slots: &[usize]| {
        let set = ColumnSet::of(slots.iter().copied());
        Rows::from([(key.clone(), Change::upsert(set, vec![0], 9).encode())])
    };
    let nothing = change(&[]);
    let written = encode(&schema, Content::Changes, &nothing, 1000).unwrap();
    let read = written.read(&schema).unwrap();
    assert_eq!(read, nothing.into_iter().collect::<Vec<_>>());
    let unknown = encode(&schema, Content::Changes, &change(&[1]), 1000);
    assert!(matches!(unknown, Err(Error::Rows { .. })));
}

#[test]
fn a_segment_of_another_table_is_named_as_damaged() {
    let schema = table_of_one(ColumnType::Int64);
    let rows = numbered(&schema, [Value::Int(1)]);
    let written = encode(&schema, Content::Rows, &rows, 1000).unwrap();
    let segment = &written.segments[0];
    let damage = |schema, content| match written.decode(schema, content, segment) {
        Err(Error::Damaged { object, detail }) => {
            assert!(object.ends_with(&segment.object), "{object}");
            detail
        }
        other => panic!("{other:?}"),
    };
    let other = table_of_one(ColumnType::Utf8);
    assert_eq!(
        damage(&other, Content::Rows),
        "column \"value\" of type Utf8 cannot be read from Int64"
    );
    assert_eq!(
        damage(&schema, Content::Changes),
        "column \"_mendb_op\" is missing"
    );
}
