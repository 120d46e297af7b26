//! Names of parts: `<partition id>_<min block>_<max block>_<level>[_<mutation>]`.

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
}

impl FromStr for PartName {
    type Err = Malformed;

    fn from_str(name: &str) -> Result<Self, Malformed> {
        let bad = || Malformed::new("part name", format!("{name:?}"));
        let fields: Vec<&str> = name.split('_').collect();
        let [partition_id, min_block, max_block, level, rest @ ..] = fields.as_slice() else {
            return Err(bad());
        };
        let mutation = match rest {
            [] => 0,
            [mutation] => number(mutation).filter(|m| *m > 0).ok_or_else(bad)?,
            // Tables of before 2017 put two dates where the partition is now.
            _ => return Err(bad()),
        };
        let name = Self {
            partition_id: (*partition_id).to_owned(),
            min_block: number(min_block).ok_or_else(bad)?,
            max_block: number(max_block).ok_or_else(bad)?,
            level: number(level).ok_or_else(bad)?,
            mutation,
        };
        let plausible = !name.partition_id.is_empty() && name.min_block <= name.max_block;
        if plausible { Ok(name) } else { Err(bad()) }
    }
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
        } = self;
        write!(f, "{partition_id}_{min_block}_{max_block}_{level}")?;
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
            let name = PartName { partition_id, min_block, max_block, level, mutation };
            prop_assert_eq!(name.to_string().parse::<PartName>().unwrap(), name);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            drop(text.parse::<PartName>());
        }
    }
}
