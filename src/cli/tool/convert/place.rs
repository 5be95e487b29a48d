//! Where images come from and where they go: layouts, and containerd.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use crate::cli::tool::arguments::Convert;
use crate::cli::tool::error::Error;
use crate::cli::tool::oci::{Descriptor, Layout, LayoutWriter, Platform, Selection, Upload};
use crate::client::Namespace;
use crate::image::digest::Digest;
use crate::store;
use crate::store::unique::Unique;

/// What is converted.
pub(super) struct Origin {
    pub(super) source: Layout,
    pub(super) selection: Selection,
}

/// Where what was converted goes.
pub(super) enum Destination {
    /// A layout.
    Layout { path: PathBuf, replace: bool },
    /// An image of containerd.
    Containerd { namespace: Namespace, name: String, staging: PathBuf },
}

impl Origin {
    pub(super) fn open(asked: &Convert) -> Result<Self, Error> {
        let platform = asked.platform.clone();
        if !asked.from_containerd {
            let selection = Selection { name: asked.image.clone(), platform };
            return Ok(Self { source: Layout::open(&asked.source)?, selection });
        }
        let name = text(&asked.source);
        // containerd has of an image for several platforms only what was fetched, which is most often one.
        let platform = Some(platform.unwrap_or_else(own_platform));
        let source = Layout::in_containerd(&namespace(asked)?, &name)?;
        Ok(Self { source, selection: Selection { name: Some(name), platform } })
    }
}

impl Destination {
    /// What `asked` names. A name in containerd that is taken is found before the work begins.
    pub(super) fn choose(asked: &Convert) -> Result<Self, Error> {
        if !asked.to_containerd {
            return Ok(Self::Layout { path: asked.output.clone(), replace: asked.force });
        }
        let (namespace, name) = (namespace(asked)?, text(&asked.output));
        if !asked.force && namespace.image(&name)?.is_some() {
            return Err(Error::Exists { path: asked.output.clone() });
        }
        let directory = env::temp_dir();
        let unique = Unique::new().map_err(store::Error::io("name a directory in", &directory))?;
        let staging = directory.join(format!("nexuserofs-{unique}"));
        Ok(Self::Containerd { namespace, name, staging })
    }

    /// A layout in the making, which is deleted unless it is published.
    pub(super) fn writer(&self) -> Result<LayoutWriter, Error> {
        match self {
            Self::Layout { path, replace } => LayoutWriter::create(path, *replace),
            Self::Containerd { staging, .. } => LayoutWriter::create(staging, false),
        }
    }

    /// Gives the images their place. `diff_ids` has the digests of layers without compression, by blob.
    pub(super) fn publish(
        self,
        writer: LayoutWriter,
        manifests: &[Descriptor],
        diff_ids: BTreeMap<Digest, Digest>,
    ) -> Result<(), Error> {
        match (self, manifests) {
            (Self::Layout { .. }, _) => writer.publish(manifests),
            (Self::Containerd { namespace, name, .. }, [manifest]) => {
                let layout = writer.blobs();
                Upload::begin(&namespace, &layout, diff_ids)?.publish(manifest, &name)
            }
            (Self::Containerd { name, .. }, _) => {
                Err(Error::NotOneName { path: name.into(), count: manifests.len() })
            }
        }
    }
}

fn namespace(asked: &Convert) -> Result<Namespace, Error> {
    Ok(Namespace::open(&asked.containerd_address, &asked.namespace)?)
}

/// A name, which was given where a path could be.
fn text(name: &Path) -> String {
    name.to_string_lossy().into_owned()
}

/// The platform of this machine, by the names that images have for processors.
fn own_platform() -> Platform {
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), ..Platform::default() }
}
