//! Members that say something about the next one: PAX records (`x`), GNU long names (`L`, `K`), and
//! global PAX records (`g`), which are checked and ignored, as containerd does.

use std::io::BufRead;

use super::error::{Malformed, Part, Quantity};
use super::header::Header;
use super::limits::Limits;
use super::pax;
use super::problem::Problem;
use super::stream::Stream;

/// What was said about the next member. Of two of a kind the later one counts, as in Go's
/// `archive/tar`.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    are_pending: bool,
    pax: Vec<u8>,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
}

impl Extensions {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.are_pending = false;
        self.pax.clear();
        self.long_name.clear();
        self.long_link.clear();
    }

    /// Whether something was said and the member is still to come.
    pub(super) fn are_pending(&self) -> bool {
        self.are_pending
    }

    /// The PAX records, possibly none.
    pub(super) fn pax(&self) -> &[u8] {
        &self.pax
    }

    /// The GNU long name, if given.
    pub(super) fn long_name(&self) -> Option<&[u8]> {
        given(&self.long_name)
    }

    /// The GNU long link target, if given.
    pub(super) fn long_link(&self) -> Option<&[u8]> {
        given(&self.long_link)
    }

    /// Reads a member of these types. False if `header` is of another.
    pub(super) fn take<R: BufRead>(
        &mut self,
        header: &Header<'_>,
        stream: &mut Stream<'_, R>,
        limits: &Limits,
    ) -> Result<bool, Problem> {
        match header.type_flag() {
            b'L' => read_name(&mut self.long_name, header, stream, limits)?,
            b'K' => read_name(&mut self.long_link, header, stream, limits)?,
            b'x' => read_records(&mut self.pax, header, stream, limits)?,
            b'g' => {
                read_records(&mut self.pax, header, stream, limits)?;
                // Go hands a global header out as a member of its own: what came before it is gone.
                self.clear();
                return Ok(true);
            }
            _ => return Ok(false),
        }
        self.are_pending = true;
        Ok(true)
    }
}

fn given(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

/// Reads a name, which ends at the first NUL.
fn read_name<R: BufRead>(
    name: &mut Vec<u8>,
    header: &Header<'_>,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<(), Problem> {
    read_body(name, header, stream, limits)?;
    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
    Ok(())
}

/// Reads PAX records and checks that they are well-formed.
fn read_records<R: BufRead>(
    records: &mut Vec<u8>,
    header: &Header<'_>,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<(), Problem> {
    read_body(records, header, stream, limits)?;
    Ok(pax::validate(records)?)
}

fn read_body<R: BufRead>(
    body: &mut Vec<u8>,
    header: &Header<'_>,
    stream: &mut Stream<'_, R>,
    limits: &Limits,
) -> Result<(), Problem> {
    let size = u64::try_from(header.numbers.size).map_err(|_| Malformed::NegativeSize)?;
    Quantity::ExtendedHeaderBytes.check(size, limits.max_extended_header_bytes)?;
    body.clear();
    stream.append_to(size, body).map_err(Part::ExtendedHeader.stopped())?;
    stream.skip_padding(size).map_err(Part::ExtendedHeader.stopped())
}
