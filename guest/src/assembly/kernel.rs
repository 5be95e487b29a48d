//! What older kernels lack.

/// The first release, major and minor, that mounts a merged image from one device.
pub(super) const MERGED_IMAGES: [u32; 2] = [6, 4];

/// Whether a release such as `6.1.0-43-cloud-amd64` is before another. One that says no numbers is not.
pub(super) fn is_older(release: &str, than: [u32; 2]) -> bool {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => [major, minor] < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for older in ["6.1.0-43-cloud-amd64", "5.15.0", "6.3", "4.19.300"] {
            assert!(is_older(older, MERGED_IMAGES), "{older}");
        }
        for newer in ["6.4.0", "6.12.117+deb13-cloud-amd64", "7.0-rc1", "10.1", "unknown", ""] {
            assert!(!is_older(newer, MERGED_IMAGES), "{newer}");
        }
    }
}
