//! The layers that the randomised client unpacks.

use anyhow::Result;

use crate::images::tiny::{TinyLayer, TinyTar};
use crate::random::Random;

/// How many small layers there are, and how many whose unpacking takes long enough to be interrupted.
const SMALL: usize = 12;
const LARGE: usize = 4;

/// Bytes of the file in a large layer.
const LARGE_FILE: usize = 3 << 20;

/// Makes the layers. They are the same for the same seed.
///
/// # Errors
/// A layer cannot be compressed.
pub fn layers(random: &mut Random) -> Result<Vec<TinyLayer>> {
    let small = (0..SMALL).map(small);
    let mut layers = small.collect::<Result<Vec<_>>>()?;
    for number in 0..LARGE {
        let noise: Vec<u8> = (0..LARGE_FILE / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
        layers.push(
            TinyTar::new().directory("large/", 0o755)?.file(&format!("large/{number}"), &noise)?.finish()?,
        );
    }
    Ok(layers)
}

/// Files, and marks that remove what layers below may have.
fn small(number: usize) -> Result<TinyLayer> {
    let mut tar = TinyTar::new().directory("etc/", 0o755)?.directory("srv/", 0o1777)?;
    tar = tar.file(&format!("etc/{number}"), number.to_string().as_bytes())?;
    tar = tar.file("srv/common", &vec![b'x'; number * 1111])?;
    if number.is_multiple_of(3) {
        tar = tar.file(&format!("etc/.wh.{}", number + 1), b"")?;
    }
    if number.is_multiple_of(4) {
        tar = tar.file("srv/.wh..wh..opq", b"")?;
    }
    tar.finish()
}
