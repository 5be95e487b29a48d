//! One run of the program in the guest: what it is given, and what comes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use nexuserofs_guest::canonical::Canonical as _;
use nexuserofs_guest::descriptor::{Assembly, Descriptor, ImageSource, LayerSource, UpperSource};
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::dm::{DeviceMapper, Name};
use nexuserofs_guest::manifest::{Fields, Layer, Manifest, SignedManifest};
use nexuserofs_guest::policy::{KeyRule, Policy, Rule};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::guest::init::PAYLOAD;
use nexuserofs_integration::harness::eventually;
use nexuserofs_integration::stage::Place;

use crate::layers::Documents;

/// What the program is given. It begins as what a good host gives; a test makes it worse.
pub(crate) struct Case {
    pub(crate) descriptor: Descriptor,
    /// None: whatever the guest has.
    pub(crate) policy: Option<Policy>,
    /// In place of the guest's own command line.
    pub(crate) command_line: String,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) input: Input,
    pub(crate) directory: PathBuf,
}

/// Where the program has its description from.
pub(crate) enum Input {
    /// A file with the case's descriptor.
    Descriptor,
    /// This source, as the flag `--descriptor` takes it.
    Source(String),
    /// What Kata's agent is given, and a manifest.
    Kata(serde_json::Value),
}

pub(crate) fn documents() -> Result<Documents> {
    Ok(serde_json::from_slice(&fs::read(Path::new(PAYLOAD).join("documents.json"))?)?)
}

pub(crate) fn serial(name: &str) -> Result<Query> {
    Ok(Query::Serial(name.parse()?))
}

/// A policy for whatever the key signed.
pub(crate) fn key_rule() -> Result<KeyRule> {
    Ok(KeyRule { keys: vec![documents()?.key.parse()?], minimum_version: 0, names: [].into() })
}

impl Case {
    /// All layers on their disks, memory for what is written, and a policy for exactly this image.
    pub(crate) fn good(place: &Place) -> Result<Self> {
        let signed = SignedManifest::from_canonical(documents()?.signed.as_bytes())?;
        let layer = |name| Ok(LayerSource { device: serial(name)?, claim: None });
        let layers = ["l0", "l1", "l2"].into_iter().map(layer).collect::<Result<_>>()?;
        let directory = place.scratch.join("case");
        fs::create_dir_all(directory.join("root"))?;
        let case = Self {
            descriptor: Descriptor {
                signed,
                assembly: Assembly {
                    image: ImageSource::Layers(layers),
                    upper: UpperSource::Tmpfs { size: Some(1 << 20) },
                },
            },
            policy: None,
            command_line: "quiet".to_owned(),
            flags: Vec::new(),
            input: Input::Descriptor,
            directory,
        };
        Ok(case.allowed())
    }

    /// The layer `index` is said to be on the disk of this serial.
    pub(crate) fn on(self, index: usize, name: &str) -> Result<Self> {
        Ok(self.at(index, serial(name)?))
    }

    /// The layer `index` is said to be there.
    pub(crate) fn at(mut self, index: usize, device: Query) -> Self {
        self.sources()[index].device = device;
        self
    }

    /// The description comes from there.
    pub(crate) fn from(self, input: Input) -> Self {
        Self { input, ..self }
    }

    /// The policy is for exactly what the manifest lists now.
    pub(crate) fn allowed(mut self) -> Self {
        let hash = self.descriptor.signed.manifest.image_hash();
        self.policy = Some(Policy::new(Rule::Exact([hash].into())));
        self
    }

    /// What the host says about each layer.
    pub(crate) fn sources(&mut self) -> &mut Vec<LayerSource> {
        match &mut self.descriptor.assembly.image {
            ImageSource::Layers(layers) => layers,
            ImageSource::Merged(_) => panic!("the image is on one device"),
        }
    }

    /// The manifest lists other layers.
    pub(crate) fn listing(mut self, change: impl FnOnce(&mut Vec<Layer>)) -> Result<Self> {
        let mut fields: Fields = self.descriptor.signed.manifest.fields().clone();
        change(&mut fields.layers);
        self.descriptor.signed.manifest = Manifest::new(fields)?;
        Ok(self)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn program(&self, verb: &str) -> Run {
        let run = Run::new(Path::new(PAYLOAD).join("nexuserofs-guest")).arg(verb);
        run.args(["--timeout", "0", "--command-line"]).arg(self.directory.join("command_line"))
    }

    fn mount_output(&self, descriptor: &str) -> Result<Output> {
        fs::write(self.directory.join("command_line"), &self.command_line)?;
        let write = |name: &str, text: &str| {
            let path = self.directory.join(name);
            fs::write(&path, text).map(|()| path)
        };
        let run = self.program("mount").arg("--target").arg(self.root());
        let mut run = match &self.input {
            Input::Descriptor => run.arg("--descriptor").arg(write("descriptor.json", descriptor)?),
            Input::Source(source) => run.arg("--descriptor").arg(source),
            Input::Kata(storages) => run
                .arg("--kata")
                .arg(write("storages.json", &storages.to_string())?)
                .arg("--manifest")
                .arg(write("manifest.json", &self.descriptor.signed.to_canonical())?),
        };
        if let Some(policy) = &self.policy {
            let path = self.directory.join("policy.json");
            fs::write(&path, serde_json::to_vec(policy)?)?;
            run = run.arg("--policy").arg(path);
        }
        Ok(run.args(&self.flags).into_command().output()?)
    }

    /// The root file system is made, and `look` sees it there; then it is taken away, twice.
    pub(crate) fn works(self, look: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let output = self.mount_output(&self.descriptor.to_json()?)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the program said: {said}");
        let seen = look(&self.root());
        for _ in 0..2 {
            self.program("umount").run()?;
        }
        seen.and_then(|()| self.nothing_is_left())
    }

    /// It is refused with this exit code and for this reason, and nothing is left.
    pub(crate) fn fails(self, code: i32, reason: &str) -> Result<()> {
        let descriptor = self.descriptor.to_json()?;
        self.fails_with(&descriptor, code, reason)
    }

    /// The same with this text in place of the description.
    pub(crate) fn fails_with(self, descriptor: &str, code: i32, reason: &str) -> Result<()> {
        self.refuses(descriptor, code, reason)?;
        self.nothing_is_left()
    }

    /// The same where this device was there before, and still is.
    pub(crate) fn fails_keeping(self, code: i32, reason: &str, name: &Name) -> Result<()> {
        self.refuses(&self.descriptor.to_json()?, code, reason)?;
        ensure!(DeviceMapper::open()?.find(name)?.is_some(), "another's device was taken away");
        Ok(())
    }

    fn refuses(&self, descriptor: &str, code: i32, reason: &str) -> Result<()> {
        let output = self.mount_output(descriptor)?;
        let said: serde_json::Value = serde_json::from_slice(&output.stderr)
            .with_context(|| format!("the program said {:?}", String::from_utf8_lossy(&output.stderr)))?;
        ensure!(output.status.code() == Some(code), "expected {code}, got {:?}: {said}", output.status);
        ensure!(said["reason"] == reason, "expected {reason}: {said}");
        Ok(())
    }

    /// No mount, no device, no directory.
    fn nothing_is_left(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let of_ours = |line: &&str| line.contains("nexuserofs") || line.contains(" /testbed/scratch/case");
        let left: Vec<&str> = mounts.lines().filter(of_ours).collect();
        ensure!(left.is_empty(), "mounts were left: {left:?}");
        ensure!(!Path::new("/run/nexuserofs/root").exists(), "the workplace was left");
        let mapper = DeviceMapper::open()?;
        // Who looks at new devices may still hold one.
        eventually(|| {
            for what in ["0", "1", "2", "upper"] {
                if mapper.find(&format!("nexuserofs-root-{what}").parse()?)?.is_some() {
                    return Ok(Some(format!("the device {what} was left")));
                }
            }
            Ok(None)
        })
    }
}
