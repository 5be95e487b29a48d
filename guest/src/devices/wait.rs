//! Waiting until devices are there.

use std::thread;
use std::time::{Duration, Instant};

use super::{BlockDevices, Lookup, Query, Sysfs, Unreadable};

/// Why devices are not there.
#[derive(Debug, thiserror::Error)]
pub enum Wait {
    /// One did not come, or there are several.
    #[error("{0}")]
    Lookup(#[from] Lookup),
    /// sysfs says nothing.
    #[error(transparent)]
    Sysfs(#[from] Unreadable),
}

/// How often to look. Sysfs is memory, and events would need a socket that not every guest has.
const INTERVAL: Duration = Duration::from_millis(20);

/// The devices, as soon as each query leads to one; looked for at least once, and as long as `patience`.
///
/// # Errors
/// [`Lookup::Missing`] when the time is over, [`Lookup::Ambiguous`] at once.
pub fn wait_for(sysfs: &Sysfs, queries: &[&Query], patience: Duration) -> Result<BlockDevices, Wait> {
    let started = Instant::now();
    loop {
        let devices = sysfs.block_devices()?;
        match queries.iter().try_for_each(|query| devices.find(query).map(drop)) {
            Ok(()) => return Ok(devices),
            Err(Lookup::Missing { .. }) if started.elapsed() < patience => thread::sleep(INTERVAL),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    #[test]
    fn a_device_that_comes_late_is_found_and_one_that_never_comes_is_not() {
        let tree = Tree::new();
        let query = Query::Serial("late".parse().unwrap());
        let missing = wait_for(&tree.sysfs(), &[&query], Duration::ZERO);
        assert!(matches!(missing, Err(Wait::Lookup(Lookup::Missing { .. }))));
        thread::scope(|scope| {
            scope.spawn(|| tree.virtio("vda", 0, "02", Some("late")));
            assert!(wait_for(&tree.sysfs(), &[&query], Duration::from_secs(60)).is_ok());
        });
    }
}
