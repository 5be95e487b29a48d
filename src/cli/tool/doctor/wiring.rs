//! Whether containerd's settings lead to the daemon.
//!
//! Most of what goes wrong here is silent: containerd tries its next differ, or unpacks nothing.

use std::path::Path;

use super::configuration::{self, Configuration, Proxy, Unpack};
use super::containerd::{DIFFER, Live, SNAPSHOTTER, TRANSFER};
use super::finding::{Area, Finding};
use crate::config::{ProfileName, Settings};

/// What the proxy of a snapshotter should say that it can do, and what is lost without.
const CAPABILITIES: [(&str, &str); 2] = [
    ("rebase", "layers of an image are unpacked one after another"),
    ("remap-ids", "containers with a user namespace get a changed copy of every file"),
];

/// Where the complete example is.
const EXAMPLE: &str = "kata-config/containerd.toml is a complete example";

pub(super) fn check(settings: &Settings, live: Option<&Live>, named: Option<&Path>) -> Vec<Finding> {
    let path =
        named.map_or_else(|| configuration::file_of(live.and_then(|live| live.process)), Path::to_owned);
    let configuration = match Configuration::read(&path) {
        Ok(configuration) => configuration,
        Err(error) => {
            let advice = "name containerd's settings with --containerd-config";
            return vec![Area::Wiring.failure("file", error, advice)];
        }
    };
    let wiring = Wiring { settings, live, configuration: &configuration };
    let mut findings = vec![Area::Wiring.ok("file", path.display())];
    findings.extend(wiring.snapshotters());
    findings.extend(wiring.differ());
    findings
}

struct Wiring<'a> {
    settings: &'a Settings,
    live: Option<&'a Live>,
    configuration: &'a Configuration,
}

impl<'a> Wiring<'a> {
    /// The proxies of this type that stand for our daemon.
    fn ours(&self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Proxy)> {
        let address = self.settings.address.as_path();
        let is_ours = move |proxy: &Proxy| proxy.r#type == kind && socket(&proxy.address) == address;
        let proxies = self.configuration.proxies.iter();
        proxies.filter(move |(_, proxy)| is_ours(proxy)).map(|(name, proxy)| (name.as_str(), proxy))
    }

    fn snapshotters(&self) -> Vec<Finding> {
        const CHECK: &str = "snapshotter";
        let mut findings = self.misdirected();
        let mut any = false;
        for (name, proxy) in self.ours("snapshot") {
            any = true;
            findings.push(self.snapshotter(name));
            findings.extend(self.capabilities(name, proxy));
            findings.extend(self.exports(name, proxy));
        }
        if !any {
            let address = self.settings.address.display();
            findings.push(Area::Wiring.failure(
                CHECK,
                format!("no proxy plugin of the type \"snapshot\" has the address {address}"),
                format!("write [proxy_plugins.nexuserofs] and restart containerd; {EXAMPLE}"),
            ));
        }
        findings
    }

    /// Proxies that are called like our profiles, and lead elsewhere.
    fn misdirected(&self) -> Vec<Finding> {
        let address = self.settings.address.as_path();
        let profiles = self.settings.profiles.keys().map(ProfileName::as_str);
        let found = profiles.filter_map(|name| Some((name, self.configuration.proxies.get(name)?)));
        let wrong = found.filter(|(_, proxy)| socket(&proxy.address) != address);
        let finding = |(name, proxy): (&str, &Proxy)| {
            Area::Wiring.failure(
                "address",
                format!("{name} leads to {}, and the daemon listens at {}", proxy.address, address.display()),
                "give both the same address, and restart containerd",
            )
        };
        wrong.map(finding).collect()
    }

    fn snapshotter(&self, name: &str) -> Finding {
        const CHECK: &str = "snapshotter";
        if !self.settings.profiles.keys().any(|profile| profile.as_str() == name) {
            return Area::Wiring.failure(
                CHECK,
                format!("{name} leads to the daemon, which has no such profile"),
                format!("write [profiles.{name}] into the daemon's settings, or take the proxy away"),
            );
        }
        self.loaded(CHECK, SNAPSHOTTER, name)
    }

    /// Whether the running containerd has what its settings say.
    fn loaded(&self, check: &'static str, kind: &str, name: &str) -> Finding {
        let Some(live) = self.live else {
            return Area::Wiring.unknown(check, format!("{name} is in the settings"), "start containerd");
        };
        match live.plugin(kind, name).map(|plugin| &plugin.fault) {
            Some(None) => Area::Wiring.ok(check, format!("{name} leads to the daemon")),
            Some(Some(fault)) => {
                Area::Wiring.failure(check, format!("{name} did not load: {fault}"), "restart containerd")
            }
            None => Area::Wiring.failure(
                check,
                format!("{name} is in the settings, and containerd does not have it"),
                "restart containerd: it reads its settings at the start",
            ),
        }
    }

    fn capabilities(&self, name: &str, proxy: &Proxy) -> Vec<Finding> {
        let lacks =
            CAPABILITIES.iter().filter(|(known, _)| !proxy.capabilities.iter().any(|own| own == known));
        let finding = |(capability, loss): &(&str, &str)| {
            Area::Wiring.warning(
                "capabilities",
                format!("{name} does not say that it can do {capability}: {loss}"),
                format!("add {capability:?} to its capabilities, and restart containerd"),
            )
        };
        lacks.map(finding).collect()
    }

    /// The kubelet measures the directory that is exported.
    fn exports(&self, name: &str, proxy: &Proxy) -> Option<Finding> {
        let root = self.settings.root.as_str();
        let exported = proxy.exports.get("root").map(|path| path.trim_end_matches('/'));
        if exported == Some(root) {
            return None;
        }
        let found = match exported {
            Some(other) => format!("{name} tells Kubernetes of {other}, and the data lies in {root}"),
            None => {
                format!("{name} does not tell where its data lies: Kubernetes measures no image file system")
            }
        };
        let advice =
            format!("write [proxy_plugins.{name}.exports] with root = {root:?}, and restart containerd");
        Some(Area::Wiring.warning("exports", found, advice))
    }

    fn differ(&self) -> Vec<Finding> {
        const CHECK: &str = "differ";
        let Some((differ, _)) = self.ours("diff").next() else {
            return vec![Area::Wiring.failure(
                CHECK,
                format!(
                    "no proxy plugin of the type \"diff\" has the address {}",
                    self.settings.address.display()
                ),
                format!("write [proxy_plugins.nexuserofs-diff] and restart containerd; {EXAMPLE}"),
            )];
        };
        let mut findings = vec![self.loaded(CHECK, DIFFER, differ), self.diff_service(differ)];
        if self.live.is_none_or(|live| live.has(TRANSFER)) {
            findings.extend(self.ours("snapshot").map(|(name, _)| self.unpacked(name, differ)));
        }
        findings.extend(self.discarded());
        findings
    }

    /// The diff service asks its differs in turn, and the first one that does not refuse is taken.
    fn diff_service(&self, differ: &str) -> Finding {
        const CHECK: &str = "diff service";
        let order = self.configuration.differs.clone().unwrap_or_else(|| vec!["walking".to_owned()]);
        if order.first().is_some_and(|first| first == differ) {
            return Area::Wiring.ok(CHECK, format!("it asks {differ} first"));
        }
        let found = format!("it asks {}", order.join(", "));
        let advice = format!(
            "write default = [{differ:?}, \"walking\"] for the plugin io.containerd.service.v1.diff-service, and \
             restart containerd"
        );
        match order.iter().position(|name| name == differ) {
            // Those that walk or unpack take everything that is put before them.
            Some(own) if !order.iter().take(own).any(|name| name == "walking" || name == "erofs") => {
                Area::Wiring.ok(CHECK, found)
            }
            _ => Area::Wiring.failure(
                CHECK,
                format!(
                    "{found}: what builders, nerdctl and older clients unpack does not become EROFS at once"
                ),
                advice,
            ),
        }
    }

    /// What `ctr images pull`, and Kubernetes from containerd 2.1 on, unpack with.
    fn unpacked(&self, snapshotter: &str, differ: &str) -> Finding {
        const CHECK: &str = "transfer service";
        let advice = format!(
            "write [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]] with snapshotter = {snapshotter:?} \
             and differ = {differ:?}, and restart containerd; {EXAMPLE}"
        );
        let entries: Vec<&Unpack> = self.configuration.unpack.iter().flatten().collect();
        let mut own = entries.iter().filter(|entry| entry.snapshotter == snapshotter).peekable();
        if own.peek().is_none() {
            return Area::Wiring.failure(CHECK, format!("it does not unpack for {snapshotter}"), advice);
        }
        let own: Vec<_> = own.collect();
        if let Some(other) = own.iter().find(|entry| entry.differ != differ) {
            let name = if other.differ.is_empty() { "any differ" } else { &other.differ };
            return Area::Wiring.failure(CHECK, format!("it unpacks for {snapshotter} with {name}"), advice);
        }
        let takes_native = own.iter().any(|entry| entry.platform.contains("+erofs"));
        let native = match takes_native {
            true => "images of EROFS layers too",
            false => {
                "images that ask for os.features erofs are not unpacked without the platform \"linux(+erofs)\""
            }
        };
        Area::Wiring.ok(CHECK, format!("it unpacks for {snapshotter} with {differ}; {native}"))
    }

    /// Blobs that are gone once they are unpacked are missed by every other snapshotter.
    fn discarded(&self) -> Option<Finding> {
        let cri = &self.configuration.cri;
        let is_ours = |name: &str| self.ours("snapshot").any(|(own, _)| own == name);
        (cri.discard_unpacked_layers && cri.snapshotter.as_deref().is_some_and(is_ours)).then(|| {
            Area::Wiring.warning(
                "discard_unpacked_layers",
                "Kubernetes' images lose their blobs once they are unpacked: another profile or runtime cannot \
                 unpack them, and they cannot be pushed or converted",
                "set discard_unpacked_layers = false if more than one snapshotter is in use",
            )
        })
    }
}

/// The path in an address, which may be a URI.
fn socket(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

#[cfg(test)]
mod tests;
