//! Times of 96 bits, a Julian day and nanoseconds in it, as Spark, Hive and Impala write them.
//!
//! The library hands them out with 64 bits: as seconds, which hold every day and lose fractions, or as
//! nanoseconds, which wrap around before 1677 and after 2262. Both together are the exact time.

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, TimestampSecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Type;

use super::cell::{Cell, NANOS_PER_SECOND};

/// Whether a column at the root of a file holds such times.
pub(super) fn is(metadata: &ArrowReaderMetadata, root: usize) -> bool {
    let fields = metadata.parquet_schema().root_schema().get_fields();
    fields
        .get(root)
        .is_some_and(|field| field.is_primitive() && field.get_physical_type() == Type::INT96)
}

/// The schema in which such columns are seconds.
pub(super) fn in_seconds(metadata: &ArrowReaderMetadata, roots: &[usize]) -> SchemaRef {
    let fields = metadata.schema().fields().iter().enumerate();
    let fields: Vec<Field> = fields
        .map(|(at, field)| {
            let field = field.as_ref().clone();
            if roots.contains(&at) {
                field.with_data_type(DataType::Timestamp(TimeUnit::Second, None))
            } else {
                field
            }
        })
        .collect();
    Schema::new_with_metadata(fields, metadata.schema().metadata().clone()).into()
}

/// The cell of such a column.
pub(super) fn cell<'a>(seconds: &ArrayRef, nanos: &ArrayRef, row: usize) -> Cell<'a> {
    if seconds.is_null(row) {
        return Cell::Null;
    }
    let seconds = seconds.as_primitive::<TimestampSecondType>().value(row);
    let nanos = nanos.as_primitive::<TimestampNanosecondType>().value(row);
    Cell::Time {
        nanos: exact(seconds, nanos),
    }
}

/// Nanoseconds since 1970: what they are modulo 2⁶⁴ tells the fraction of a second.
fn exact(seconds: i64, wrapped: i64) -> i128 {
    let fraction = wrapped.wrapping_sub(seconds.wrapping_mul(NANOS_PER_SECOND));
    i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn seconds_and_wrapped_nanoseconds_are_the_exact_time(
            seconds in -200_000_000_000_000i64..200_000_000_000_000,
            fraction in 0..NANOS_PER_SECOND,
        ) {
            let nanos = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(fraction);
            prop_assert_eq!(exact(seconds, nanos as i64), nanos);
        }
    }
}
