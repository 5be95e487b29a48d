//! The code in `src/gen/` is what the `.proto` files say.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Set to anything but the empty text, this variable makes the test write the code instead of comparing it.
const REGENERATE: &str = "NEXUSEROFS_REGENERATE";

type Sources = BTreeMap<String, String>;

#[test]
fn checked_in_code_is_what_the_proto_files_say() -> Result<(), Box<dyn Error>> {
    let checked_in = crate_dir().join("src/gen");
    let generated = generate()?;
    if std::env::var_os(REGENERATE).is_some_and(|value| !value.is_empty()) {
        return Ok(replace(&checked_in, &generated)?);
    }
    let present = read_dir(&checked_in)?;
    assert_eq!(names(&present), names(&generated), "files in {}", checked_in.display());
    for (name, text) in &generated {
        assert!(
            present[name] == *text,
            "src/gen/{name} differs from what the proto files say; set {REGENERATE}=1 and run this test again"
        );
    }
    Ok(())
}

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generate() -> Result<Sources, Box<dyn Error>> {
    let root = crate_dir().join("proto");
    let descriptors = protox::compile(proto_files(&root)?, [&root])?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .out_dir(out.path())
        // Ordered maps: one message always has one encoding, and labels need no conversion.
        .btree_map(".")
        // Blob data is handed on without a copy.
        .bytes(".containerd.services.content.v1")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(read_dir(out.path())?)
}

/// All `.proto` files below `dir`, in the order of their names.
fn proto_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_dir(dir: &Path) -> std::io::Result<Sources> {
    fs::read_dir(dir)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?))
        })
        .collect()
}

fn replace(dir: &Path, sources: &Sources) -> std::io::Result<()> {
    for name in read_dir(dir)?.keys().filter(|name| !sources.contains_key(*name)) {
        fs::remove_file(dir.join(name))?;
    }
    sources.iter().try_for_each(|(name, text)| fs::write(dir.join(name), text))
}

fn names(sources: &Sources) -> Vec<&String> {
    sources.keys().collect()
}
