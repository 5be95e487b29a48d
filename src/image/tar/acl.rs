//! POSIX access control lists in the form of extended attributes (`linux/posix_acl_xattr.h`):
//! version 2 as 32 bits, then entries of tag and permissions (16 bits each) and an id (32 bits), all
//! little-endian.
//!
//! containerd sets the attribute and then the mode, so Linux brings the list into line with the mode.
//! A layer must come out the same here.

use super::error::{Fault, Name, Refusal};
use super::xattr::{ACCESS_ACL, DEFAULT_ACL};
use crate::image::tree::Metadata;

/// Version of the attribute's format.
const VERSION: u32 = 2;

/// The id of an entry that needs none.
const NO_ID: u32 = u32::MAX;

/// Whom an entry is about. The order of the tags is the order in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: Tag,
    permissions: u16,
    id: u32,
}

/// Checks both lists of an inode, brings the access list into line with the mode, and drops a list
/// that says no more than the mode. A list of another version has no effect, and goes too.
pub(super) fn settle(metadata: &mut Metadata) -> Result<(), Fault> {
    for name in [ACCESS_ACL, DEFAULT_ACL] {
        let Some(value) = metadata.xattrs.get(name) else { continue };
        let known = value.first_chunk().is_none_or(|version| u32::from_le_bytes(*version) == VERSION);
        let entries = if known { parse(value) } else { Some(Vec::new()) };
        let mut entries = entries.ok_or_else(|| Refusal::AccessControlList(Name::new(name)))?;
        let says_more = match name {
            ACCESS_ACL => entries.iter().any(|entry| matches!(entry.tag, Tag::User | Tag::Group | Tag::Mask)),
            _ => !entries.is_empty(),
        };
        if !says_more {
            metadata.xattrs.remove(name);
            continue;
        }
        if name == ACCESS_ACL {
            apply_mode(&mut entries, metadata.mode);
        }
        metadata.xattrs.insert(name.to_vec(), encode(&entries));
    }
    Ok(())
}

/// The mode's bits for the group are the mask's where there is one, and the owning group's elsewhere.
fn apply_mode(entries: &mut [Entry], mode: u16) {
    let has_mask = entries.iter().any(|entry| entry.tag == Tag::Mask);
    for entry in entries {
        let shift = match entry.tag {
            Tag::Owner => 6,
            Tag::Mask => 3,
            Tag::OwningGroup if !has_mask => 3,
            Tag::Other => 0,
            Tag::OwningGroup | Tag::User | Tag::Group => continue,
        };
        entry.permissions = mode >> shift & 7;
    }
}

/// The entries of a valid list: one each for owner, owning group and other, at most one mask, and
/// one if there are users or groups, in the order of the tags.
fn parse(value: &[u8]) -> Option<Vec<Entry>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let (_, rest) = value.split_first_chunk::<4>()?;
    let (entries, rest) = rest.as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    let entries: Vec<Entry> = entries.iter().map(parse_entry).collect::<Option<_>>()?;
    is_valid(&entries).then_some(entries)
}

fn parse_entry(bytes: &[u8; 8]) -> Option<Entry> {
    let &[tag_low, tag_high, low, high, ref id @ ..] = bytes;
    let id = u32::from_le_bytes(*id);
    let permissions = u16::from_le_bytes([low, high]);
    let (tag, id) = match u16::from_le_bytes([tag_low, tag_high]) {
        0x01 => (Tag::Owner, NO_ID),
        0x02 => (Tag::User, id),
        0x04 => (Tag::OwningGroup, NO_ID),
        0x08 => (Tag::Group, id),
        0x10 => (Tag::Mask, NO_ID),
        0x20 => (Tag::Other, NO_ID),
        _ => return None,
    };
    let is_named = matches!(tag, Tag::User | Tag::Group);
    (permissions <= 7 && (!is_named || id != NO_ID)).then_some(Entry { tag, permissions, id })
}

fn is_valid(entries: &[Entry]) -> bool {
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let is_named = count(Tag::User) + count(Tag::Group) > 0;
    entries.is_empty()
        || entries.is_sorted_by_key(|entry| entry.tag)
            && [Tag::Owner, Tag::OwningGroup, Tag::Other].into_iter().all(|tag| count(tag) == 1)
            && (usize::from(is_named)..=1).contains(&count(Tag::Mask))
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        let tag: u16 = match entry.tag {
            Tag::Owner => 0x01,
            Tag::User => 0x02,
            Tag::OwningGroup => 0x04,
            Tag::Group => 0x08,
            Tag::Mask => 0x10,
            Tag::Other => 0x20,
        };
        value.extend(tag.to_le_bytes());
        value.extend(entry.permissions.to_le_bytes());
        value.extend(entry.id.to_le_bytes());
    }
    value
}
