//! Extended attributes.

use nexuserofs::image::tar::{Fault, Quantity, Refusal};

use crate::archive::{Entry, archive};
use crate::listing::{fault, list, read};

#[test]
fn families_that_are_kept() {
    let listing = list(&archive(&[Entry::file("f", "")
        .xattr("user.a", "1")
        .xattr("trusted.b", "2")
        .xattr("security.selinux", "label")
        .xattr("user.empty", "")
        .xattr("user.a", "last")]));
    assert_eq!(listing[1], "/f f0644 \"\" security.selinux=label trusted.b=2 user.a=last user.empty=");
}

#[test]
fn overlay_metadata_never_takes_effect() {
    let names =
        ["opaque", "whiteout", "redirect", "metacopy", "origin", "nexuserofs.implicit", "overlay.opaque"];
    let entry = names.iter().fold(Entry::directory("d"), |entry, name| {
        entry.xattr(format!("trusted.overlay.{name}"), "y").xattr(format!("user.overlay.{name}"), "y")
    });
    let entry = entry.xattr("trusted.overlayfs", "kept");
    assert_eq!(list(&archive(&[entry])), ["/ d0755 implicit", "/d d0755 trusted.overlayfs=kept"]);
}

#[test]
fn overlay_metadata_cannot_take_marks_away() {
    let listing = list(&archive(&[
        Entry::file("d/.wh..wh..opq", ""),
        Entry::directory("d").xattr("trusted.overlay.opaque", "n"),
    ]));
    assert_eq!(listing[1], "/d d0755 opaque");
}

#[test]
fn families_that_linux_does_not_know_are_dropped() {
    let listing = list(&archive(&[Entry::file("f", "")
        .xattr("com.apple.quarantine", "x")
        .xattr("system.nfs4_acl", "x")
        .xattr("USER.a", "x")
        .xattr("trusted.", "x")
        .pax("LIBARCHIVE.xattr.user.b", "eA==")
        .pax("SCHILY.acl.access", "user::rwx")
        .pax("RHT.security.selinux", "label")]));
    assert_eq!(listing[1], "/f f0644 \"\"");
}

#[test]
fn user_attributes_are_for_files_and_directories() {
    let listing = list(&archive(&[
        Entry::symlink("l", "t").xattr("user.a", "1").xattr("security.b", "2").xattr("trusted.c", "3"),
        Entry::new(b'6', "p").xattr("user.a", "1").xattr("security.b", "2"),
        Entry::directory("d").xattr("user.a", "1"),
    ]));
    assert_eq!(
        listing,
        [
            "/ d0755 implicit",
            "/d d0755 user.a=1",
            "/l l0777 -> t security.b=2 trusted.c=3",
            "/p p0644 security.b=2",
        ]
    );
}

#[test]
fn values_are_bytes() {
    let value: Vec<u8> = (0..=255).cycle().take(60 * 1024).collect();
    let image = read(&archive(&[Entry::file("f", "")
        .xattr("user.large", &value)
        .xattr("user.lines", "a\nb\0c=d\n")
        .xattr("user.\u{e9} =", "odd name")]))
    .unwrap();
    let xattrs = &image.at("/f").metadata.xattrs;
    assert_eq!(xattrs[b"user.large".as_slice()], value);
    assert_eq!(xattrs[b"user.lines".as_slice()], b"a\nb\0c=d\n");
    // The key ends at the first equals sign, so this one belongs to the value.
    assert_eq!(xattrs["user.\u{e9} ".as_bytes()], b"=odd name");
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    for name in ["", "user.", "security."] {
        let fault = fault(&archive(&[Entry::file("f", "").xattr(name, "x")]));
        assert!(matches!(fault, Fault::Refused(Refusal::XattrName(_))), "{name}: {fault}");
    }
}

#[test]
fn capabilities_are_of_a_revision_that_linux_knows() {
    let revision = |number: u8, length: usize| {
        let mut value = vec![0; length];
        value[3] = number;
        read(&archive(&[Entry::file("f", "").xattr("security.capability", value)])).map(drop)
    };
    assert!(revision(2, 20).is_ok());
    assert!(revision(3, 24).is_ok());
    let reserved_bits = [2, 0, 0, 2].into_iter().chain([0; 16]).collect::<Vec<u8>>();
    assert!(read(&archive(&[Entry::file("f", "").xattr("security.capability", reserved_bits)])).is_err());
    for (number, length) in [(2, 24), (3, 20), (1, 20), (4, 24), (2, 19), (2, 4)] {
        assert!(revision(number, length).is_err(), "{number} {length}");
    }
}

#[test]
fn sizes_are_limited_by_linux_and_erofs() {
    let breach = |entry: Entry| match fault(&archive(&[entry])) {
        Fault::Exceeded(breach) => (breach.what, breach.value, breach.limit),
        fault => panic!("{fault}"),
    };
    let name = |length: usize| format!("user.{}", "n".repeat(length - 5));
    assert_eq!(breach(Entry::file("f", "").xattr(name(256), "")), (Quantity::XattrNameBytes, 256, 255));
    let large = vec![b'v'; 65_536];
    assert_eq!(
        breach(Entry::file("f", "").xattr("user.a", &large)),
        (Quantity::XattrValueBytes, 65_536, 65_535)
    );
    let entry = |count: u8| {
        (0..count).fold(Entry::file("f", ""), |entry, number| {
            entry.xattr([b'u', b's', b'e', b'r', b'.', b'a' + number], &large[1..])
        })
    };
    assert_eq!(breach(entry(4)), (Quantity::XattrBytes, 4 * 65_548, 262_008));
    let fits = entry(3).xattr(name(255), vec![b'v'; 65_105]);
    assert_eq!(read(&archive(&[fits])).unwrap().at("/f").metadata.xattrs.len(), 4);
}

/// Entries of a list: tag, permissions, id.
fn list_of(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

const NONE: u32 = u32::MAX;

#[test]
fn the_mode_goes_into_the_access_list() {
    let with_mask =
        list_of(&[(1, 7, NONE), (2, 6, 1000), (4, 5, NONE), (8, 4, 50), (16, 7, NONE), (32, 7, NONE)]);
    let settled =
        list_of(&[(1, 6, NONE), (2, 6, 1000), (4, 5, NONE), (8, 4, 50), (16, 4, NONE), (32, 0, NONE)]);
    let image = read(&archive(&[
        Entry::file("f", "").mode(0o640).xattr("system.posix_acl_access", &with_mask),
        Entry::directory("d").xattr("system.posix_acl_default", &with_mask),
    ]))
    .unwrap();
    assert_eq!(image.at("/f").metadata.xattrs[b"system.posix_acl_access".as_slice()], settled);
    assert_eq!(image.at("/d").metadata.xattrs[b"system.posix_acl_default".as_slice()], with_mask);
}

#[test]
fn a_list_that_says_no_more_than_the_mode_is_dropped() {
    let minimal = list_of(&[(1, 7, 0), (4, 7, 0), (32, 7, 0)]);
    let listing =
        list(&archive(&[Entry::file("f", "").mode(0o600).xattr("system.posix_acl_access", &minimal)]));
    assert_eq!(listing[1], "/f f0600 \"\"");
    let other_version = Entry::file("f", "").xattr("system.posix_acl_access", [3, 0, 0, 0, 1]);
    assert_eq!(list(&archive(&[other_version]))[1], "/f f0644 \"\"");
}

#[test]
fn lists_that_linux_does_not_take_are_refused() {
    let lists = [
        b"x".to_vec(),
        list_of(&[(1, 7, NONE)]),
        list_of(&[(1, 8, NONE), (4, 7, NONE), (32, 7, NONE)]),
        list_of(&[(4, 7, NONE), (1, 7, NONE), (32, 7, NONE)]),
        list_of(&[(1, 7, NONE), (2, 7, 5), (4, 7, NONE), (32, 7, NONE)]),
        list_of(&[(1, 7, NONE), (2, 7, NONE), (4, 7, NONE), (16, 7, NONE), (32, 7, NONE)]),
        list_of(&[(1, 7, NONE), (4, 7, NONE), (32, 7, NONE), (64, 7, NONE)]),
    ];
    for list in lists {
        let fault = fault(&archive(&[Entry::file("f", "").xattr("system.posix_acl_access", &list)]));
        assert!(matches!(fault, Fault::Refused(Refusal::AccessControlList(_))), "{list:?}: {fault}");
    }
}

#[test]
fn default_lists_are_for_directories() {
    let value = list_of(&[(1, 7, NONE), (4, 7, NONE), (32, 7, NONE)]);
    let entry = Entry::file("f", "").xattr("system.posix_acl_default", &value);
    assert_eq!(fault(&archive(&[entry])), Fault::Refused(Refusal::DefaultAclOnFile));
    let listing = list(&archive(&[Entry::symlink("l", "t").xattr("system.posix_acl_default", &value)]));
    assert_eq!(listing[1], "/l l0777 -> t");
}
