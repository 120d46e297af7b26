//! Names of parts: `<partition id>_<min block>_<max block>_<level>[_<mutation>]`, and in tables of the
//! deprecated syntax `<first day>_<last day>_<min block>_<max block>_<level>[_<mutation>]`.

use std::fmt;
use std::str::FromStr;

use crate::Malformed;

/// What the name of a part says.
///
/// Block numbers count the inserts of a table and restart from the highest surviving one when the
/// table is loaded again: they order parts and hint at merges, but identify nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartName {
    /// The partition.
    pub partition_id: String,
    /// The first insert in it.
    pub min_block: i64,
    /// The last insert in it.
    pub max_block: i64,
    /// How many merges deep it is.
    pub level: u32,
    /// The block number of the last mutation that it went through; 0 for none.
    pub mutation: i64,
    /// The days of its rows, where the name tells them instead of the partition: tables of the syntax
    /// `MergeTree(date, key, granularity)` have one partition a month.
    pub days: Option<Days>,
}

/// The first and the last day of the rows of a part, both of one month, as `20240131`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Days {
    first: u32,
    last: u32,
}

impl Days {
    /// The days that the first two fields of a name tell, if they are such.
    fn read(first: &str, last: &str) -> Option<Self> {
        let day = |text: &str| -> Option<u32> {
            let day = number::<u32>(text).filter(|_| text.len() == 8)?;
            let (month, of_month) = (day / 100 % 100, day % 100);
            ((1..=12).contains(&month) && (1..=31).contains(&of_month)).then_some(day)
        };
        let days = Self {
            first: day(first)?,
            last: day(last)?,
        };
        (days.first <= days.last && days.first / 100 == days.last / 100).then_some(days)
    }

    /// The partition: the month, as `202401`.
    fn partition_id(self) -> String {
        (self.first / 100).to_string()
    }
}

impl FromStr for PartName {
    type Err = Malformed;

    fn from_str(name: &str) -> Result<Self, Malformed> {
        let bad = || Malformed::new("part name", format!("{name:?}"));
        let fields: Vec<&str> = name.split('_').collect();
        dated(&fields).or_else(|| plain(&fields)).ok_or_else(bad)
    }
}

/// A name of the deprecated syntax. One of the other kind cannot be taken for it: its level would have
/// to be as large as a number of a block that is a date.
fn dated(fields: &[&str]) -> Option<PartName> {
    let [first, last, blocks @ ..] = fields else {
        return None;
    };
    let days = Days::read(first, last)?;
    let name = with_partition(days.partition_id(), blocks)?;
    Some(PartName {
        days: Some(days),
        ..name
    })
}

fn plain(fields: &[&str]) -> Option<PartName> {
    let [partition_id, blocks @ ..] = fields else {
        return None;
    };
    with_partition((*partition_id).to_owned(), blocks)
}

/// What follows the partition: blocks, level and mutation.
fn with_partition(partition_id: String, fields: &[&str]) -> Option<PartName> {
    let [min_block, max_block, level, rest @ ..] = fields else {
        return None;
    };
    let mutation = match rest {
        [] => 0,
        [mutation] => number(mutation).filter(|m| *m > 0)?,
        _ => return None,
    };
    let name = PartName {
        partition_id,
        min_block: number(min_block)?,
        max_block: number(max_block)?,
        level: number(level)?,
        mutation,
        days: None,
    };
    (!name.partition_id.is_empty() && name.min_block <= name.max_block).then_some(name)
}

/// Digits as they are printed: no sign, no leading zero.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition_id,
            min_block,
            max_block,
            level,
            mutation,
            days,
        } = self;
        match days {
            Some(Days { first, last }) => write!(f, "{first}_{last}")?,
            None => f.write_str(partition_id)?,
        }
        write!(f, "_{min_block}_{max_block}_{level}")?;
        if *mutation > 0 {
            write!(f, "_{mutation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_without_a_mutation_has_none() {
        let name: PartName = "202401_1_4_2".parse().unwrap();
        assert_eq!((name.min_block, name.max_block, name.level), (1, 4, 2));
        assert_eq!(name.mutation, 0);
    }

    #[test]
    fn a_name_of_the_deprecated_syntax_tells_the_month_and_keeps_its_days() {
        for text in ["20240101_20240131_1_4_2", "20240101_20240131_1_4_2_7"] {
            let name: PartName = text.parse().unwrap();
            assert_eq!(name.partition_id, "202401");
            assert_eq!((name.min_block, name.max_block, name.level), (1, 4, 2));
            assert_eq!(name.to_string(), text);
        }
        for daily in ["20240101_1_1_0", "20240101_20240131_20240131_1_5"] {
            let name: PartName = daily.parse().unwrap();
            assert_eq!(
                (name.partition_id.as_str(), name.days),
                ("20240101", None),
                "{daily}"
            );
        }
    }

    #[test]
    fn what_is_no_part_name_is_refused() {
        let names = "all all_1_1 all_1_1_0_0 all_2_1_0 _1_1_0 all_01_1_0 all_1_1_x all_+1_1_0 \
                     tmp_insert_all_1_1_0 patch-x_1_1_0_1_2 delete_tmp_all_1_1_0 all_1_1_0_1_2";
        for name in names.split(' ').chain([""]) {
            let parsed = name.parse::<PartName>();
            assert!(parsed.is_err(), "{name}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(
            partition_id in "[a-z0-9-]{1,12}",
            min_block in 0i64..1_000_000,
            width in 0i64..1000,
            level in 0u32..100,
            mutation in 0i64..1_000_000,
        ) {
            let max_block = min_block + width;
            let name = PartName { partition_id, min_block, max_block, level, mutation, days: None };
            prop_assert_eq!(name.to_string().parse::<PartName>().unwrap(), name);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            drop(text.parse::<PartName>());
        }
    }
}
