//! What mkfs.erofs is told.

use std::ffi::OsString;
use std::path::Path;

use crate::layer::MkfsBuild;

/// What becomes of the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its data goes into the image.
    Whole,
    /// The image points into it.
    Index,
}

/// What both modes get: whiteouts as in OCI layers; nothing in the image that changes from run to run, the UUID
/// being put in afterwards; nothing said but errors.
const COMMON: [&str; 6] =
    ["--aufs", "--quiet", "-T0", "--mkfs-time", "-U", "00000000-0000-0000-0000-000000000000"];

/// The arguments that make the file `path`.
pub(super) fn of(mode: Mode, build: &MkfsBuild, path: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = COMMON.iter().map(Into::into).collect();
    match mode {
        Mode::Whole => {
            // Data behind inodes could not be pointed into by a merged image.
            arguments.extend(["--tar=f", "-Enoinline_data"].map(Into::into));
            if !build.options.iter().any(|option| option.starts_with("-b")) {
                arguments.push("-b4096".into());
            }
        }
        Mode::Index => arguments.push("--tar=i".into()),
    }
    arguments.extend(build.options.iter().map(Into::into));
    arguments.push(path.into());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(mode: Mode, options: &[&str]) -> Vec<String> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let build = MkfsBuild { version: String::new(), options };
        let arguments = of(mode, &build, Path::new("/staging/layer.erofs"));
        arguments.into_iter().map(|argument| argument.into_string().unwrap()).skip(COMMON.len()).collect()
    }

    #[test]
    fn blocks_are_of_4096_bytes_unless_the_operator_says_otherwise() {
        let file = "/staging/layer.erofs";
        let whole = |options: &[&str]| arguments(Mode::Whole, options);
        assert_eq!(whole(&["-zlz4"]), ["--tar=f", "-Enoinline_data", "-b4096", "-zlz4", file]);
        assert_eq!(whole(&["-b512"]), ["--tar=f", "-Enoinline_data", "-b512", file]);
        assert_eq!(arguments(Mode::Index, &["-x1"]), ["--tar=i", "-x1", file]);
    }
}
