//! A guest as containerd host: what the machine's own kernel may lack, dm-verity, fs-verity and project quotas.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::dm::DeviceMapper;
use nexuserofs_integration::guest::harness::{self, Needs, Test};

const TESTS: &[Test] = &[Test { name: "the_kernel_has_device_mapper", run: |_| device_mapper() }];

fn main() -> Result<ExitCode> {
    harness::main(Needs { deadline: Duration::from_secs(300), ..Needs::default() }, TESTS)
}

fn device_mapper() -> Result<()> {
    let version = DeviceMapper::open()?.verity_version()?.context("dm-verity is not loaded")?;
    ensure!(version.major == 1, "{version:?}");
    Ok(())
}
