//! One value for each setting: the flag, else the file, else the default.

use std::collections::BTreeMap;

use super::fragment::{Fragment, ProfileFragment, RawSize, Sourced};
use super::named::Named;

/// The values of settings that neither a flag nor the file gives.
pub mod defaults {
    /// `--root`.
    pub const ROOT: &str = "/var/lib/nexuserofs-snapshotter";
    /// `--address`.
    pub const ADDRESS: &str = "/run/nexuserofs-snapshotter/snapshotter.sock";
    /// `--containerd-address`.
    pub const CONTAINERD_ADDRESS: &str = "/run/containerd/containerd.sock";
    /// `--containerd-namespace`.
    pub const CONTAINERD_NAMESPACE: &str = "default";
    /// `--log-level`.
    pub const LOG_LEVEL: &str = "info";
    /// `--log-format`.
    pub const LOG_FORMAT: &str = "text";
    /// `--default-size`: directory mode.
    pub const DEFAULT_SIZE: i64 = 0;
    /// `--enable-fsverity`.
    pub const ENABLE_FSVERITY: bool = false;
    /// `--set-immutable`.
    pub const SET_IMMUTABLE: bool = true;
    /// `builder`.
    pub const BUILDER: &str = "native";
    /// `builder` where there are `mkfs_options`.
    pub const BUILDER_WITH_OPTIONS: &str = "mkfs";
    /// `trust_layer_content_caches`.
    pub const TRUST_LAYER_CONTENT_CACHES: bool = false;
    /// `project_quota` of every profile.
    pub const PROJECT_QUOTA: &str = "auto";
    /// `verity` of every profile whose name does not stand for another.
    pub const VERITY: &str = "off";
}

/// The settings, each with the place that it came from.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) root: Sourced<String>,
    pub(super) address: Sourced<String>,
    pub(super) containerd_address: Sourced<String>,
    pub(super) containerd_namespace: Sourced<String>,
    pub(super) log_level: Sourced<String>,
    pub(super) log_format: Sourced<String>,
    pub(super) enable_fsverity: Sourced<bool>,
    pub(super) set_immutable: Sourced<bool>,
    pub(super) mkfs_options: Vec<Sourced<String>>,
    pub(super) builder: Sourced<String>,
    pub(super) layer_content_caches: Vec<Sourced<String>>,
    pub(super) trust_layer_content_caches: Sourced<bool>,
    pub(super) profiles: Vec<MergedProfile>,
}

/// One profile: what it says itself, filled up from the top of the file.
#[derive(Debug)]
pub(super) struct MergedProfile {
    pub(super) name: Sourced<String>,
    pub(super) flavour: Sourced<String>,
    pub(super) layers: Sourced<String>,
    pub(super) project_quota: Sourced<String>,
    pub(super) verity: Keyed<Sourced<String>>,
    pub(super) default_size: Keyed<Sourced<RawSize>>,
    pub(super) overlay_options: Keyed<Vec<Sourced<String>>>,
}

/// A value of a profile and the key under which it was written, which is not always the profile's.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    pub(super) key: String,
    pub(super) value: T,
}

impl Merged {
    pub(super) fn of(flags: Fragment, file: Fragment) -> Self {
        let profiles = profiles(&flags, &file);
        let text = |flag: Option<Sourced<String>>, file: Option<Sourced<String>>, default: &str| {
            flag.or(file).unwrap_or_else(|| Sourced::default(default.to_owned()))
        };
        let switch = |flag: Option<Sourced<bool>>, file: Option<Sourced<bool>>, default| {
            flag.or(file).unwrap_or_else(|| Sourced::default(default))
        };
        let mkfs_options = flags.mkfs_options.or(file.mkfs_options).unwrap_or_default();
        let default =
            if mkfs_options.is_empty() { defaults::BUILDER } else { defaults::BUILDER_WITH_OPTIONS };
        Self {
            builder: text(flags.builder, file.builder, default),
            root: text(flags.root, file.root, defaults::ROOT),
            address: text(flags.address, file.address, defaults::ADDRESS),
            containerd_address: text(
                flags.containerd_address,
                file.containerd_address,
                defaults::CONTAINERD_ADDRESS,
            ),
            containerd_namespace: text(
                flags.containerd_namespace,
                file.containerd_namespace,
                defaults::CONTAINERD_NAMESPACE,
            ),
            log_level: text(flags.log_level, file.log_level, defaults::LOG_LEVEL),
            log_format: text(flags.log_format, file.log_format, defaults::LOG_FORMAT),
            enable_fsverity: switch(flags.enable_fsverity, file.enable_fsverity, defaults::ENABLE_FSVERITY),
            set_immutable: switch(flags.set_immutable, file.set_immutable, defaults::SET_IMMUTABLE),
            mkfs_options,
            layer_content_caches: flags
                .layer_content_caches
                .or(file.layer_content_caches)
                .unwrap_or_default(),
            trust_layer_content_caches: switch(
                flags.trust_layer_content_caches,
                file.trust_layer_content_caches,
                defaults::TRUST_LAYER_CONTENT_CACHES,
            ),
            profiles,
        }
    }
}

/// Every profile of the file, and those that always exist.
fn profiles(flags: &Fragment, file: &Fragment) -> Vec<MergedProfile> {
    let standard = Sourced::default(ProfileFragment::default());
    let mut named: BTreeMap<&str, &Sourced<ProfileFragment>> =
        Named::standard().map(|name| (name, &standard)).collect();
    named.extend(file.profiles.iter().map(|(name, profile)| (name.as_str(), profile)));
    named.into_iter().map(|(name, profile)| merge_profile(name, profile, flags, file)).collect()
}

fn merge_profile(
    name: &str,
    profile: &Sourced<ProfileFragment>,
    flags: &Fragment,
    file: &Fragment,
) -> MergedProfile {
    let default_size = first_given(
        [&flags.default_size, &profile.value.default_size, &file.default_size],
        name,
        "default_size",
        || Sourced::default(RawSize::Bytes(defaults::DEFAULT_SIZE)),
    );
    let overlay_options = first_given(
        [&flags.overlay_options, &profile.value.overlay_options, &file.overlay_options],
        name,
        "overlay_options",
        Vec::new,
    );
    let named = Named::of(name);
    let default = |value: &str| Sourced::default(value.to_owned());
    let own_verity = profile.value.verity.clone().or_else(|| named.verity.map(default));
    let verity =
        first_given([&None, &own_verity, &file.verity], name, "verity", || default(defaults::VERITY));
    let flavour = profile.value.flavour.clone().unwrap_or_else(|| default(named.flavour));
    let layers = profile.value.layers.clone().unwrap_or_else(|| default(named.layers));
    let project_quota = profile.value.project_quota.clone();
    MergedProfile {
        flavour,
        layers,
        project_quota: project_quota.unwrap_or_else(|| Sourced::default(defaults::PROJECT_QUOTA.to_owned())),
        name: Sourced { value: name.to_owned(), place: profile.place },
        verity,
        default_size,
        overlay_options,
    }
}

/// The first of flag, profile and top of the file that gives a value, with the key it stands under.
fn first_given<T: Clone>(
    [flag, own, top]: [&Option<T>; 3],
    profile: &str,
    key: &str,
    default: impl FnOnce() -> T,
) -> Keyed<T> {
    let own_key = format!("profiles.{profile}.{key}");
    let candidates = [(flag, key), (own, own_key.as_str()), (top, key)];
    candidates
        .into_iter()
        .find_map(|(value, key)| value.clone().map(|value| Keyed { key: key.to_owned(), value }))
        .unwrap_or_else(|| Keyed { key: key.to_owned(), value: default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Fragment {
        toml::from_str(text).expect("the test's own file")
    }

    fn sizes(merged: &Merged) -> Vec<(String, String)> {
        let pair = |profile: &MergedProfile| {
            (profile.name.value.clone(), profile.default_size.value.value.to_string())
        };
        merged.profiles.iter().map(pair).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, size)| ((*name).to_owned(), (*size).to_owned())).collect()
    }

    #[test]
    fn nothing_given_is_the_default() {
        let merged = Merged::of(Fragment::default(), Fragment::default());
        assert_eq!(merged.root.value, defaults::ROOT);
        assert!(merged.set_immutable.value);
        assert_eq!(sizes(&merged), pairs(&[("nexuserofs", "0"), ("nexuserofs-host", "0")]));
    }

    #[test]
    fn a_flag_beats_the_file() {
        let flags = Fragment { root: Some(Sourced::flag("/flag".to_owned())), ..Fragment::default() };
        let merged = Merged::of(flags, file("root = '/file'\naddress = '/file/a.sock'"));
        assert_eq!(merged.root.value, "/flag");
        assert_eq!(merged.address.value, "/file/a.sock");
    }

    #[test]
    fn a_profile_beats_the_top_of_the_file_and_a_flag_beats_both() {
        let text = "default_size = '1GiB'\n[profiles.small]\ndefault_size = '64M'\n[profiles.plain]";
        let merged = Merged::of(Fragment::default(), file(text));
        let own = |merged: &Merged| sizes(merged).split_off(1);
        assert_eq!(sizes(&merged)[0], ("nexuserofs".to_owned(), "1GiB".to_owned()));
        assert_eq!(own(&merged), pairs(&[("nexuserofs-host", "1GiB"), ("plain", "1GiB"), ("small", "64M")]));

        let size = Sourced::flag(RawSize::Text("2GiB".to_owned()));
        let flags = Fragment { default_size: Some(size), ..Fragment::default() };
        let merged = Merged::of(flags, file(text));
        assert_eq!(own(&merged), pairs(&[("nexuserofs-host", "2GiB"), ("plain", "2GiB"), ("small", "2GiB")]));
    }

    #[test]
    fn a_profile_has_the_flavour_that_it_says_or_that_its_name_has() {
        let text =
            "[profiles.nexuserofs]\nflavour = 'host'\n[profiles.docker]\nflavour = 'host'\n[profiles.kata]";
        let merged = Merged::of(Fragment::default(), file(text));
        let flavours = merged.profiles.iter().map(|profile| (&*profile.name.value, &*profile.flavour.value));
        assert_eq!(
            flavours.collect::<Vec<_>>(),
            [("docker", "host"), ("kata", "template"), ("nexuserofs", "host"), ("nexuserofs-host", "host")]
        );
    }

    #[test]
    fn a_profile_has_its_layers_as_it_says_or_as_its_name_says() {
        let text = "[profiles.a]\nlayers = 'merged'\n[profiles.nexuserofs-merged]\n[profiles.plain]";
        let merged = Merged::of(Fragment::default(), file(text));
        let written = merged.profiles.iter().filter(|profile| !profile.name.value.ends_with("host"));
        let layers = written.map(|profile| (&*profile.name.value, &*profile.layers.value));
        assert_eq!(
            layers.collect::<Vec<_>>(),
            [
                ("a", "merged"),
                ("nexuserofs", "separate"),
                ("nexuserofs-merged", "merged"),
                ("plain", "separate")
            ]
        );
    }

    #[test]
    fn verity_is_off_unless_the_profile_or_the_top_of_the_file_says_otherwise() {
        let modes = |text: &str| {
            let merged = Merged::of(Fragment::default(), file(text));
            let mode = |profile: &MergedProfile| {
                (profile.name.value.clone(), profile.verity.value.value.clone(), profile.verity.key.clone())
            };
            merged.profiles.iter().map(mode).collect::<Vec<_>>()
        };
        let expected = |name: &str, mode: &str, key: &str| (name.to_owned(), mode.to_owned(), key.to_owned());
        assert!(modes("").iter().all(|(_, mode, _)| mode == "off"));
        assert_eq!(
            modes("verity = 'auto'\n[profiles.kata]\nverity = 'require'"),
            [
                expected("kata", "require", "profiles.kata.verity"),
                expected("nexuserofs", "auto", "verity"),
                expected("nexuserofs-host", "auto", "verity"),
            ]
        );
    }

    #[test]
    fn a_name_stands_for_a_kind_of_plan_whatever_the_top_of_the_file_says() {
        let text = "verity = 'off'\n[profiles.nexuserofs-verity]\n[profiles.nexuserofs-vm]";
        let merged = Merged::of(Fragment::default(), file(text));
        let named = |name: &str| {
            let profile = merged.profiles.iter().find(|profile| profile.name.value == name).unwrap();
            [&profile.flavour, &profile.layers, &profile.verity.value].map(|sourced| sourced.value.as_str())
        };
        assert_eq!(named("nexuserofs-verity"), ["template", "separate", "require"]);
        assert_eq!(named("nexuserofs-vm"), ["raw", "merged", "off"]);
        let own = "[profiles.nexuserofs-verity]\nverity = 'auto'";
        let merged = Merged::of(Fragment::default(), file(own));
        assert_eq!(merged.profiles.last().unwrap().verity.value.value, "auto");
    }

    #[test]
    fn a_list_is_replaced_not_extended() {
        let flags =
            Fragment { mkfs_options: Some(vec![Sourced::flag("-C65536".to_owned())]), ..Fragment::default() };
        let merged = Merged::of(flags, file("mkfs_options = ['-zlz4', '-T0']"));
        let options: Vec<_> = merged.mkfs_options.iter().map(|option| option.value.as_str()).collect();
        assert_eq!(options, ["-C65536"]);
    }
}
