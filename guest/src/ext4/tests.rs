//! File systems of many sizes, as e2fsprogs sees them.

use std::process::Command;

use super::*;

const IDENTITY: Identity = Identity { uuid: [0x5a; 16], hash_seed: [7; 16] };

/// A sparse file of so many bytes. Where the file system may read before it wrote, there are no zeros.
fn file_system(bytes: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    let geometry = Geometry::of(bytes).unwrap();
    let noise: Vec<u8> = (0..BLOCK * 64).map(|at| (at * 131 % 251) as u8 | 1).collect();
    let first_groups = geometry.groups().min(2);
    for number in (0..first_groups).chain([geometry.groups() - 1]) {
        let start = u64::from(geometry.start(number)) * BLOCK as u64;
        let room = usize::try_from(bytes - start).unwrap_or(usize::MAX).min(noise.len());
        file.as_file().write_all_at(&noise[..room], start).unwrap();
    }
    write(file.as_file(), bytes, IDENTITY).unwrap();
    file
}

#[test]
fn e2fsck_finds_nothing_in_file_systems_of_any_size() {
    const MIB: u64 = 1 << 20;
    for bytes in [
        SMALLEST,
        SMALLEST + 4095,
        3 * MIB + 512,
        16 * MIB,
        128 * MIB - 4096,
        128 * MIB,
        // A last group that is too small to be one, and the smallest that is one.
        128 * MIB + 4096,
        128 * MIB + (geometry::SMALLEST_GROUP as u64) * 4096,
        130 * MIB,
        1000 * MIB,
        // More groups than a block of descriptors holds.
        40 << 30,
        300 << 30,
    ] {
        let file = file_system(bytes);
        let output = Command::new("e2fsck").args(["-f", "-n"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{bytes} bytes: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_device_without_room_is_refused() {
    let file = tempfile::tempfile().unwrap();
    assert!(write(&file, SMALLEST - 1, IDENTITY).is_err());
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn little_is_written_however_large_the_device_is() {
    let written = |bytes: u64| -> usize {
        blocks(Geometry::of(bytes).unwrap(), IDENTITY).iter().map(|(_, content)| content.len()).sum()
    };
    assert!(written(1 << 20) <= 10 * BLOCK);
    // The descriptors of 80 000 groups are the most of it.
    assert!(written(10 << 40) < 3 << 20);
}
