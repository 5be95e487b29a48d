//! What the tool can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::devices::arguments::{DEVICES_EXAMPLES, Devices, RUN_EXAMPLES, RunVm};
use super::export::arguments::{EXPORT_EXAMPLES, Export, Exports};
use super::manifest::arguments::ManifestVerb;
use super::oci::Platform;
use super::policy::PolicyVerb;
use crate::config::defaults;
use crate::image::digest::{Digest, InvalidDigest};

/// Helps to operate nexuserofs-snapshotter.
#[derive(Debug, Parser)]
#[command(name = "nexuserofs", version)]
pub(super) struct Arguments {
    /// Print one JSON array instead of lines
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Print neither lines nor progress
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Build layers of tars and images, as the daemon would.
    ///
    /// Each layer becomes DIRECTORY/KEY.erofs, with its record in KEY.json. KEY comes from the digest of the
    /// layer's tar, and the bytes are a function of that tar: they are the same on every host. Layers that are
    /// there are not built again. Files are written under another name, synced and renamed.
    #[command(after_help = BUILD_EXAMPLES)]
    Build(Build),
    /// Write an image whose layers are EROFS images already, for registries.
    ///
    /// The output is a directory in OCI image layout, which skopeo and oras push as it is. Its layers are those that
    /// the daemon would make of the source's, so whoever pulls the image has nothing to convert. Media types
    /// and os.features are those of containerd's own converter. The same source gives the same output.
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(Convert),
    /// Make one block device of layers, for a virtual machine.
    ///
    /// DIRECTORY gets a VMDK descriptor, which names the layers' own files, or one flat file. What is there already
    /// is taken as it is. docs/block-devices.md tells which monitor takes what, and how.
    #[command(after_help = DEVICE_EXAMPLES)]
    Device(Device),
    /// Tell what a virtual machine monitor needs to boot on a snapshot.
    ///
    /// Every way in which the snapshot can reach a guest is told, with the disks, their serials, and which monitor can
    /// take them. The daemon may run. docs/block-devices.md compares the ways.
    #[command(after_help = DEVICES_EXAMPLES)]
    Devices(Devices),
    /// Serve layers, and a file that is written to, as disks of a virtual machine, over vhost-user-blk.
    ///
    /// One process is for one machine, whose memory it maps. It gives up all rights first, and serves one monitor after
    /// the other until it is ended. The daemon does the same for profiles whose flavour is "vhost-user".
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
    /// List what the daemon has served to virtual machines, with the numbers of requests, bytes and errors.
    Exports(Exports),
    /// Boot QEMU on a snapshot, with a kernel of yours, for a first look.
    ///
    /// The guest's console is here; Ctrl-A X ends it. The image is its first disk, and what the snapshot writes to is
    /// the last. What has to be made for it is made in TMPDIR, and goes with it.
    #[command(after_help = RUN_EXAMPLES)]
    RunVm(RunVm),
    /// Tell what is wrong with this node, and what to do about it. Needs root for some of it.
    ///
    /// Looks at the kernel, the daemon's data, the daemon, the programs that it runs, containerd, and containerd's
    /// settings, and changes nothing. Exits with 0 if nothing fails, warnings or not, and with 78 if something does.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Tell what is in EROFS images and in disks made of them.
    ///
    /// Names are those of files, or keys of layers, chains and snapshots of a daemon, which may run. A snapshot
    /// stands for its layers, the newest first. Exits with 65 if a file is none of what is known.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(Inspect),
    /// Mount layers on a directory, read-only, to look at them. Needs root.
    ///
    /// Several layers are joined as overlayfs joins them, the first one on top. A snapshot stands for the layers
    /// that it stands on; what an active one writes to is not shown. A chain is mounted as its merged image. Whatever unmounts the directory ends all.
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(Mount),
    /// Unmount what `mount` mounted. Nothing there is no mistake. Needs root.
    Umount(Umount),
    /// Read every block of layers, and hold them against their root hashes.
    ///
    /// The root hash is taken from the file beside a layer, FILE.dmverity, or is given. Bad blocks are told with the
    /// files of the image that they belong to. Exits with 0 if everything is proven, with 65 if something is damaged,
    /// and with 69 if nothing is known to be damaged but not everything could be proven.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Keep finished layers in a directory that daemons take them from (layer_content_caches).
    ///
    /// The directory has containerd's layout, DIRECTORY/sha256/XX/HEX.erofs by diffID. Files are
    /// written under another name, synced and renamed, so a daemon may use the directory meanwhile.
    #[command(subcommand)]
    Cache(CacheVerb),
    /// Lists of an image's layers, for guests that trust nothing else (docs/layers-manifest.md).
    #[command(subcommand)]
    Manifest(ManifestVerb),
    /// Which images a guest runs (docs/guest.md).
    #[command(subcommand)]
    Policy(PolicyVerb),
}

const BUILD_EXAMPLES: &str = "Examples:
  nexuserofs build --output layers --verity layer.tar.gz
  curl --silent URL | nexuserofs build --output layers -
  skopeo copy docker://IMAGE oci:image && nexuserofs build --output layers image
  nexuserofs build --output layers --image latest --platform linux/arm64 image.tar";

#[derive(Debug, Args)]
pub(super) struct Build {
    /// Where the layers go; made if it is missing
    #[arg(long, short, value_name = "DIRECTORY")]
    pub(super) output: PathBuf,
    /// Layer tars, plain or with gzip or zstd, with - for standard input; directories in OCI image layout, and
    /// plain tars of such
    #[arg(required = true, value_name = "TAR|LAYOUT")]
    pub(super) sources: Vec<PathBuf>,
    /// Take only the image that the layout calls so
    #[arg(long, value_name = "NAME")]
    pub(super) image: Option<String>,
    /// Take only images for this platform, such as linux/arm64
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub(super) platform: Option<Platform>,
    /// Take every source for the tar of a layer, also one that holds an image layout
    #[arg(long, conflicts_with_all = ["image", "platform"])]
    pub(super) layer: bool,
    /// Put a dm-verity tree behind each image, and its root hash into KEY.erofs.dmverity
    #[arg(long)]
    pub(super) verity: bool,
    /// Build what is there too, and replace it
    #[arg(long)]
    pub(super) force: bool,
}

const CONVERT_EXAMPLES: &str = "Examples:
  skopeo copy --all docker://IMAGE oci:image && nexuserofs convert image native
  skopeo copy --all oci:native docker://OTHER
  ctr images export image.tar IMAGE && nexuserofs convert --zstd image.tar native
  nexuserofs convert --from-containerd --to-containerd docker.io/library/debian:13 example.org/debian:13-erofs";

#[derive(Debug, Args)]
pub(super) struct Convert {
    /// A directory in OCI image layout, or a plain tar of one; with --from-containerd the name of an image
    #[arg(value_name = "LAYOUT|NAME")]
    pub(super) source: PathBuf,
    /// The directory that is made; with --to-containerd the name that the image gets
    #[arg(value_name = "OUTPUT|NAME")]
    pub(super) output: PathBuf,
    /// Take the image that containerd calls so, for this machine's platform unless --platform names another
    #[arg(long, conflicts_with = "image")]
    pub(super) from_containerd: bool,
    /// Put the image into containerd. Its layers are made in $TMPDIR first
    #[arg(long)]
    pub(super) to_containerd: bool,
    /// containerd's socket
    #[arg(long, value_name = "SOCKET", default_value = defaults::CONTAINERD_ADDRESS)]
    pub(super) containerd_address: PathBuf,
    /// containerd's namespace
    #[arg(long, value_name = "NAME", default_value = defaults::CONTAINERD_NAMESPACE)]
    pub(super) namespace: String,
    /// Take only the image that the layout calls so
    #[arg(long, value_name = "NAME")]
    pub(super) image: Option<String>,
    /// Take only images for this platform, such as linux/arm64
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub(super) platform: Option<Platform>,
    /// Compress the layers. A daemon that pulls them has to decompress them before it can use them
    #[arg(long)]
    pub(super) zstd: bool,
    /// Leave os.features as it is, so that clients take the image that do not ask for linux(+erofs)
    #[arg(long)]
    pub(super) without_os_features: bool,
    /// Replace the output if it is there, or is the name of another image
    #[arg(long)]
    pub(super) force: bool,
}

const DEVICE_EXAMPLES: &str = "Examples:
  nexuserofs device --output disk layers/BOTTOM.erofs layers/TOP.erofs
  nexuserofs device --output disk --layout partitions --flat layers/BOTTOM.erofs layers/TOP.erofs";

#[derive(Debug, Args)]
pub(super) struct Device {
    /// Where the device's files go; made if it is missing
    #[arg(long, short, value_name = "DIRECTORY")]
    pub(super) output: PathBuf,
    /// What lies on it
    #[arg(long, value_enum, default_value_t = DeviceLayout::Merged)]
    pub(super) layout: DeviceLayout,
    /// Put everything into one file, for monitors that read no VMDK
    #[arg(long)]
    pub(super) flat: bool,
    /// EROFS files of layers, the oldest first
    #[arg(required = true, value_name = "LAYER")]
    pub(super) layers: Vec<PathBuf>,
}

/// What lies on a device.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum DeviceLayout {
    /// One file system of all layers, for Linux 6.4 and later
    Merged,
    /// The same with one dm-verity tree behind it, for nexuserofs-guest; every layer needs its .dmverity file
    Verified,
    /// A partition for each layer, the newest first, named as Kata's agent knows them
    Partitions,
    /// The same, named as nerdbox does
    NerdboxPartitions,
}

const DOCTOR_EXAMPLES: &str = "Examples:
  nexuserofs doctor
  nexuserofs doctor --json
  nexuserofs doctor --config settings.toml --containerd-config /etc/k3s/config.toml";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The daemon's settings file [default: /etc/nexuserofs/nexuserofs.toml, where it is there]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// As the daemon's flag, if that is given one
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) root: Option<String>,
    /// As the daemon's flag, if that is given one
    #[arg(long, value_name = "SOCKET")]
    pub(super) address: Option<String>,
    /// As the daemon's flag, if that is given one
    #[arg(long, value_name = "SOCKET")]
    pub(super) containerd_address: Option<String>,
    /// containerd's settings file [default: the one that the running containerd was started with]
    #[arg(long, value_name = "FILE")]
    pub(super) containerd_config: Option<PathBuf>,
}

const INSPECT_EXAMPLES: &str = "Examples:
  nexuserofs inspect layer.erofs
  nexuserofs inspect --files v1-ba7816bf8f01cfea414140de5dae2223
  nexuserofs inspect --json sha256:7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc";

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Files, or keys of layers, chains and snapshots
    #[arg(required = true, value_name = "FILE|KEY")]
    pub(super) names: Vec<PathBuf>,
    /// List the files of images
    #[arg(long)]
    pub(super) files: bool,
    /// Data of the daemon that has what keys name
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
    pub(super) root: PathBuf,
}

const MOUNT_EXAMPLES: &str = "Examples:
  nexuserofs mount layer.erofs /mnt
  nexuserofs mount newer.erofs older.erofs /mnt
  nexuserofs mount sha256:7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc /mnt
  nexuserofs umount /mnt";

#[derive(Debug, Args)]
pub(super) struct Mount {
    /// Files of layers, or keys of layers, chains and snapshots, the newest first
    #[arg(required = true, value_name = "FILE|KEY")]
    pub(super) names: Vec<PathBuf>,
    /// Where; nothing may be mounted there
    #[arg(required = true)]
    pub(super) directory: PathBuf,
    /// Data of the daemon that has what keys name
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
    pub(super) root: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Umount {
    /// Where
    pub(super) directory: PathBuf,
}

const VERIFY_EXAMPLES: &str = "Examples:
  nexuserofs verify layer.erofs
  nexuserofs verify --root-hash 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae layer.erofs
  nexuserofs verify sha256:7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc";

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Files of layers, or keys of layers, chains and snapshots
    #[arg(required = true, value_name = "FILE|KEY")]
    pub(super) names: Vec<PathBuf>,
    /// The root hash of the only file that is named, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = root_hash)]
    pub(super) root_hash: Option<Digest>,
    /// Data of the daemon that has what keys name
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
    pub(super) root: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// Build layers and put them into a cache.
    Add {
        /// The cache; made if it is missing
        directory: PathBuf,
        /// Layer tars, plain or with gzip or zstd, and directories in OCI image layout (skopeo copy
        /// docker://IMAGE oci:DIRECTORY), of which every layer of every image is taken
        #[arg(required = true, value_name = "TAR|LAYOUT")]
        sources: Vec<PathBuf>,
        /// Give the layers dm-verity trees, for daemons with a profile that wants them
        #[arg(long)]
        verity: bool,
    },
    /// Put the layers that a daemon has into a cache. The daemon may run.
    Export {
        /// The cache; made if it is missing
        directory: PathBuf,
        /// The daemon's data
        #[arg(long, value_name = "DIRECTORY", default_value = defaults::ROOT)]
        root: PathBuf,
    },
    /// List the layers of a cache.
    List {
        /// The cache
        directory: PathBuf,
    },
    /// Check the layers of a cache: owner, size, superblock, metadata, and that each is the layer that its name
    /// says. Exits with 65 if one cannot be taken.
    Verify {
        /// The cache
        directory: PathBuf,
    },
}

/// A root hash as veritysetup prints it, or with its algorithm in front.
pub(super) fn root_hash(text: &str) -> Result<Digest, InvalidDigest> {
    if text.contains(':') { text.parse() } else { format!("sha256:{text}").parse() }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
