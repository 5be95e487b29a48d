//! Why an image does not run.

use crate::manifest::{ImageHash, KeyId, UnixTime};
use crate::part::Part;
use crate::word::Word;

use super::UpperKind;

/// Why what the host gave is not made a root file system of. Nothing was mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The policy names image hashes, and this is none of them.
    #[error("the policy does not allow the image hash {hash}")]
    ImageHashNotAllowed {
        /// The manifest's.
        hash: ImageHash,
    },
    /// The policy asks for a signature.
    #[error(
        "the manifest has no signature, and the policy asks for one: sign it with `nexuserofs manifest sign`"
    )]
    Unsigned,
    /// Someone else signed it.
    #[error("the policy does not know the key {id} that signed the manifest")]
    KeyNotAllowed {
        /// The key's id, as the statement says.
        id: KeyId,
    },
    /// The signature is of something else, or of another key.
    #[error("the signature by the key {id} is wrong: the statement was changed, or another key signed it")]
    SignatureWrong {
        /// The key's id.
        id: KeyId,
    },
    /// The statement is about another manifest.
    #[error("the signature by the key {id} is about the image {signed}, and the manifest is of {found}")]
    SignedAnother {
        /// The key's id.
        id: KeyId,
        /// What was signed.
        signed: ImageHash,
        /// What is there.
        found: ImageHash,
    },
    /// It is not to be used any more.
    #[error("the signature ended at second {} and it is second {} since 1970", expires.0, now.0)]
    Expired {
        /// When.
        expires: UnixTime,
        /// The guest's clock.
        now: UnixTime,
    },
    /// An older one than the policy allows.
    #[error("the image has version {version}, and the policy allows none below {minimum}")]
    VersionTooOld {
        /// The image's.
        version: u64,
        /// The policy's.
        minimum: u64,
    },
    /// Another image of the same signer.
    #[error("the policy does not allow an image of the name {}", name.as_ref().map_or("(none)", Word::as_str))]
    NameNotAllowed {
        /// The image's.
        name: Option<Word>,
    },
    /// A place for writes that the policy does not trust.
    #[error("the policy does not allow an upper of the kind {kind:?}")]
    UpperNotAllowed {
        /// What the host asked for.
        kind: UpperKind,
    },
    /// One layer more or fewer.
    #[error("the manifest lists {listed} layers, and the host gave {given}")]
    LayerCount {
        /// In the manifest.
        listed: usize,
        /// From the host.
        given: usize,
    },
    /// The host gives the image as one device, and nothing says how that is verified.
    #[error(
        "the manifest has no merged image, and the host gave one: give the layers, or a manifest of `nexuserofs manifest \
         compute --merged`"
    )]
    NotMerged,
    /// The host says something else about a part of the image than the manifest.
    #[error("{part}: the host says other verity parameters than the manifest")]
    ParametersDiffer {
        /// Which.
        part: Part,
    },
    /// A part of the image that cannot be on its device.
    #[error("{part} has {needed} bytes, and its device {device} has {found}")]
    DeviceTooSmall {
        /// Which.
        part: Part,
        /// The device's name.
        device: String,
        /// Bytes of the part.
        needed: u64,
        /// Bytes of the device.
        found: u64,
    },
    /// No file system fits there.
    #[error("the device {device} for what is written has {found} bytes, and a file system needs {needed}")]
    UpperTooSmall {
        /// The device's name.
        device: String,
        /// Bytes of the smallest file system.
        needed: u64,
        /// Bytes of the device.
        found: u64,
    },
    /// Two different things on one device.
    #[error("the device {device} is given for two different things")]
    DeviceTwice {
        /// The device's name.
        device: String,
    },
}

impl Refusal {
    /// The reason in one stable word, for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ImageHashNotAllowed { .. } => "image_hash_not_allowed",
            Self::Unsigned => "unsigned",
            Self::KeyNotAllowed { .. } => "key_not_allowed",
            Self::SignatureWrong { .. } => "signature_wrong",
            Self::SignedAnother { .. } => "signed_another_image",
            Self::Expired { .. } => "expired",
            Self::VersionTooOld { .. } => "version_too_old",
            Self::NameNotAllowed { .. } => "name_not_allowed",
            Self::UpperNotAllowed { .. } => "upper_not_allowed",
            Self::LayerCount { .. } => "layer_count",
            Self::NotMerged => "not_merged",
            Self::ParametersDiffer { .. } => "parameters_differ",
            Self::DeviceTooSmall { .. } => "device_too_small",
            Self::UpperTooSmall { .. } => "upper_too_small",
            Self::DeviceTwice { .. } => "device_twice",
        }
    }
}
