//! What must hold for every image that is taken over as a layer.

use std::io::{self, Read};

use nexuserofs::image::erofs::read::Image;
use nexuserofs::image::overlay::marks;
use nexuserofs::image::tree::{Contents, InodeId, Node};

use crate::reader::{LIMITS, PIECE, check_shape};

/// Reads `image` as the whole content of a layer's file.
pub fn check(image: &[u8]) {
    let plain = Image::open(image, &LIMITS);
    let Ok(read) = Image::open_foreign(image, image.len() as u64, &LIMITS) else {
        // What our own layers are read as is never less strict, but for images that end before their data.
        assert!(plain.is_err() || plain.is_ok_and(|plain| plain.superblock().image_size() > image.len() as u64));
        return;
    };
    if let Ok(plain) = &plain {
        assert_eq!(plain.tree(), read.tree());
    }
    assert!(read.superblock().image_size() <= image.len() as u64);
    check_shape(read.tree());
    let _ = marks::check(read.tree());
    for (id, inode) in (0..).map(InodeId).zip(&read.tree().inodes) {
        let Node::Regular(data) = &inode.node else { continue };
        let content = read.open(id).map(|file| io::copy(&mut file.take(PIECE), &mut io::sink()));
        match content {
            // All of the image was seen to be in the file.
            Ok(copied) => assert_eq!(copied.expect("inside the file"), data.size.min(PIECE)),
            Err(error) => assert!(read.is_compressed() && error.kind() == io::ErrorKind::Unsupported),
        }
    }
}
