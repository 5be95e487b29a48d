//! containerd's images: names for what is in its content store.

use std::collections::BTreeMap;

use nexuserofs_proto::containerd::services::images::v1::images_client::ImagesClient;
use nexuserofs_proto::containerd::services::images::v1::{
    CreateImageRequest, GetImageRequest, Image, UpdateImageRequest,
};
use nexuserofs_proto::containerd::types::Descriptor;
use prost_types::FieldMask;
use tonic::Code;

use super::{Error, Namespace};

/// What an image is: an index or a manifest in the content store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its media type.
    pub media_type: String,
    /// Its digest, with its algorithm in front.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Namespace {
    /// What the image called `name` is; None if there is no such image.
    ///
    /// # Errors
    /// [`Error::Call`] if containerd does not say.
    pub fn image(&self, name: &str) -> Result<Option<Target>, Error> {
        let mut client = ImagesClient::new(self.channel());
        let request = self.request(GetImageRequest { name: name.to_owned() })?;
        match self.wait("look up an image", client.get(request)) {
            Err(Error::Call { status, .. }) if status.code() == Code::NotFound => Ok(None),
            answer => Ok(answer?.image.and_then(|image| image.target).map(Target::from)),
        }
    }

    /// Calls what is in the content store `name`, in place of what was called so.
    ///
    /// # Errors
    /// [`Error::Call`] if the target is not there, or containerd refuses.
    pub fn set_image(&self, name: &str, target: &Target) -> Result<(), Error> {
        let image = Image { name: name.to_owned(), target: Some(target.clone().into()), ..Image::default() };
        let mut client = ImagesClient::new(self.channel());
        let create = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
        match self.wait("name an image", client.create(self.request(create)?)) {
            Err(Error::Call { status, .. }) if status.code() == Code::AlreadyExists => {
                let update_mask = Some(FieldMask { paths: vec!["target".to_owned()] });
                let update = UpdateImageRequest { image: Some(image), update_mask, source_date_epoch: None };
                self.wait("name an image anew", client.update(self.request(update)?)).map(drop)
            }
            answer => answer.map(drop),
        }
    }
}

impl From<Descriptor> for Target {
    fn from(descriptor: Descriptor) -> Self {
        let Descriptor { media_type, digest, size, .. } = descriptor;
        Self { media_type, digest, size: u64::try_from(size).unwrap_or(0) }
    }
}

impl From<Target> for Descriptor {
    fn from(target: Target) -> Self {
        let Target { media_type, digest, size } = target;
        Self { media_type, digest, size: size.cast_signed(), annotations: BTreeMap::new() }
    }
}
