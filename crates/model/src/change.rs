//! What happened to one key, and how several changes of one key become one.
//!
//! As bytes:
//!
//! ```text
//! version (8 bytes LE) | kind (1) | mark of the replaced row (8 bytes LE), if the kind has 32 added
//!     | upsert only: bitmap length (varint), bitmap of set slots | row
//! ```
//!
//! An erase has no row. The row of an upsert holds the set columns and NULL for the others. A kind with 16 added
//! says that the change replaced no row; with neither, what it replaced is not known ([`Replaced`]).

use crate::row::{self, RowReader};
use crate::value::{ColumnType, ValueRef};
use crate::{Malformed, Replaced, varint};

/// Added to a kind: there was no row before.
const REPLACED_NOTHING: u8 = 16;
/// Added to a kind: the mark of the row before follows.
const REPLACED_ROW: u8 = 32;

/// What a change does to the row of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Sets some columns and leaves the others; creates the row with NULLs when it is absent.
    Upsert = 1,
    /// Sets all columns: what was there before does not matter.
    Reset = 2,
    /// Removes the row, if it is there.
    Erase = 3,
}

impl ChangeKind {
    /// The name in segments and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Reset => "reset",
            Self::Erase => "erase",
        }
    }

    /// The kind of a name.
    ///
    /// # Errors
    /// No kind has this name.
    pub fn from_name(name: &str) -> Result<Self, Malformed> {
        match name {
            "upsert" => Ok(Self::Upsert),
            "reset" => Ok(Self::Reset),
            "erase" => Ok(Self::Erase),
            other => Err(Malformed::new("change", format!("kind {other:?}"))),
        }
    }
}

/// Which slots a change sets: a bitmap, lowest bit first, without zero bytes at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSet(Vec<u8>);

impl ColumnSet {
    /// The set of these slots.
    pub fn of(slots: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }

    /// The set that a bitmap from a segment or a change log describes.
    pub fn from_bitmap(bitmap: &[u8]) -> Self {
        let used = bitmap
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        Self(bitmap[..used].to_vec())
    }

    /// The bitmap, without zero bytes at its end.
    pub fn as_bitmap(&self) -> &[u8] {
        &self.0
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: usize) {
        if self.0.len() <= slot / 8 {
            self.0.resize(slot / 8 + 1, 0);
        }
        self.0[slot / 8] |= 1 << (slot % 8);
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: usize) -> bool {
        self.0
            .get(slot / 8)
            .is_some_and(|byte| byte & (1 << (slot % 8)) != 0)
    }

    /// Adds the slots of another set.
    pub fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (byte, theirs) in self.0.iter_mut().zip(&other.0) {
            *byte |= theirs;
        }
    }
}

/// What happened to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it does.
    pub kind: ChangeKind,
    /// Which slots an upsert sets; empty for the other kinds.
    pub set: ColumnSet,
    /// The row as [`crate::row`] encodes it; empty bytes for an erase.
    pub row: Vec<u8>,
    /// The commit that made it, counted by the row store.
    pub version: u64,
    /// What it took the place of; of several changes folded into one, what the first of them did.
    pub replaced: Replaced,
}

impl Change {
    /// Sets the slots of `set` to what `row` holds there.
    pub fn upsert(set: ColumnSet, row: Vec<u8>, version: u64) -> Self {
        Self {
            kind: ChangeKind::Upsert,
            set,
            row,
            version,
            replaced: Replaced::Unknown,
        }
    }

    /// Makes `row` the row.
    pub fn reset(row: Vec<u8>, version: u64) -> Self {
        Self {
            kind: ChangeKind::Reset,
            set: ColumnSet::default(),
            row,
            version,
            replaced: Replaced::Unknown,
        }
    }

    /// Removes the row.
    pub fn erase(version: u64) -> Self {
        Self {
            kind: ChangeKind::Erase,
            set: ColumnSet::default(),
            row: Vec::new(),
            version,
            replaced: Replaced::Unknown,
        }
    }

    /// Appends the change as bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        self.view().encode_into(out);
    }

    /// The change, to be read in place.
    pub fn view(&self) -> ChangeRef<'_> {
        ChangeRef {
            version: self.version,
            kind: self.kind,
            replaced: self.replaced,
            bitmap: self.set.as_bitmap(),
            row: &self.row,
        }
    }

    /// The change as bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.view().encode()
    }

    /// Reads a change.
    ///
    /// # Errors
    /// The bytes are cut off or name no kind. The row inside is checked when it is read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let parts = ChangeRef::decode(bytes)?;
        Ok(Self {
            kind: parts.kind,
            set: ColumnSet::from_bitmap(parts.bitmap),
            row: parts.row.to_vec(),
            version: parts.version,
            replaced: parts.replaced,
        })
    }

    /// This change and then `next`, as one change with the version of `next` that replaced what this one did.
    ///
    /// Anything then an erase is an erase, anything then a reset that reset. Two upserts set the
    /// columns of both, the later value winning; an upsert on a reset changes the reset's row, and
    /// on an erase resets the row to its columns and NULL elsewhere.
    ///
    /// # Errors
    /// A row is malformed.
    pub fn then(self, next: Self, types: &[ColumnType]) -> Result<Self, Malformed> {
        let replaced = self.replaced;
        let joined = match (next.kind, self.kind) {
            (ChangeKind::Reset | ChangeKind::Erase, _) => next,
            (ChangeKind::Upsert, ChangeKind::Erase) => Self::reset(next.row, next.version),
            (ChangeKind::Upsert, ChangeKind::Reset) => {
                let row = overlay(&self.row, &next.row, &next.set, types)?;
                Self::reset(row, next.version)
            }
            (ChangeKind::Upsert, ChangeKind::Upsert) => {
                let row = overlay(&self.row, &next.row, &next.set, types)?;
                let mut set = self.set;
                set.union(&next.set);
                Self::upsert(set, row, next.version)
            }
        };
        Ok(Self { replaced, ..joined })
    }

    /// The row after the change was made to `row`; `None` is an absent row.
    ///
    /// # Errors
    /// A row is malformed.
    pub fn apply(
        &self,
        row: Option<&[u8]>,
        types: &[ColumnType],
    ) -> Result<Option<Vec<u8>>, Malformed> {
        Ok(match (self.kind, row) {
            (ChangeKind::Erase, _) => None,
            (ChangeKind::Reset, _) | (ChangeKind::Upsert, None) => Some(self.row.clone()),
            (ChangeKind::Upsert, Some(row)) => Some(overlay(row, &self.row, &self.set, types)?),
        })
    }
}

/// A change read in place, for those who pass many on.
#[derive(Debug, Clone, Copy)]
pub struct ChangeRef<'a> {
    /// The commit that made it.
    pub version: u64,
    /// What it does.
    pub kind: ChangeKind,
    /// What it took the place of.
    pub replaced: Replaced,
    /// The bitmap of the slots an upsert sets.
    pub bitmap: &'a [u8],
    /// The row; empty bytes for an erase.
    pub row: &'a [u8],
}

impl<'a> ChangeRef<'a> {
    /// Reads a change.
    ///
    /// # Errors
    /// As [`Change::decode`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let cut_off = || Malformed::new("change", "cut off");
        let (version, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut_off)?;
        let (&flagged, mut rest) = rest.split_first().ok_or_else(cut_off)?;
        let flags = flagged & (REPLACED_NOTHING | REPLACED_ROW);
        let kind = match flagged - flags {
            1 => ChangeKind::Upsert,
            2 => ChangeKind::Reset,
            3 => ChangeKind::Erase,
            _ => return Err(Malformed::new("change", format!("kind {flagged}"))),
        };
        let replaced = match flags {
            0 => Replaced::Unknown,
            REPLACED_NOTHING => Replaced::Nothing,
            REPLACED_ROW => {
                let (mark, behind) = rest.split_first_chunk().ok_or_else(cut_off)?;
                rest = behind;
                Replaced::Row(u64::from_le_bytes(*mark))
            }
            _ => return Err(Malformed::new("change", format!("kind {flagged}"))),
        };
        let mut bitmap: &[u8] = &[];
        if kind == ChangeKind::Upsert {
            let length = varint::take(&mut rest)
                .and_then(|l| usize::try_from(l).ok())
                .ok_or_else(cut_off)?;
            (bitmap, rest) = rest.split_at_checked(length).ok_or_else(cut_off)?;
        }
        if kind == ChangeKind::Erase && !rest.is_empty() {
            return Err(Malformed::new("change", "erase with a row"));
        }
        Ok(Self {
            version: u64::from_le_bytes(*version),
            kind,
            replaced,
            bitmap,
            row: rest,
        })
    }

    /// Makes the change to `row`, in its memory; `None` is an absent row, which becomes one in the memory of
    /// `spare`.
    ///
    /// # Errors
    /// A row is malformed.
    pub fn apply_to(
        &self,
        row: &mut Option<Vec<u8>>,
        spare: &mut Vec<u8>,
        types: &[ColumnType],
    ) -> Result<(), Malformed> {
        match (self.kind, &row) {
            (ChangeKind::Erase, _) => *row = None,
            (ChangeKind::Reset, _) | (ChangeKind::Upsert, None) => {
                let row = row.get_or_insert_with(|| std::mem::take(spare));
                row.clear();
                row.extend_from_slice(self.row);
            }
            (ChangeKind::Upsert, Some(before)) => {
                let set = ColumnSet::from_bitmap(self.bitmap);
                *row = Some(overlay(before, self.row, &set, types)?);
            }
        }
        Ok(())
    }

    /// Appends the change as bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        match self.replaced {
            Replaced::Unknown => out.push(self.kind as u8),
            Replaced::Nothing => out.push(self.kind as u8 + REPLACED_NOTHING),
            Replaced::Row(mark) => {
                out.push(self.kind as u8 + REPLACED_ROW);
                out.extend_from_slice(&mark.to_le_bytes());
            }
        }
        if self.kind == ChangeKind::Upsert {
            varint::put(out, self.bitmap.len() as u64);
            out.extend_from_slice(self.bitmap);
        }
        out.extend_from_slice(self.row);
    }

    /// The change as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20 + self.row.len());
        self.encode_into(&mut out);
        out
    }

    /// The same change, which does not say what it replaced.
    #[must_use]
    pub fn without_replaced(self) -> Self {
        Self {
            replaced: Replaced::Unknown,
            ..self
        }
    }
}

/// `base` with the slots of `set` taken from `over`.
fn overlay(
    base: &[u8],
    over: &[u8],
    set: &ColumnSet,
    types: &[ColumnType],
) -> Result<Vec<u8>, Malformed> {
    let (mut base, mut over) = (RowReader::new(base)?, RowReader::new(over)?);
    let mut values: Vec<ValueRef<'_>> = Vec::with_capacity(types.len());
    for (slot, column_type) in types.iter().enumerate() {
        let (below, above) = (base.next(*column_type)?, over.next(*column_type)?);
        values.push(if set.contains(slot) { above } else { below });
    }
    base.finish()?;
    over.finish()?;
    let mut out = Vec::new();
    row::encode_into(&mut out, types, values.iter().copied());
    Ok(out)
}

/// The slots of values given or not, and the row of those given.
///
/// # Panics
/// A value is not of its type.
pub fn partial_row<'a, V>(types: &[ColumnType], values: &'a [Option<V>]) -> (ColumnSet, Vec<u8>)
where
    ValueRef<'a>: From<&'a V>,
{
    let set = ColumnSet::of(
        values
            .iter()
            .enumerate()
            .filter(|(_, v)| v.is_some())
            .map(|(slot, _)| slot),
    );
    let mut out = Vec::with_capacity(types.len() * 16);
    let cells = values
        .iter()
        .map(|value| value.as_ref().map_or(ValueRef::Null, ValueRef::from));
    row::encode_into(&mut out, types, cells);
    (set, out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    const TYPES: [ColumnType; 3] = [ColumnType::Int64, ColumnType::Utf8, ColumnType::Bool];

    fn values() -> impl Strategy<Value = Vec<Option<Value>>> {
        (
            proptest::option::of(prop_oneof![
                Just(Value::Null),
                any::<i64>().prop_map(Value::Int)
            ]),
            proptest::option::of(prop_oneof![
                Just(Value::Null),
                "[a-c]{0,3}".prop_map(Value::Text)
            ]),
            proptest::option::of(prop_oneof![
                Just(Value::Null),
                any::<bool>().prop_map(Value::Bool)
            ]),
        )
            .prop_map(|(a, b, c)| vec![a, b, c])
    }

    fn change() -> impl Strategy<Value = Change> {
        let replaced = prop_oneof![
            Just(Replaced::Unknown),
            Just(Replaced::Nothing),
            any::<u64>().prop_map(Replaced::Row),
        ];
        (0..3, values(), any::<u64>(), replaced).prop_map(|(kind, values, version, replaced)| {
            let (set, row) = partial_row(&TYPES, &values);
            let change = match kind {
                0 => Change::upsert(set, row, version),
                1 => Change::reset(row, version),
                _ => Change::erase(version),
            };
            Change { replaced, ..change }
        })
    }

    proptest! {
        #[test]
        fn folding_equals_applying_one_after_the_other(
            start in proptest::option::of(values()),
            changes in proptest::collection::vec(change(), 1..8),
        ) {
            let start = start.map(|values| partial_row(&TYPES, &values).1);
            let mut row = start.clone();
            let mut folded: Option<Change> = None;
            let replaced = changes[0].replaced;
            for change in changes {
                row = change.apply(row.as_deref(), &TYPES).unwrap();
                folded = Some(match folded {
                    Some(before) => before.then(change, &TYPES).unwrap(),
                    None => change,
                });
            }
            let folded = folded.unwrap();
            prop_assert_eq!(folded.replaced, replaced);
            prop_assert_eq!(folded.apply(start.as_deref(), &TYPES).unwrap(), row);
        }

        #[test]
        fn applying_twice_equals_applying_once(start in proptest::option::of(values()), change in change()) {
            let start = start.map(|values| partial_row(&TYPES, &values).1);
            let once = change.apply(start.as_deref(), &TYPES).unwrap();
            prop_assert_eq!(change.apply(once.as_deref(), &TYPES).unwrap(), once);
        }

        #[test]
        fn round_trips(change in change()) {
            prop_assert_eq!(Change::decode(&change.encode()), Ok(change));
        }

        #[test]
        fn damaged_changes_are_errors_not_panics(bytes: Vec<u8>) {
            if let Ok(change) = Change::decode(&bytes) {
                let _ = change.apply(Some(&[0]), &TYPES);
            }
        }
    }

    #[test]
    fn an_upsert_after_an_erase_forgets_the_row_before() {
        let upsert = |values: [Option<Value>; 3], version| {
            let (set, row) = partial_row(&TYPES, &values);
            Change::upsert(set, row, version)
        };
        let erased = Change::erase(1)
            .then(upsert([Some(Value::Int(7)), None, None], 2), &TYPES)
            .unwrap();
        assert_eq!(erased.kind, ChangeKind::Reset);
        let before = row::encode(
            &TYPES,
            &[Value::Int(1), Value::Text("x".into()), Value::Null],
        );
        let after = erased.apply(Some(&before), &TYPES).unwrap().unwrap();
        assert_eq!(
            row::decode(&after, &TYPES).unwrap(),
            [Value::Int(7), Value::Null, Value::Null]
        );
    }
}
