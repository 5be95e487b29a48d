//! The bytes that are exported: an image of many layers, as a merged disk and as one file of the same bytes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::images::tiny::TinyTar;
use nexuserofs_integration::random::Random;

/// Number of layers.
pub(super) const LAYERS: usize = 40;
/// Bytes of content in each layer.
const LAYER_BYTES: usize = 16 << 20;

/// An image on the machine, whose files are in the page cache.
#[derive(Debug)]
pub(super) struct Image {
    /// Files of the layers, the oldest first.
    pub(super) layers: Vec<PathBuf>,
    /// Root hash of the tree over the metadata and all layers.
    pub(super) root: String,
    /// Directory of the merged disk.
    home: PathBuf,
    /// Size of the disk in bytes.
    pub(super) bytes: u64,
}

impl Image {
    /// Builds the image with our programs.
    pub(super) fn make(programs: &Path, directory: &Path) -> Result<Self> {
        let tool = programs.join("nexuserofs");
        let layers = (0..LAYERS).map(|number| layer(&tool, directory, number)).collect::<Result<Vec<_>>>()?;
        let home = directory.join("disk");
        let device = || Run::new(&tool).arg("device").arg("--output").arg(&home);
        device().args(&layers).run()?;
        device().arg("--flat").args(&layers).run()?;
        // The tree lies beside the same metadata then.
        let verified = Run::new(&tool).args(["--json", "device", "--layout=verified", "--output"]).arg(&home);
        let made: serde_json::Value = serde_json::from_str(&verified.args(&layers).output()?)?;
        let root = made[0]["root_hash"].as_str().context("the disk has no root hash")?.to_owned();
        let mut image = Self { layers, root, home, bytes: 0 };
        image.bytes = fs::metadata(image.flat()).context("look at the disk's file")?.len();
        image.warm()?;
        Ok(image)
    }

    /// Everything in one file.
    pub(super) fn flat(&self) -> PathBuf {
        self.home.join("merged.img")
    }

    /// A descriptor that names the layers' own files.
    pub(super) fn vmdk(&self) -> PathBuf {
        self.home.join("merged.vmdk")
    }

    /// The metadata before the layers.
    pub(super) fn metadata(&self) -> PathBuf {
        self.home.join("fsmeta.erofs")
    }

    /// Reads all files once.
    fn warm(&self) -> Result<()> {
        for path in self.layers.iter().chain([&self.flat(), &self.metadata()]) {
            let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            io::copy(&mut file, &mut io::sink()).with_context(|| format!("read {}", path.display()))?;
        }
        Ok(())
    }
}

/// A layer with one file that does not compress, and with a hash tree.
fn layer(tool: &Path, directory: &Path, number: usize) -> Result<PathBuf> {
    let mut random = Random::new(2 * number as u64 + 1);
    let content: Vec<u8> = (0..LAYER_BYTES / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
    let tar = TinyTar::new().directory("opt/", 0o755)?.file(&format!("opt/{number}"), &content)?.finish()?;
    let source = directory.join("layer.tar.gz");
    fs::write(&source, &tar.blob).with_context(|| format!("write {}", source.display()))?;
    let output = directory.join(format!("layer-{number}"));
    Run::new(tool).args(["build", "--layer", "--verity", "--output"]).arg(&output).arg(&source).run()?;
    let files = fs::read_dir(&output).with_context(|| format!("read {}", output.display()))?;
    let mut paths = files.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?.into_iter();
    let is_image = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "erofs");
    paths.find(is_image).with_context(|| format!("no layer was built in {}", output.display()))
}
