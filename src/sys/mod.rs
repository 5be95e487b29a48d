//! System calls that no library offers safely. The only room with `unsafe`.
#![allow(unsafe_code)]

pub mod fs_verity;
pub mod guest_memory;
pub mod id_mapped;
pub mod locks;
pub mod loop_device;
pub mod project_quota;
pub mod worker_exit;
pub mod writeback;
