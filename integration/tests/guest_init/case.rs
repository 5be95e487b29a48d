//! One boot: what the guest is given, and how it ends.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nexuserofs::trust::key::{Claims, Signer};
use nexuserofs_guest::descriptor::{Assembly, Descriptor, ImageSource, LayerSource, UpperSource, to_block};
use nexuserofs_guest::devices::Query;
use nexuserofs_guest::manifest::{SignedManifest, UnixTime};
use nexuserofs_guest::policy::{KeyRule, Policy, Rule, UpperKind};
use nexuserofs_integration::guest::Release;
use nexuserofs_integration::guest::disk::Disk;
use nexuserofs_integration::guest::image_init::{Ended, Guest};

use crate::ground::{Ground, Layer, list};

/// Writes what the image's files say to the second serial line, and switches the guest off.
const LOOK: &str = "cat /proc/mounts; wc -c </srv/marked; echo written >/srv/written; cat /srv/written; \
    test -e /srv/gone && echo there";
/// The same for the image of many layers.
const LOOK_AT_MANY: &str = "cat /proc/mounts; echo own $(echo /own/* | wc -w); echo newest $(cat /newest)";

/// RFC 8410, section 10.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

/// Name and version in what the key signs.
pub(crate) const NAME: &str = "registry.example/app";
pub(crate) const VERSION: u64 = 7;

/// What a guest is given. It begins as what a good host gives; a test makes it worse.
pub(crate) struct Case<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) kernel: Release,
    pub(crate) descriptor: Descriptor,
    pub(crate) disks: Vec<Disk>,
    /// The policy on the command line, if there is one.
    pub(crate) parameters: String,
    /// The policy in the initramfs, if there is one.
    pub(crate) file: Option<String>,
    /// What the image's shell does.
    pub(crate) look: &'static str,
}

impl<'a> Case<'a> {
    /// The image with a shell, each layer on a disk of its own, and its hash on the command line.
    pub(crate) fn good(ground: &'a Ground) -> Result<Self> {
        let layers = ground.shell();
        let serials: Vec<String> = (0..layers.len()).map(|index| format!("l{index}")).collect();
        let disks = serials.iter().zip(layers).map(|(serial, layer)| Disk::raw(serial, &layer.file));
        let queries = serials.iter().map(|name| Ok(Query::Serial(name.parse()?))).collect::<Result<_>>()?;
        Self::of(ground, layers, queries, disks.collect(), LOOK)
    }

    /// An image of many layers on the partitions of one disk, found by the names that Kata's runtime gives them.
    pub(crate) fn partitioned(ground: &'a Ground, count: usize) -> Result<Self> {
        let layers = ground.many(count);
        // The newest layer is the first partition.
        let label = |index: usize| format!("erofs-{}-slayer-{index}", count - 1 - index);
        let query = |index| Ok(Query::PartitionLabel(label(index).parse()?));
        let queries = (0..count).map(query).collect::<Result<_>>()?;
        let disk = ground.partitioned(&format!("gpt-{count}"), layers)?;
        Self::of(ground, layers, queries, vec![disk], LOOK_AT_MANY)
    }

    /// The first so many layers on one device, with a hash tree over everything.
    pub(crate) fn merged(ground: &'a Ground, count: usize) -> Result<Self> {
        Self::of_one(ground, ground.many(count), LOOK_AT_MANY)
    }

    /// The image with a shell on one device.
    pub(crate) fn merged_shell(ground: &'a Ground) -> Result<Self> {
        Self::of_one(ground, ground.shell(), LOOK)
    }

    fn of_one(ground: &'a Ground, layers: &[Layer], look: &'static str) -> Result<Self> {
        let (disk, manifest) = ground.merged("image", layers)?;
        let device = Query::Serial(disk.serial.parse()?);
        let image = ImageSource::Merged(LayerSource { device, claim: None });
        let assembly = Assembly { image, upper: UpperSource::Tmpfs { size: None } };
        let descriptor = Descriptor { signed: manifest.into(), assembly };
        Ok(Self::given(ground, descriptor, vec![disk], look))
    }

    fn of(
        ground: &'a Ground,
        layers: &[Layer],
        devices: Vec<Query>,
        disks: Vec<Disk>,
        look: &'static str,
    ) -> Result<Self> {
        let manifest = list(layers)?;
        let sources = devices.into_iter().map(|device| LayerSource { device, claim: None });
        let image = ImageSource::Layers(sources.collect());
        let assembly = Assembly { image, upper: UpperSource::Tmpfs { size: None } };
        let descriptor = Descriptor { signed: manifest.into(), assembly };
        Ok(Self::given(ground, descriptor, disks, look))
    }

    /// The policy allows what is described.
    fn given(ground: &'a Ground, descriptor: Descriptor, disks: Vec<Disk>, look: &'static str) -> Self {
        let kernel = Release::default();
        let case = Self { ground, kernel, descriptor, disks, parameters: String::new(), file: None, look };
        case.allowed()
    }

    /// The policy is for exactly what the manifest lists now.
    pub(crate) fn allowed(mut self) -> Self {
        self.parameters = self.exact().to_command_line();
        self
    }

    /// The same, and the writes may go to this.
    pub(crate) fn writing_to(mut self, upper: UpperKind) -> Self {
        self.parameters = Policy { uppers: [upper].into(), ..self.exact() }.to_command_line();
        self
    }

    /// The same on another kernel.
    pub(crate) fn on(self, kernel: Release) -> Self {
        Self { kernel, ..self }
    }

    /// The image is signed, with an end perhaps, and the policy takes what the key signed, within `rule`.
    pub(crate) fn signed(mut self, expires: Option<UnixTime>, rule: KeyRule) -> Result<Self> {
        let signer = Signer::read(KEY)?;
        let claims = Claims { version: VERSION, name: Some(NAME.parse()?), expires };
        let manifest = self.descriptor.signed.manifest.clone();
        let signatures = vec![signer.sign(&manifest, claims)];
        self.descriptor.signed = SignedManifest { manifest, signatures };
        self.parameters = Policy::new(Rule::Key(rule)).to_command_line();
        Ok(self)
    }

    /// A policy for exactly this image.
    pub(crate) fn exact(&self) -> Policy {
        Policy::new(Rule::Exact([self.descriptor.signed.manifest.image_hash()].into()))
    }

    /// How many layers the image has.
    fn layers(&self) -> usize {
        self.descriptor.signed.manifest.layers().len()
    }

    fn boot(self) -> Result<Ended> {
        let scratch = tempfile::tempdir()?;
        let directory = scratch.path();
        let block = directory.join("descriptor");
        fs::write(&block, to_block(self.descriptor.to_json()?.as_bytes()))?;
        let disks: Vec<Disk> = self.disks.into_iter().chain([Disk::raw("descriptor", block)]).collect();
        let files: Vec<(&str, &[u8])> =
            self.file.iter().map(|text| ("etc/nexuserofs/policy.json", text.as_bytes())).collect();
        let parameters = format!(
            "nexuserofs.descriptor=block:serial:descriptor {} -- /bin/sh -c \"exec >/dev/ttyS1 2>&1; {}; \
             echo GUEST-EXIT 0; sleep 1; echo o >/proc/sysrq-trigger; sleep 60\"",
            self.parameters, self.look
        );
        self.ground.machine(self.kernel).boot(&Guest {
            disks: &disks,
            files: &files,
            parameters: &parameters,
            directory,
        })
    }

    /// The image's program runs, on an overlay of ours.
    pub(crate) fn runs(self) -> Result<()> {
        let (kernel, many, count) = (self.kernel, self.look == LOOK_AT_MANY, self.layers());
        let ended = self.boot()?;
        ensure!(ended.code == Some(0), "{ended:?}");
        let has = |line: &str| ended.printed.iter().any(|printed| printed == line);
        let root = ended.printed.iter().find(|line| line.starts_with("nexuserofs / overlay "));
        let root = root.with_context(|| format!("the root is no overlay of ours: {ended:?}"))?;
        ensure!(!root.contains("metacopy=on"), "{root}");
        // Linux 6.12 tells layers as they were given: one by one.
        ensure!(root.contains("lowerdir+=") == (kernel == Release::Linux6_12), "{root}");
        if many {
            ensure!(has(&format!("own {}", count - 2)), "not every layer is there: {ended:?}");
            ensure!(has(&format!("newest {}", count - 1)), "the newest layer is not on top: {ended:?}");
            return Ok(());
        }
        ensure!(has("262144"), "the second layer's file: {ended:?}");
        ensure!(has("written"), "nothing can be written: {ended:?}");
        ensure!(!has("there"), "a file that the second layer takes away is there: {ended:?}");
        Ok(())
    }

    /// The guest is switched off before anything of the image runs, and tells why on the console.
    pub(crate) fn ends_for(self, reason: &str) -> Result<()> {
        let ended = self.boot()?;
        ensure!(ended.code.is_none() && ended.printed.is_empty(), "the image's program ran: {ended:?}");
        let told = format!("\"reason\":\"{reason}\"");
        ensure!(ended.console.contains(&told), "expected {reason}; the console: {}", ended.console);
        Ok(())
    }
}

/// What the key may sign: the image of this name, from this version on.
pub(crate) fn rule() -> Result<KeyRule> {
    let key = Signer::read(KEY)?.public();
    Ok(KeyRule { keys: vec![key], minimum_version: VERSION, names: [NAME.parse()?].into() })
}

/// The same for a key that signed nothing.
pub(crate) fn rule_of_another() -> Result<KeyRule> {
    let pem = KEY.replace("INTuctv5E1hK1bbY8fdp", "IAEBAQEBAQEBAQEBAQEB");
    Ok(KeyRule { keys: vec![Signer::read(&pem)?.public()], ..rule()? })
}

/// Replaces each disk of a layer by a damaged copy.
pub(crate) fn damage(case: &mut Case<'_>, directory: &Path) -> Result<()> {
    for (index, layer) in case.ground.shell().iter().enumerate() {
        case.disks[index] = Disk::raw(format!("l{index}"), crate::ground::damaged(directory, index, layer)?);
    }
    Ok(())
}
