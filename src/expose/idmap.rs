//! Mappings of user namespaces: which identifier on the host stands for which one in a container.
//!
//! Format: `CONTAINER:HOST:SIZE`, several joined by commas, in decimal, as containerd writes it into
//! the labels [`UID_LABEL`] and [`GID_LABEL`] (`internal/userns` in containerd) and reads it from the
//! mount options `uidmap=` and `gidmap=` (`core/mount`). The kernel's own form is described in
//! user_namespaces(7).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::layer::RootAttributes;

/// Label on a snapshot: how the user identifiers of its container are mapped.
pub const UID_LABEL: &str = "containerd.io/snapshot/uidmapping";
/// Label on a snapshot: how the group identifiers of its container are mapped.
pub const GID_LABEL: &str = "containerd.io/snapshot/gidmapping";

/// Most ranges that the kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
const MOST_RANGES: usize = 340;

/// A run of neighbouring identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    container: u32,
    host: u32,
    /// How many, at least one. Neither side passes the largest identifier, 4294967294.
    size: u32,
}

/// A mapping of user or of group identifiers that the kernel accepts. It maps 0, the container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IdMap(Vec<Range>);

/// How the users and groups of a container are mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// User identifiers.
    pub uids: IdMap,
    /// Group identifiers.
    pub gids: IdMap,
}

/// A text that is not a mapping.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidIdMap {
    /// Not three numbers.
    #[error("{0:?} is not CONTAINER:HOST:SIZE, three numbers up to 4294967294 with a size of at least 1")]
    NotARange(String),
    /// A range goes past the largest identifier.
    #[error("{0:?} goes past 4294967294, the largest identifier")]
    TooLarge(String),
    /// Two ranges share an identifier.
    #[error("{0:?} maps identifiers that a range before it maps too")]
    Overlap(String),
    /// More ranges than the kernel takes.
    #[error("{0} ranges are more than the 340 that the kernel takes")]
    TooMany(usize),
    /// The container has no root.
    #[error("no range maps identifier 0, which a container's root directory needs")]
    NoRoot,
}

impl IdMap {
    /// The identifier on the host that stands for `id` in the container. None if none does.
    #[must_use]
    pub fn to_host(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| shift(id, range.container, range.host, range.size))
    }

    /// The identifier in the container that `id` on the host stands for. None if it stands for none.
    #[must_use]
    pub fn to_container(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|range| shift(id, range.host, range.container, range.size))
    }

    /// The ranges: first identifier in the container, first one on the host, and how many.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        self.0.iter().map(|range| (range.container, range.host, range.size))
    }

    /// The identifier on the host of the container's root.
    #[must_use]
    pub fn root(&self) -> u32 {
        // Every map has one, see `from_str`.
        self.to_host(0).unwrap_or_default()
    }
}

impl IdMapping {
    /// The attributes that `/` must have on the host so that the container sees `root`. An owner that
    /// the container cannot have becomes its root.
    #[must_use]
    pub fn root_on_host(&self, root: &RootAttributes) -> RootAttributes {
        RootAttributes {
            uid: self.uids.to_host(root.uid).unwrap_or_else(|| self.uids.root()),
            gid: self.gids.to_host(root.gid).unwrap_or_else(|| self.gids.root()),
            ..root.clone()
        }
    }
}

/// Where `id` comes to lie if `size` identifiers from `from` on are moved to `to`.
fn shift(id: u32, from: u32, to: u32, size: u32) -> Option<u32> {
    let distance = id.checked_sub(from).filter(|distance| *distance < size)?;
    to.checked_add(distance)
}

impl Range {
    fn overlaps(&self, other: &Self) -> bool {
        let meet = |one: u32, two: u32| {
            u64::from(one) < u64::from(two) + u64::from(other.size)
                && u64::from(two) < u64::from(one) + u64::from(self.size)
        };
        meet(self.container, other.container) || meet(self.host, other.host)
    }
}

impl FromStr for Range {
    type Err = InvalidIdMap;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(':').map(number);
        let (Some(Some(container)), Some(Some(host)), Some(Some(size)), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(InvalidIdMap::NotARange(text.to_owned()));
        };
        // The kernel keeps 4294967295 for "no identifier".
        let fits = |first: u32| u64::from(first) + u64::from(size) <= u64::from(u32::MAX);
        match size {
            0 => Err(InvalidIdMap::NotARange(text.to_owned())),
            _ if !fits(container) || !fits(host) => Err(InvalidIdMap::TooLarge(text.to_owned())),
            _ => Ok(Self { container, host, size }),
        }
    }
}

/// A number in digits only: `u32`'s own parser would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl FromStr for IdMap {
    type Err = InvalidIdMap;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ranges: Vec<Range> = Vec::new();
        for part in text.split(',') {
            let range: Range = part.parse()?;
            if ranges.iter().any(|other| other.overlaps(&range)) {
                return Err(InvalidIdMap::Overlap(part.to_owned()));
            }
            ranges.push(range);
        }
        let map = Self(ranges);
        match map.to_host(0) {
            _ if map.0.len() > MOST_RANGES => Err(InvalidIdMap::TooMany(map.0.len())),
            None => Err(InvalidIdMap::NoRoot),
            Some(_) => Ok(map),
        }
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Range { container, host, size }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{container}:{host}:{size}")?;
        }
        Ok(())
    }
}

impl From<IdMap> for String {
    fn from(map: IdMap) -> Self {
        map.to_string()
    }
}

impl TryFrom<String> for IdMap {
    type Error = InvalidIdMap;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> IdMap {
        text.parse().unwrap()
    }

    #[test]
    fn identifiers_are_mapped_both_ways_and_others_are_not() {
        let map = map("0:100000:1000,5000:7:2");
        for (container, host) in [(0, 100_000), (999, 100_999), (5000, 7), (5001, 8)] {
            assert_eq!(map.to_host(container), Some(host));
            assert_eq!(map.to_container(host), Some(container));
        }
        for id in [1000, 4999, 5002, u32::MAX] {
            assert_eq!(map.to_host(id), None, "{id}");
        }
        for id in [0, 6, 9, 99_999, 101_000] {
            assert_eq!(map.to_container(id), None, "{id}");
        }
        assert_eq!(map.root(), 100_000);
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        let many = (0..341).map(|id| format!("{id}:{id}:1")).collect::<Vec<_>>().join(",");
        let refused = |text: &str| text.parse::<IdMap>().unwrap_err();
        for text in ["", "0", "0:0", "0:0:0", "0:1:2:3", "a:0:1", "0:-1:1", "+0:0:1", "0:0:1,", "0: 0:1"] {
            assert!(matches!(refused(text), InvalidIdMap::NotARange(_)), "{text}");
        }
        for text in ["0:4294967295:1", "0:1:4294967295", "4294967290:0:10"] {
            assert!(matches!(refused(text), InvalidIdMap::TooLarge(_)), "{text}");
        }
        for text in ["0:0:10,9:100:1", "0:0:10,20:9:1", "5:5:1,0:0:6"] {
            assert!(matches!(refused(text), InvalidIdMap::Overlap(_)), "{text}");
        }
        assert_eq!(refused("1:0:1"), InvalidIdMap::NoRoot);
        assert_eq!(refused(&many), InvalidIdMap::TooMany(341));
        assert_eq!(map("0:0:4294967295").to_host(4_294_967_294), Some(4_294_967_294));
    }

    #[test]
    fn the_owner_of_the_root_directory_is_shifted_and_its_mode_is_kept() {
        let mapping = IdMapping { uids: map("0:1000:10"), gids: map("0:2000:10") };
        let root = |uid, gid| RootAttributes { mode: 0o1777, uid, gid, xattrs: BTreeMap::new() };
        assert_eq!(mapping.root_on_host(&root(5, 6)), root(1005, 2006));
        assert_eq!(mapping.root_on_host(&root(10, 10)), root(1000, 2000));
    }

    proptest! {
        #[test]
        fn a_text_round_trips_and_a_mapped_identifier_comes_back(
            host in 0_u32..4_000_000_000, size in 1_u32..65_536, id in 0_u32..70_000,
        ) {
            let text = format!("0:{host}:{size}");
            let map = map(&text);
            prop_assert_eq!(map.to_string(), text);
            prop_assert_eq!(map.to_host(id).is_some(), id < size);
            if let Some(mapped) = map.to_host(id) {
                prop_assert_eq!(map.to_container(mapped), Some(id));
            }
        }
    }
}
