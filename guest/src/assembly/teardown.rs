//! An assembly undone.

use super::workplace::State;
use super::{Error, Workplace, mounts};
use crate::dm::{self, DeviceMapper};

/// What to do with mounts that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Leave them and say so.
    Refuse,
    /// Take them out of sight now; the kernel ends them when nobody uses them any more.
    Detach,
}

/// Undoes an assembly, the last thing first. What is gone already is not missed, so a second call does nothing.
///
/// # Errors
/// If something is in use, or the kernel refuses. What is left is still on record for the next call.
pub fn teardown(workplace: &Workplace, busy: Busy) -> Result<(), Error> {
    let Some(state) = workplace.read()? else { return Ok(()) };
    let detach = busy == Busy::Detach;
    if let Some(target) = &state.target {
        mounts::take_away(target, detach)?;
        // Once only: the next call must not take away what is below.
        workplace.write(&State { target: None, ..state })?;
    }
    mounts::take_away(&workplace.upper(), detach)?;
    let mapper = match DeviceMapper::open() {
        Ok(mapper) => Some(mapper),
        // Without device-mapper there are no devices.
        Err(dm::Error::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(mapper) = mapper.as_ref().filter(|_| state.upper_device) {
        mapper.remove(&workplace.upper_device()?)?;
    }
    for index in (0..state.layers).rev() {
        mounts::take_away(&workplace.layer(index), detach)?;
        if let Some(mapper) = &mapper {
            mapper.remove(&workplace.device(index)?)?;
        }
    }
    workplace.remove()
}
