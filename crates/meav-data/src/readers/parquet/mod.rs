mod layout;
mod thrift;
mod values;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use meav_job::JobCtx;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Row;
use parquet::record::reader::RowIter;

use crate::collector::Collector;
use crate::{DamageReason, DataError, MAX_RECORD_BYTES, ProblemKind};

/// The length of the footer and `PAR1`, at the end of the file.
const TAIL_BYTES: u64 = 8;

/// Apache Parquet, with `responses` as columns of a group and messages as lists of groups.
///
/// Nothing in the file is believed before [`layout`] has looked at it; as the library may still
/// stumble over bytes that nobody wrote, its panics become errors.
pub(crate) fn read(
    mut file: File,
    size: u64,
    collector: &mut Collector<'_>,
    job: &JobCtx<'_>,
) -> Result<(), DataError> {
    let path = collector.path.to_owned();
    let failed = |source| DataError::Read { path: path.clone(), source };
    let damaged = |source| DataError::Damaged { path: path.clone(), source };
    let footer = footer(&mut file, size).map_err(failed)?.ok_or(damaged(DamageReason::Footer))?;
    layout::check_schema(&footer).map_err(damaged)?;
    let pages = file.try_clone().map_err(failed)?;
    let open = guarded(None, || Ok(SerializedFileReader::new(file)?));
    let reader = open.map_err(damaged)?;
    let groups = reader.metadata().row_groups();
    layout::check_pages(pages, size, groups, job).map_err(|err| err.into_data_error(&path))?;
    let rows = groups.iter().map(RowGroupMetaData::num_rows);
    let total = rows.fold(0, i64::saturating_add) as usize;
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        if collector.is_full() {
            break;
        }
        let group = guarded(Some(row + 1), || Ok(reader.get_row_group(group)?)).map_err(damaged)?;
        let rows = guarded(Some(row + 1), || Ok(RowIter::from_row_group(None, &*group)?));
        let mut rows = rows.map_err(damaged)?;
        while !collector.is_full() {
            let next = guarded(Some(row + 1), || Ok(rows.next().transpose()?));
            let Some(next) = next.map_err(damaged)? else { break };
            row += 1;
            job.tick(row, total)?;
            take(next, row, collector)?;
        }
    }
    Ok(())
}

/// What stands before the tail, if the file is as long as the tail says.
fn footer(file: &mut File, size: u64) -> std::io::Result<Option<Vec<u8>>> {
    let Some(tail_start) = size.checked_sub(TAIL_BYTES) else { return Ok(None) };
    let mut tail = [0; TAIL_BYTES as usize];
    file.seek(SeekFrom::Start(tail_start))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let Some(start) = tail_start.checked_sub(length).filter(|_| magic == *b"PAR1") else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(start))?;
    let mut footer = vec![0; length as usize];
    file.read_exact(&mut footer)?;
    Ok(Some(footer))
}

fn take(row: Row, index: usize, collector: &mut Collector<'_>) -> Result<(), DataError> {
    let (length, limit) = (values::text_bytes(&row), MAX_RECORD_BYTES);
    if length > limit as u64 {
        return collector.refuse(index, None, ProblemKind::TooLong { length, limit });
    }
    match values::object(row) {
        Ok(object) => collector.take(index, object, None),
        Err(kind) => collector.refuse(index, None, kind),
    }
}

/// What `task` gives, unless the library gives up.
fn guarded<T>(
    row: Option<usize>,
    task: impl FnOnce() -> Result<T, DamageReason>,
) -> Result<T, DamageReason> {
    catch_unwind(AssertUnwindSafe(task)).unwrap_or(Err(DamageReason::ParquetPanic { row }))
}
