//! Reading some row groups of a segment without the others.
//!
//! The footer says how a group is decoded, so it is fetched too, once for a segment. Each group and the
//! footer are checked by their BLAKE3 before anything looks at them, and the footer must say of the
//! groups what the manifest does.
//!
//! There are no bloom filters: of a chain the full backup is by far the largest part, and the keys that
//! are asked for are most often in it. A filter, about a twentieth of a group, would be fetched to save
//! groups of increments alone, which are few.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use mendb_model::manifest::Segment;
use mendb_model::{BackupId, TableSchema};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::encoder::byte_range;
use super::reader::SegmentReader;
use super::sparse::SparseFile;
use super::whole::{check_groups, cut_checked};
use tokio::task::JoinError;

use crate::arrow::Content;
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::{Objects, check};
use crate::repository::Repository;

/// Bytes between two wanted groups that are fetched rather than asked around: a request takes longer.
pub(crate) const MOST_GAP_BYTES: u64 = 256 << 10;

/// One request for neighbouring groups of a segment, or for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRequest {
    /// The bytes of the object.
    pub(crate) range: Range<u64>,
    /// The numbers of the wanted groups among them, ascending; of a segment without groups, 0 is all.
    pub(crate) groups: Vec<usize>,
    /// Whether the footer is among them.
    pub(crate) footer: bool,
}

/// The requests that bring groups of a segment, given by ascending numbers, and, where that is not
/// known, its footer. Each is for at most `most_bytes`, or one group. The footer comes with the groups
/// if all are one stretch, else first, so that the groups can be decoded one request after another.
///
/// # Panics
/// The segment has no such group.
pub(crate) fn requests(
    segment: &Segment,
    groups: &[usize],
    footer: bool,
    most_bytes: u64,
) -> Vec<GroupRequest> {
    let Some(known) = &segment.groups else {
        let all = GroupRequest {
            range: 0..segment.bytes,
            groups: groups.to_vec(),
            footer,
        };
        return if groups.is_empty() { vec![] } else { vec![all] };
    };
    let mut requests: Vec<GroupRequest> = Vec::new();
    for &number in groups {
        let range = known.list[number].at.range();
        match requests.last_mut() {
            Some(last) if joins(&last.range, &range, most_bytes) => {
                last.range.end = range.end;
                last.groups.push(number);
            }
            _ => requests.push(GroupRequest {
                range,
                groups: vec![number],
                footer: false,
            }),
        }
    }
    if !footer {
        return requests;
    }
    let range = known.footer.range();
    match requests.as_mut_slice() {
        // What lies between may be wanted later, and would come twice.
        [only] if only.range.end == range.start && joins(&only.range, &range, most_bytes) => {
            only.range.end = range.end;
            only.footer = true;
        }
        _ => requests.insert(
            0,
            GroupRequest {
                range,
                groups: vec![],
                footer: true,
            },
        ),
    }
    requests
}

fn joins(last: &Range<u64>, next: &Range<u64>, most_bytes: u64) -> bool {
    next.start <= last.end.saturating_add(MOST_GAP_BYTES)
        && next.end.saturating_sub(last.start) <= most_bytes
}

/// A segment that is read group by group.
#[derive(Debug)]
pub(crate) struct GroupedSegment {
    objects: Objects,
    /// Below the repository.
    name: String,
    segment: Segment,
    schema: Arc<TableSchema>,
    content: Content,
}

/// What is known of a segment once its footer was read.
#[derive(Debug, Clone)]
pub(crate) struct Footer(ArrowReaderMetadata);

/// The checked bytes that a request brought.
#[derive(Debug)]
pub(crate) struct FetchedGroups {
    file: SparseFile,
}

impl GroupedSegment {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// [`Error::Damaged`]: the manifest says of the groups what cannot be.
    pub(crate) fn new(
        objects: Objects,
        directory: &str,
        segment: Segment,
        schema: Arc<TableSchema>,
        content: Content,
    ) -> Result<Self> {
        let name = format!("{directory}/{}", segment.object);
        if let Some(groups) = &segment.groups
            && let Err(detail) = check_groups(&segment, groups)
        {
            return Err(objects.damaged(&name, format!("by its manifest, {detail}")));
        }
        Ok(Self {
            objects,
            name,
            segment,
            schema,
            content,
        })
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// How many groups can be read alone.
    pub(crate) fn len(&self) -> usize {
        (self.segment.groups.as_ref()).map_or(1, |groups| groups.list.len())
    }

    /// The first key of a group.
    pub(crate) fn first_key(&self, group: usize) -> &[u8] {
        match &self.segment.groups {
            None => &self.segment.first_key,
            Some(groups) => &groups.list[group].first_key,
        }
    }

    /// How many rows or changes a group holds.
    pub(crate) fn rows(&self, group: usize) -> u64 {
        match &self.segment.groups {
            None => self.segment.digest.rows,
            Some(groups) => groups.list[group].rows,
        }
    }

    /// Makes a request and checks what it brings. What arrives damaged is fetched again.
    ///
    /// # Errors
    /// As [`Repository::read_groups`].
    pub(crate) async fn fetch(&self, request: &GroupRequest) -> Result<FetchedGroups> {
        let segment = &self.segment;
        let check = |bytes: Bytes| {
            let mut file = SparseFile::new(segment.bytes);
            let Some(groups) = &segment.groups else {
                check(&bytes, segment.bytes, &segment.blake3)?;
                file.insert(0, bytes);
                return Ok(FetchedGroups { file });
            };
            let footer = request.footer.then_some(&groups.footer);
            let wanted = request.groups.iter();
            let wanted = wanted.map(|group| (Some(*group), &groups.list[*group].at));
            for (group, at) in wanted.chain(footer.map(|footer| (None, footer))) {
                let piece = cut_checked(&bytes, request.range.start, group, at)?;
                file.insert(at.offset, piece);
            }
            Ok(FetchedGroups { file })
        };
        let range = request.range.clone();
        if segment.groups.is_none() {
            return self.objects.get(&self.name, segment.bytes, check).await;
        }
        self.objects.get_stretch(&self.name, range, check).await
    }

    /// Reads the footer out of what was fetched with it.
    ///
    /// # Errors
    /// [`Error::Damaged`]: it is none, or its groups are not those of the manifest.
    pub(crate) fn footer(&self, fetched: &FetchedGroups) -> Result<Footer> {
        let metadata = ArrowReaderMetadata::load(&fetched.file, ArrowReaderOptions::default())
            .map_err(|error| self.damaged(error))?;
        if let Some(groups) = &self.segment.groups {
            let told = metadata.metadata().row_groups().iter();
            let told = told.map(|group| (byte_range(group), u64::try_from(group.num_rows()).ok()));
            let known = groups.list.iter();
            let known = known.map(|group| (Some(group.at.range()), Some(group.rows)));
            if !told.eq(known) {
                return Err(self.damaged("its footer lists other row groups than its manifest"));
            }
        }
        Ok(Footer(metadata))
    }

    /// Reads groups that were fetched. Decodes when it is asked for rows.
    ///
    /// # Errors
    /// [`Error::Damaged`]: the columns are not those of the table.
    pub(crate) fn read(
        &self,
        footer: &Footer,
        fetched: &FetchedGroups,
        groups: &[usize],
    ) -> Result<SegmentReader> {
        let file = fetched.file.clone();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.0.clone());
        let (builder, rows) = match &self.segment.groups {
            None => (builder, self.segment.digest.rows),
            Some(_) => {
                let rows = groups.iter().map(|group| self.rows(*group)).sum();
                (builder.with_row_groups(groups.to_vec()), rows)
            }
        };
        let object = self.objects.full_name(&self.name);
        SegmentReader::of_checked(object, builder, rows, &self.schema, self.content)
    }

    /// See [`Objects::cut_off`].
    pub(crate) fn cut_off(&self, error: JoinError) -> Error {
        self.objects.cut_off(error)
    }

    /// The error for damage that is seen only when the rows are.
    pub(crate) fn damaged(&self, detail: impl std::fmt::Display) -> Error {
        self.objects.damaged(&self.name, detail)
    }
}

impl Repository {
    /// Fetches some row groups of a segment, given by ascending numbers, checks each by its BLAKE3, and
    /// begins to read them. Groups that lie close together come with one request. What arrives damaged
    /// is fetched again. Of a segment without groups, number 0 is all of it. Waits for the store; holds
    /// the groups in memory.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`] when something is not what the manifest says or the rows
    /// are not those of the table; or the store fails.
    ///
    /// # Panics
    /// The segment has no such group, or the numbers do not ascend.
    pub async fn read_groups(
        &self,
        collection: &str,
        backup_id: &BackupId,
        segment: &Segment,
        schema: &TableSchema,
        content: Content,
        groups: &[usize],
    ) -> Result<SegmentReader> {
        assert!(groups.is_sorted_by(|a, b| a < b), "groups in their order");
        let directory = layout::backup(collection, backup_id)?;
        let segment = GroupedSegment::new(
            self.objects.clone(),
            &directory,
            segment.clone(),
            Arc::new(schema.clone()),
            content,
        )?;
        assert!(
            groups.last() < Some(&segment.len()),
            "groups of the segment"
        );
        let mut file = SparseFile::new(segment.segment.bytes);
        for request in requests(&segment.segment, groups, true, u64::MAX) {
            file.extend(segment.fetch(&request).await?.file);
        }
        let fetched = FetchedGroups { file };
        let footer = segment.footer(&fetched)?;
        segment.read(&footer, &fetched, groups)
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::Digest;
    use mendb_model::manifest::SegmentGroup;
    use proptest::prelude::*;

    use mendb_model::manifest::{SegmentGroups, Stretch};

    use super::*;

    fn stretch(offset: u64, bytes: u64) -> Stretch {
        Stretch {
            offset,
            bytes,
            blake3: String::new(),
        }
    }

    /// A segment of groups of these sizes and a footer of 100 bytes.
    fn segment(sizes: &[u64]) -> Segment {
        let mut end = 4;
        let list = sizes.iter().zip(0u8..).map(|(bytes, number)| {
            let at = stretch(end, *bytes);
            end = at.range().end;
            SegmentGroup {
                first_key: vec![number],
                rows: 1,
                at,
            }
        });
        let list: Vec<_> = list.collect();
        Segment {
            object: "goods/0000-a-0.0000.parquet".to_owned(),
            bytes: end + 100,
            blake3: String::new(),
            digest: Digest {
                rows: sizes.len() as u64,
                sum: 0,
            },
            first_key: vec![0],
            last_key: vec![u8::MAX],
            groups: Some(SegmentGroups {
                footer: stretch(end, 100),
                list,
            }),
        }
    }

    #[test]
    fn groups_that_cannot_be_those_of_their_segment_are_refused() {
        let good = segment(&[10, 20, 30]);
        let check = |change: &dyn Fn(&mut Segment)| {
            let mut segment = good.clone();
            change(&mut segment);
            let groups = segment.groups.clone().unwrap();
            check_groups(&segment, &groups)
        };
        fn list(segment: &mut Segment) -> &mut Vec<SegmentGroup> {
            &mut segment.groups.as_mut().unwrap().list
        }
        assert_eq!(check(&|_| ()), Ok(()));
        check(&|segment| segment.bytes += 1).unwrap_err();
        check(&|segment| segment.digest.rows += 1).unwrap_err();
        check(&|segment| segment.first_key = vec![9]).unwrap_err();
        check(&|segment| segment.last_key = vec![0]).unwrap_err();
        check(&|segment| list(segment).clear()).unwrap_err();
        check(&|segment| list(segment)[1].at.offset = 5).unwrap_err();
        check(&|segment| list(segment)[1].at.bytes = u64::MAX).unwrap_err();
        check(&|segment| list(segment)[0].rows = u64::MAX).unwrap_err();
        check(&|segment| list(segment)[1].first_key = vec![2]).unwrap_err();
    }

    proptest! {
        #[test]
        fn each_wanted_group_comes_once_and_requests_stay_small(
            sizes in proptest::collection::vec(1u64..400_000, 1..30),
            wanted in proptest::collection::vec(any::<bool>(), 30),
            footer: bool,
            most_bytes in 1u64..2_000_000,
        ) {
            let segment = segment(&sizes);
            let wanted: Vec<_> = (0..sizes.len()).filter(|group| wanted[*group]).collect();
            let requests = requests(&segment, &wanted, footer, most_bytes);
            let groups: Vec<_> = requests.iter().flat_map(|request| request.groups.clone()).collect();
            prop_assert_eq!(&groups, &wanted);
            let footers = requests.iter().filter(|request| request.footer).count();
            prop_assert_eq!(footers, usize::from(footer));
            prop_assert!(!footer || requests[0].footer);
            let known = segment.groups.as_ref().unwrap();
            for request in requests {
                let pieces = request.groups.iter().map(|group| &known.list[*group].at);
                let pieces: Vec<_> = pieces.chain(request.footer.then_some(&known.footer)).collect();
                prop_assert_eq!(request.range.start, pieces[0].offset);
                prop_assert_eq!(request.range.end, pieces[pieces.len() - 1].range().end);
                let bytes = request.range.end - request.range.start;
                prop_assert!(bytes <= most_bytes || pieces.len() == 1);
            }
        }
    }
}
