//! The flags of the daemon.

use std::path::PathBuf;

use clap::Parser;

use crate::config::{Fragment, RawSize, Sourced};

/// External containerd snapshotter and differ that keeps image layers as EROFS files.
///
/// A flag beats the same setting in the file that --config names.
#[derive(Debug, Parser)]
#[command(name = "nexuserofs-snapshotter", version)]
pub(super) struct Arguments {
    /// Directory of the daemon's data [default: /var/lib/nexuserofs-snapshotter]
    #[arg(short, long, value_name = "DIRECTORY")]
    root: Option<String>,

    /// Unix socket to listen at [default: /run/nexuserofs-snapshotter/snapshotter.sock]
    #[arg(short, long, value_name = "SOCKET")]
    address: Option<String>,

    /// containerd's socket, which is asked for the blobs of layers [default: /run/containerd/containerd.sock]
    #[arg(long, value_name = "SOCKET")]
    containerd_address: Option<String>,

    /// containerd namespace whose blobs are read for a call that names none [default: default]
    #[arg(long, value_name = "NAME")]
    containerd_namespace: Option<String>,

    /// Least important messages to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Form of the log: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Size of a container's writable layer: bytes, or a number with K, M, G or T (powers of
    /// 1024) such as 20GiB; 0 is a directory without a limit [default: 0]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    default_size: Option<String>,

    /// Seal layers with fs-verity, and measure them before they are handed out [default: false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_fsverity: Option<bool>,

    /// Set the immutable attribute on finished layers, where the file system has it [default: true]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    set_immutable: Option<bool>,

    /// Option for mkfs.erofs, which then makes layers of tars; may be given several times
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    mkfs_options: Option<Vec<String>>,

    /// Option for overlay mounts, such as index=off; may be given several times
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    overlay_options: Option<Vec<String>>,

    /// TOML file with the same settings, with underscores in their names, and [profiles.NAME]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Arguments {
    /// The settings that the flags give, and the settings file.
    pub(super) fn split(self) -> (Fragment, Option<PathBuf>) {
        let flags = Fragment {
            root: self.root.map(Sourced::flag),
            address: self.address.map(Sourced::flag),
            containerd_address: self.containerd_address.map(Sourced::flag),
            containerd_namespace: self.containerd_namespace.map(Sourced::flag),
            log_level: self.log_level.map(Sourced::flag),
            log_format: self.log_format.map(Sourced::flag),
            default_size: self.default_size.map(RawSize::Text).map(Sourced::flag),
            enable_fsverity: self.enable_fsverity.map(Sourced::flag),
            set_immutable: self.set_immutable.map(Sourced::flag),
            builder: None,
            mkfs_options: self.mkfs_options.map(each_from_flag),
            overlay_options: self.overlay_options.map(each_from_flag),
            verity: None,
            layer_content_caches: None,
            trust_layer_content_caches: None,
            profiles: Default::default(),
        };
        (flags, self.config)
    }
}

fn each_from_flag(values: Vec<String>) -> Vec<Sourced<String>> {
    values.into_iter().map(Sourced::flag).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::defaults;

    fn parse(arguments: &[&str]) -> Result<Fragment, clap::Error> {
        let program = std::iter::once("nexuserofs-snapshotter");
        Arguments::try_parse_from(program.chain(arguments.iter().copied())).map(|parsed| parsed.split().0)
    }

    fn values(list: Option<Vec<Sourced<String>>>) -> Vec<String> {
        list.unwrap_or_default().into_iter().map(|sourced| sourced.value).collect()
    }

    #[test]
    fn help_states_the_defaults() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        for default in [
            defaults::ROOT,
            defaults::ADDRESS,
            defaults::CONTAINERD_ADDRESS,
            defaults::CONTAINERD_NAMESPACE,
            defaults::LOG_LEVEL,
            defaults::LOG_FORMAT,
            &defaults::DEFAULT_SIZE.to_string(),
            &defaults::ENABLE_FSVERITY.to_string(),
            &defaults::SET_IMMUTABLE.to_string(),
        ] {
            assert!(help.contains(&format!("[default: {default}]")), "{default}");
        }
    }

    #[test]
    fn switches_take_a_value_or_none() {
        for (argument, expected) in
            [("--set-immutable", true), ("--set-immutable=false", false), ("--set-immutable=true", true)]
        {
            let flags = parse(&[argument]).expect(argument);
            assert_eq!(flags.set_immutable.map(|sourced| sourced.value), Some(expected), "{argument}");
        }
        let flags = parse(&["--enable-fsverity=false", "-r", "/data", "-a", "/s"]).expect("flags");
        assert_eq!(flags.enable_fsverity.map(|sourced| sourced.value), Some(false));
        assert_eq!(flags.root.map(|sourced| sourced.value).as_deref(), Some("/data"));
        assert_eq!(flags.address.map(|sourced| sourced.value).as_deref(), Some("/s"));
        parse(&["--set-immutable=maybe"]).expect_err("neither true nor false");
    }

    #[test]
    fn options_gather_and_may_begin_with_a_dash() {
        let flags = parse(&["--mkfs-options=-zlz4hc,12", "--mkfs-options", "-C65536"]).expect("flags");
        assert_eq!(values(flags.mkfs_options), ["-zlz4hc,12", "-C65536"]);
        let flags = parse(&["--overlay-options=index=off", "--overlay-options=metacopy=off"]).expect("flags");
        assert_eq!(values(flags.overlay_options), ["index=off", "metacopy=off"]);
    }
}
