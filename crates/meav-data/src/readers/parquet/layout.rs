//! What a Parquet file says about its own sizes, looked at before anything is allocated for it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use meav_job::{Cancelled, JobCtx};
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::thrift::{Kind, Thrift};
use crate::{DamageReason, DataError};

/// Columns in groups in groups; the library goes down by recursion.
const MAX_DEPTH: usize = 32;

/// More than any page has. Its header may hold the greatest and the least value of the page.
const MAX_PAGE_HEADER: u64 = 1 << 20;

/// Of a page, unpacked; writers aim at one MiB.
const MAX_PAGE_BYTES: i64 = 256 << 20;

/// Of a page, packed by gzip, which unpacks to 1032 times of it at most, whatever its header says.
const MAX_GZIP_PAGE_BYTES: i64 = 4 << 20;

/// Values of a page, which take no room in the file if they are all the same.
const MAX_PAGE_VALUES: i64 = 16 << 20;

/// Why the pages are not read.
pub(super) enum LayoutError {
    Damaged(DamageReason),
    Read(std::io::Error),
    Cancelled(Cancelled),
}

impl LayoutError {
    pub(super) fn into_data_error(self, path: &Path) -> DataError {
        let path = path.to_owned();
        match self {
            Self::Damaged(source) => DataError::Damaged { path, source },
            Self::Read(source) => DataError::Read { path, source },
            Self::Cancelled(cancelled) => cancelled.into(),
        }
    }
}

/// Whether the columns are nested no deeper than the library can go.
pub(super) fn check_schema(footer: &[u8]) -> Result<(), DamageReason> {
    let depth = schema_depth(footer).ok_or(DamageReason::Footer)?;
    if depth > MAX_DEPTH {
        return Err(DamageReason::TooDeep { limit: MAX_DEPTH });
    }
    Ok(())
}

/// `FileMetaData.schema` is field 2.
fn schema_depth(footer: &[u8]) -> Option<usize> {
    let mut thrift = Thrift { bytes: footer, position: 0 };
    let (mut id, mut deepest) = (0, 0);
    loop {
        let kind = thrift.field(&mut id)?;
        match (id, kind) {
            (_, Kind::Stop) => break,
            (2, Kind::List) => deepest = deepest.max(depth(&mut thrift)?),
            (_, kind) => thrift.skip(kind)?,
        }
    }
    Some(deepest)
}

/// The tree of columns lies as a list, each before its children.
fn depth(thrift: &mut Thrift<'_>) -> Option<usize> {
    let (len, _) = thrift.list()?;
    // How many children are still to come, from the root down to here.
    let mut open = Vec::new();
    let mut deepest = 0;
    for _ in 0..len {
        let children = children(thrift)?;
        deepest = deepest.max(open.len());
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Some(deepest)
}

/// `SchemaElement.num_children` is field 5.
fn children(thrift: &mut Thrift<'_>) -> Option<i64> {
    let (mut id, mut children) = (0, 0);
    loop {
        let kind = thrift.field(&mut id)?;
        match (id, kind) {
            (_, Kind::Stop) => break,
            (5, Kind::Integer) => children = thrift.integer()?,
            (_, kind) => thrift.skip(kind)?,
        }
    }
    Some(children)
}

/// Whether all pages lie in the file and are of a size that a page can have.
pub(super) fn check_pages(
    mut file: File,
    size: u64,
    groups: &[RowGroupMetaData],
    job: &JobCtx<'_>,
) -> Result<(), LayoutError> {
    let chunks = chunks(size, groups).map_err(LayoutError::Damaged)?;
    for Chunk { group, metadata, start, end } in chunks {
        job.check().map_err(LayoutError::Cancelled)?;
        let is_gzip = matches!(metadata.compression(), Compression::GZIP(_));
        let limit = if is_gzip { MAX_GZIP_PAGE_BYTES } else { MAX_PAGE_BYTES };
        if !check_chunk(&mut file, start, end, limit).map_err(LayoutError::Read)? {
            let column = metadata.column_path().string();
            return Err(LayoutError::Damaged(DamageReason::Page { group, column }));
        }
    }
    Ok(())
}

/// The pages of a column in a row group.
struct Chunk<'a> {
    group: usize,
    metadata: &'a ColumnChunkMetaData,
    start: u64,
    end: u64,
}

/// All chunks, if they lie in the file.
fn chunks(size: u64, groups: &[RowGroupMetaData]) -> Result<Vec<Chunk<'_>>, DamageReason> {
    let mut chunks = Vec::new();
    for (group, metadata) in groups.iter().enumerate() {
        if metadata.num_rows() < 0 {
            return Err(DamageReason::Footer);
        }
        for metadata in metadata.columns() {
            let (start, end) =
                extent(metadata).filter(|(_, end)| *end <= size).ok_or_else(|| {
                    DamageReason::OutsideFile { group, column: metadata.column_path().string() }
                })?;
            check_codec(metadata)?;
            chunks.push(Chunk { group, metadata, start, end });
        }
    }
    Ok(chunks)
}

fn check_codec(metadata: &ColumnChunkMetaData) -> Result<(), DamageReason> {
    match metadata.compression() {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::ZSTD(_)
        | Compression::GZIP(_) => Ok(()),
        codec => {
            let codec = codec.to_string().to_ascii_lowercase();
            let codec = codec.split('(').next().unwrap_or_default().to_owned();
            Err(DamageReason::Codec { column: metadata.column_path().string(), codec })
        }
    }
}

/// Where a column's pages lie.
fn extent(column: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let data = u64::try_from(column.data_page_offset()).ok()?;
    let start = match column.dictionary_page_offset() {
        Some(offset) => u64::try_from(offset).ok().filter(|offset| *offset > 0)?.min(data),
        None => data,
    };
    let length = u64::try_from(column.compressed_size()).ok()?;
    Some((start, start.checked_add(length)?))
}

/// Whether each page between the two places is one that may be unpacked.
fn check_chunk(file: &mut File, mut position: u64, end: u64, limit: i64) -> std::io::Result<bool> {
    let mut window = 256;
    while position < end {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(position))?;
        file.by_ref().take(window.min(end - position)).read_to_end(&mut bytes)?;
        let Some(page) = page(&bytes) else {
            if window >= MAX_PAGE_HEADER || window >= end - position {
                return Ok(false);
            }
            window *= 16;
            continue;
        };
        let sizes = 0..=limit.min(MAX_PAGE_BYTES);
        let is_sound = sizes.contains(&page.packed)
            && (0..=MAX_PAGE_BYTES).contains(&page.unpacked)
            && (0..=MAX_PAGE_VALUES).contains(&page.values);
        if !is_sound {
            return Ok(false);
        }
        position += page.header + page.packed as u64;
    }
    Ok(true)
}

/// What a page's header says.
struct Page {
    header: u64,
    unpacked: i64,
    packed: i64,
    values: i64,
}

/// `PageHeader`: fields 2 and 3 are its sizes; 5, 7 and 8 describe data pages, dictionaries and
/// data pages of version 2, each with the number of values as its field 1.
fn page(bytes: &[u8]) -> Option<Page> {
    let mut thrift = Thrift { bytes, position: 0 };
    let mut page = Page { header: 0, unpacked: -1, packed: -1, values: 0 };
    let mut id = 0;
    loop {
        let kind = thrift.field(&mut id)?;
        match (id, kind) {
            (_, Kind::Stop) => break,
            (2, Kind::Integer) => page.unpacked = thrift.integer()?,
            (3, Kind::Integer) => page.packed = thrift.integer()?,
            (5 | 7 | 8, Kind::Struct) => page.values = page.values.max(values(&mut thrift)?),
            (_, kind) => thrift.skip(kind)?,
        }
    }
    page.header = thrift.position as u64;
    Some(page)
}

fn values(thrift: &mut Thrift<'_>) -> Option<i64> {
    let (mut id, mut values) = (0, -1);
    loop {
        let kind = thrift.field(&mut id)?;
        match (id, kind) {
            (_, Kind::Stop) => break,
            (1, Kind::Integer) => values = thrift.integer()?,
            (_, kind) => thrift.skip(kind)?,
        }
    }
    Some(values)
}
