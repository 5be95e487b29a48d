//! How the data of a regular file lies in the archive.

use std::io::BufRead;

use super::error::{Malformed, Quantity};
use super::header::Header;
use super::limits::{Limits, MAX_FILE_SIZE};
use super::pax::Overrides;
use super::problem::Problem;
use super::sparse::{self, Map, Run};
use super::stream::Stream;

/// The data of a regular file, which comes next in the stream.
#[derive(Debug)]
pub(super) struct Body {
    /// Size of the file in bytes, holes included.
    pub(super) size: u64,
    /// Bytes in the archive, padding not included.
    pub(super) stored: u64,
    /// Where these bytes belong.
    pub(super) layout: Layout,
}

/// Where stored bytes belong in a file.
#[derive(Debug)]
pub(super) enum Layout {
    /// They are the file.
    Dense,
    /// In these runs, one after the other; they add up to what is stored.
    Sparse(Vec<Run>),
}

/// Reads what tells about the data, up to its first byte.
pub(super) fn read<R: BufRead>(
    header: &Header<'_>,
    overrides: &Overrides<'_>,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<Body, Problem> {
    let size = overrides.size()?.unwrap_or(header.numbers.size);
    let stored = u64::try_from(size).map_err(|_| Malformed::NegativeSize)?;
    let body = match sparse_map(header, overrides, stored, stream, limits)? {
        None => Body { size: stored, stored, layout: Layout::Dense },
        Some((map, map_length)) => sparse_body(map, stored - map_length)?,
    };
    Quantity::FileSize.check(body.size, limits.max_file_size.min(MAX_FILE_SIZE))?;
    Ok(body)
}

/// The map of a sparse file, and how much of what is stored it takes. `None` for other files.
fn sparse_map<R: BufRead>(
    header: &Header<'_>,
    overrides: &Overrides<'_>,
    stored: u64,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<Option<(Map, u64)>, Problem> {
    if header.type_flag() == b'S' {
        let fields = header.sparse().ok_or(Malformed::SparseMap("not in a GNU header"))?;
        return Ok(Some((sparse::read_old(&fields, stream, limits)?, 0)));
    }
    if sparse::is_in_data(&overrides.sparse) {
        return sparse::read_data(&overrides.sparse, stored, stream, limits).map(Some);
    }
    Ok(sparse::read_records(&overrides.sparse, stored, limits)?.map(|map| (map, 0)))
}

fn sparse_body(map: Map, stored: u64) -> Result<Body, Malformed> {
    let total: u64 = map.runs.iter().map(|run| run.length).sum();
    if total != stored {
        return Err(Malformed::SparseMap("does not account for the data"));
    }
    Ok(Body { size: map.size, stored, layout: Layout::Sparse(map.runs) })
}
