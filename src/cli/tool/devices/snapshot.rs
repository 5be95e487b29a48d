//! What there is of a snapshot on this host, as disks.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::arguments::{Transport, Which};
use super::disk::{Backing, Disk, Offer, State};
use crate::cli::tool::error::Error;
use crate::expose::device::{Carrier, Form, Layout};
use crate::expose::export::{Place, Role, place};
use crate::expose::plan::{BLOCK_NAME, UPPER_NAME};
use crate::image::gpt::{self, Style};
use crate::layer::chain::{ChainKey, ChainLayer, ChainShelf};
use crate::layer::{LayerKey, Shelf};
use crate::snapshot::lookup::{self, Found, Writes};

/// A snapshot, and where its parts are.
#[derive(Debug)]
pub(super) struct Snapshot {
    found: Found,
    /// Files of its layers, the oldest first.
    layers: Vec<PathBuf>,
    /// Where the daemon keeps what is made of these layers together. None where there are fewer than two.
    chain: Option<PathBuf>,
    exports: Place,
}

impl Snapshot {
    /// The snapshot that is meant.
    pub(super) fn find(which: &Which) -> Result<Self, Error> {
        let mut found = lookup::find(&which.root, &which.snapshot)?;
        found.retain(|found| which.snapshotter.as_ref().is_none_or(|name| *name == found.profile));
        let alike =
            |one: &Found| found.iter().all(|other| other.layers == one.layers && other.writes == one.writes);
        let first = match found.first() {
            None => return Err(Error::NoSnapshot { key: which.snapshot.clone(), root: which.root.clone() }),
            Some(first) if alike(first) => first.clone(),
            Some(_) => {
                let names = found.iter().map(|found| format!("{} of {}", found.key, found.profile));
                let found = names.collect::<Vec<_>>().join(", ");
                return Err(Error::Ambiguous { key: which.snapshot.clone(), found });
            }
        };
        Self::of(first, &which.root)
    }

    fn of(found: Found, root: &Path) -> Result<Self, Error> {
        let root = fs::canonicalize(root).map_err(|source| Error::Read { path: root.to_owned(), source })?;
        let shelf = Shelf::new(root.join(Shelf::DIRECTORY));
        let oldest_first: Vec<&LayerKey> = found.layers.iter().rev().collect();
        let chain = match oldest_first.len() {
            0 | 1 => None,
            _ => Some(root.join(ChainShelf::DIRECTORY).join(chain_key(&shelf, &oldest_first)?.as_str())),
        };
        let layers = oldest_first.into_iter().map(|key| shelf.image(key)).collect();
        let exports = Place::new(root.join(place::DIRECTORY).join(&found.id));
        Ok(Self { found, layers, chain, exports })
    }

    /// Files of its layers, the oldest first.
    pub(super) fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// Every way to give it to a guest. Disks of layers together are looked for in `made` too.
    pub(super) fn offers(&self, made: Option<&Path>) -> Vec<Offer> {
        Transport::ALL.map(|transport| self.offer(transport, made)).into()
    }

    /// One of these ways.
    pub(super) fn offer(&self, transport: Transport, made: Option<&Path>) -> Offer {
        let state = match (transport, form(transport)) {
            (_, Some(form)) => self.together(transport, form, made),
            (Transport::VhostUser, None) => self.exported(),
            (_, None) => self.with_writable(self.files()),
        };
        Offer { transport, state, guest: self.guest(transport) }
    }

    fn is_exported(&self) -> bool {
        Role::ALL.iter().any(|role| is_socket(&self.exports.socket(*role)))
    }

    /// Over the daemon's sockets.
    fn exported(&self) -> State {
        let served = Role::ALL.map(|role| (role, self.exports.socket(role)));
        let disk = |(role, path)| disk(role, Backing::Socket(path));
        let disks: Vec<Disk> = served.into_iter().filter(|(_, path)| is_socket(path)).map(disk).collect();
        match disks.is_empty() {
            false => State::Ready { disks },
            true => State::Missing {
                remedy: "prepare the snapshot with a profile whose flavour is \"vhost-user\", or run nexuserofs export"
                    .to_owned(),
            },
        }
    }

    /// Every layer's own file, the newest first, as plans have them.
    fn files(&self) -> Vec<Disk> {
        let disk = |(number, path): (usize, &PathBuf)| Disk {
            serial: format!("layer{number}"),
            read_only: true,
            backing: Backing::Raw(path.clone()),
        };
        self.layers.iter().rev().enumerate().map(disk).collect()
    }

    /// One disk for all layers.
    fn together(&self, transport: Transport, form: Form, made: Option<&Path>) -> State {
        let is_merged = form.layout == Layout::Merged;
        match self.layers.as_slice() {
            [] => return State::Impossible { reason: "it has no layers".to_owned() },
            // A single layer is the file system that all layers together would be.
            [only] if is_merged => return self.with_writable(vec![image(Backing::Raw(only.clone()))]),
            layers if !is_merged && layers.len() > gpt::LARGEST_COUNT => {
                let reason = format!("{} layers are more than the partitions of a disk", layers.len());
                return State::Impossible { reason };
            }
            _ => {}
        }
        let homes = self.chain.iter().map(PathBuf::as_path).chain(made);
        let mut places = homes.map(|home| home.join(form.file_name()));
        match places.find(|place| place.is_file()) {
            Some(place) => self.with_writable(vec![image(match form.carrier {
                Carrier::Vmdk => Backing::Vmdk(place),
                Carrier::Flat => Backing::Raw(place),
            })]),
            None => State::Missing {
                remedy: format!(
                    "add --transport {} --output DIRECTORY, which makes it there",
                    transport.name()
                ),
            },
        }
    }

    /// These disks, and the one that is written to.
    fn with_writable(&self, mut disks: Vec<Disk>) -> State {
        match &self.found.writes {
            _ if self.is_exported() => {
                let reason = "its disks are exported, and no other may write beside that: use vhost-user";
                return State::Impossible { reason: reason.to_owned() };
            }
            Writes::Nowhere => {}
            Writes::Block(file) => {
                disks.push(disk(Role::Writable, Backing::Raw(file.clone())));
            }
            Writes::Directory => {
                let reason = format!(
                    "it writes to the directory {UPPER_NAME} on the host; give its profile a default_size"
                );
                return State::Impossible { reason };
            }
            Writes::MountedBlock => {
                let reason =
                    format!("the daemon has its {BLOCK_NAME} mounted; use a profile of another flavour");
                return State::Impossible { reason };
            }
        }
        match disks.is_empty() {
            true => State::Impossible { reason: "it has neither layers nor a writable block".to_owned() },
            false => State::Ready { disks },
        }
    }

    /// What the guest does with the disks.
    fn guest(&self, transport: Transport) -> String {
        let image = match transport {
            Transport::Merged | Transport::Flat => "mount the disk \"image\": -t erofs -o ro".to_owned(),
            Transport::Gpt => {
                "join the partitions of the disk \"image\" with overlayfs, the first on top".to_owned()
            }
            Transport::Files => {
                "join the disks \"layer0\" and so on with overlayfs, the first on top".to_owned()
            }
            Transport::VhostUser => {
                "the disk \"image\" is one EROFS or has a partition for each layer, as the mounts say"
                    .to_owned()
            }
        };
        match self.found.writes {
            Writes::Block(_) => {
                format!(
                    "{image}; its changes go to upper and work on the disk \"{}\" (ext4)",
                    Role::Writable.serial()
                )
            }
            Writes::Nowhere | Writes::Directory | Writes::MountedBlock => image,
        }
    }
}

/// How the layers lie on one disk.
pub(super) const fn form(transport: Transport) -> Option<Form> {
    match transport {
        Transport::Merged => Some(Form { layout: Layout::Merged, carrier: Carrier::Vmdk }),
        Transport::Gpt => Some(Form { layout: Layout::Partitions(Style::Kata), carrier: Carrier::Vmdk }),
        Transport::Flat => Some(Form { layout: Layout::Merged, carrier: Carrier::Flat }),
        Transport::VhostUser | Transport::Files => None,
    }
}

fn image(backing: Backing) -> Disk {
    disk(Role::Image, backing)
}

fn disk(role: Role, backing: Backing) -> Disk {
    Disk { serial: role.serial().to_owned(), read_only: role == Role::Image, backing }
}

fn chain_key(shelf: &Shelf, oldest_first: &[&LayerKey]) -> Result<ChainKey, Error> {
    let layer = |key: &&LayerKey| {
        let bytes = shelf.read_record(key)?.image_bytes;
        Ok(ChainLayer { key: (*key).clone(), bytes })
    };
    Ok(ChainKey::of(&oldest_first.iter().map(layer).collect::<Result<Vec<_>, Error>>()?))
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
}
