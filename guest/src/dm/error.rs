//! Why device-mapper cannot do what was asked.

use std::io;

use super::Name;

/// Why device-mapper cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This kernel has no device-mapper, or not yet.
    #[error(
        "the kernel has no device-mapper here ({source}): load its module, `modprobe dm_mod`, or use a kernel \
         with CONFIG_BLK_DEV_DM"
    )]
    Missing {
        /// What opening `/dev/mapper/control` said.
        source: io::Error,
    },
    /// This kernel has device-mapper, but not the target `verity`.
    #[error(
        "the kernel has no dm-verity: load its module, `modprobe dm_verity`, or use a kernel with CONFIG_DM_VERITY"
    )]
    NoVerity,
    /// This kernel has device-mapper, but not the target `crypt`.
    #[error(
        "the kernel has no dm-crypt: load its modules, `modprobe dm_crypt` and `modprobe xts`, or use a kernel with \
         CONFIG_DM_CRYPT, CONFIG_CRYPTO_XTS and CONFIG_CRYPTO_AES"
    )]
    NoCrypt,
    /// There are no random numbers to make a key of.
    #[error(
        "cannot read random numbers for a key: {source}; the kernel needs a source of them, such as virtio-rng"
    )]
    NoRandom {
        /// What getrandom(2) said.
        source: io::Error,
    },
    /// We may not use device-mapper.
    #[error("cannot open /dev/mapper/control: {source}; device-mapper needs CAP_SYS_ADMIN")]
    Denied {
        /// What opening it said.
        source: io::Error,
    },
    /// A device of this name is there already.
    #[error("there is a device-mapper device {name} already: `dmsetup info {name}` shows it")]
    NameTaken {
        /// The name.
        name: Name,
    },
    /// The kernel refused something else.
    #[error("cannot {operation} the device-mapper device {name}: {source}; the kernel's log may say why")]
    Refused {
        /// What was to be done.
        operation: &'static str,
        /// With which device.
        name: Name,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not say which targets it has.
    #[error("cannot list the kernel's device-mapper targets: {source}")]
    Targets {
        /// Why not.
        source: io::Error,
    },
    /// The kernel's answer is not what its interface says.
    #[error("device-mapper's answer to {operation} makes no sense: {reason}")]
    Answer {
        /// What was asked.
        operation: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}
