//! Whether the row groups of a segment are those that its manifest tells.

use bytes::Bytes;
use mendb_model::manifest::{Segment, SegmentGroups, Stretch};

use crate::objects::check;

/// Checks the row groups of a segment that was fetched whole.
pub(super) fn check_whole(segment: &Segment, bytes: &Bytes) -> Result<(), String> {
    let Some(groups) = &segment.groups else {
        return Ok(());
    };
    check_groups(segment, groups)?;
    for (group, known) in groups.list.iter().enumerate() {
        cut_checked(bytes, 0, Some(group), &known.at)?;
    }
    cut_checked(bytes, 0, None, &groups.footer)?;
    Ok(())
}

/// The bytes of a group, or the footer, out of those from `start` on, if they are what they should be.
/// What the request did not bring is missing, and found missing by the check.
pub(super) fn cut_checked(
    bytes: &Bytes,
    start: u64,
    group: Option<usize>,
    at: &Stretch,
) -> Result<Bytes, String> {
    let place = |offset: u64| usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
    let range = at.range();
    let end = place(range.end).min(bytes.len());
    let piece = bytes.slice(place(range.start).min(end)..end);
    match check(&piece, at.bytes, &at.blake3) {
        Ok(()) => Ok(piece),
        Err(detail) => Err(match group {
            Some(group) => format!("row group {group}: {detail}"),
            None => format!("footer: {detail}"),
        }),
    }
}

/// Whether groups can be those of a segment: one after another, in key order, all its rows.
pub(super) fn check_groups(segment: &Segment, groups: &SegmentGroups) -> Result<(), String> {
    let list = &groups.list;
    let mut end = 0;
    let stretches = list.iter().map(|group| &group.at).chain([&groups.footer]);
    for at in stretches {
        if at.offset < end || at.offset.checked_add(at.bytes).is_none() {
            return Err("its row groups overlap".to_owned());
        }
        end = at.range().end;
    }
    let rows = list
        .iter()
        .try_fold(0u64, |rows, group| rows.checked_add(group.rows));
    let ascending = list.is_sorted_by(|a, b| a.first_key < b.first_key);
    let first = list.first().map(|group| &group.first_key);
    let last = list.last().map(|group| &group.first_key);
    if end != segment.bytes {
        Err("its row groups and footer do not end where it does".to_owned())
    } else if rows != Some(segment.digest.rows) {
        Err("its row groups have other rows than it has".to_owned())
    } else if !ascending || first != Some(&segment.first_key) || last > Some(&segment.last_key) {
        Err("its row groups have other keys than it has".to_owned())
    } else {
        Ok(())
    }
}
