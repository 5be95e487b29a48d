//! Kubernetes' interface of containerd 2.3 with our snapshotter for all images.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::harness::{self, Test, eventually};
use nexuserofs_integration::images::Image;
use nexuserofs_integration::images::layout::{Encoding, Layout, Source};
use nexuserofs_integration::node::{
    Cri, CriOptions, DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, OVERLAYFS, SNAPSHOTTER,
};
use serde_json::{Value, json};

const TESTS: &[Test] = &[
    Test { name: "overlayfs_has_pods", run: |bed| pods(bed, &OVERLAY) },
    Test { name: "templates_in_directories", run: |bed| pods(bed, &TEMPLATES) },
    Test { name: "templates_in_blocks", run: |bed| pods(bed, &Subject { mode: BLOCK, ..TEMPLATES }) },
    Test { name: "host_in_directories", run: |bed| pods(bed, &HOST) },
    Test { name: "host_in_blocks", run: |bed| pods(bed, &Subject { mode: BLOCK, ..HOST }) },
    Test { name: "overlayfs_has_user_namespaces", run: |bed| user_namespace(bed, &OVERLAY) },
    Test { name: "templates_have_user_namespaces", run: |bed| user_namespace(bed, &TEMPLATES) },
    Test {
        name: "templates_in_blocks_have_user_namespaces",
        run: |bed| user_namespace(bed, &Subject { mode: BLOCK, ..TEMPLATES }),
    },
    Test { name: "host_has_user_namespaces", run: |bed| user_namespace(bed, &HOST) },
    Test { name: "overlayfs_has_image_volumes", run: |bed| image_volume(bed, &OVERLAY) },
    Test { name: "host_has_image_volumes", run: |bed| image_volume(bed, &HOST) },
];

/// Whose pods are tested.
struct Subject {
    snapshotter: &'static str,
    /// Whether our daemon runs.
    daemon: bool,
    /// Size of the writable block, as the daemon's flag takes it.
    mode: Option<&'static str>,
}

const OVERLAY: Subject = Subject { snapshotter: OVERLAYFS, daemon: false, mode: None };
const TEMPLATES: Subject = Subject { snapshotter: SNAPSHOTTER, daemon: true, mode: None };
const HOST: Subject = Subject { snapshotter: HOST_SNAPSHOTTER, daemon: true, mode: None };
const BLOCK: Option<&str> = Some("64MiB");

/// The directory that the image declares a volume. The image has files there.
const VOLUME: &str = "/srv/app/kept";

/// What a container does all the time. Everything else is run beside it.
const SLEEP: [&str; 3] = ["/usr/bin/python3", "-c", "import time; time.sleep(600)"];

/// Bytes that a container writes, to be found in its statistics.
const WRITTEN: u64 = 8 << 20;

fn main() -> Result<ExitCode> {
    harness::main(Needs { programs: Some(Profile::Debug), ..Needs::default() }, TESTS)
}

/// A node that serves the interface.
fn start(bed: &Bed, subject: &Subject, name: &str) -> Result<Node> {
    let mode = if subject.mode.is_some() { "blocks" } else { "directories" };
    let name = format!("{name}-{}-{mode}", subject.snapshotter);
    let images = bed.place.scratch.join(format!("{name}-images"));
    let options = NodeOptions {
        daemon: subject
            .daemon
            .then(|| DaemonOptions { default_size: subject.mode, ..DaemonOptions::default() }),
        cri: Some(CriOptions {
            snapshotter: subject.snapshotter,
            sandbox: pause_image(&bed.place.tools, &images)?,
        }),
        ..NodeOptions::default()
    };
    Node::start(&bed.place, &name, &options)
}

/// An image of one program that waits.
fn pause_image(tools: &Path, dir: &Path) -> Result<Image> {
    let (root, layout) = (dir.join("pause-root"), dir.join("pause"));
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&layout)?;
    fs::copy(tools.join("pause"), root.join("pause"))?;
    let mut image = Layout::create(&layout)?;
    image.add(Source::Directory(&root), Encoding::Gzip)?;
    image.set("Entrypoint", json!(["/pause"]));
    image.finish()?;
    Ok(Image { name: "pause", layout })
}

/// The demo image with a volume.
fn image_with_volume(bed: &Bed, dir: &Path) -> Result<Image> {
    let layout = dir.join("volume");
    fs::create_dir_all(&layout)?;
    let mut image = Layout::on(&bed.images.demo, &layout)?;
    image.set("Volumes", json!({ VOLUME: {} }));
    image.finish()?;
    Ok(Image { name: "volume", layout })
}

/// A pod in the machine's network: networks are not what is tested.
fn in_the_machines_network() -> Value {
    json!({ "namespaceOptions": { "network": "NODE" } })
}

fn container(name: &str, image: &str) -> Value {
    json!({
        "metadata": { "name": name, "attempt": 0 },
        "image": { "image": image },
        "command": SLEEP,
        "linux": {},
    })
}

/// Two containers of one image in a pod, a third that may not write and has a volume, their statistics, and the end.
fn pods(bed: &Bed, subject: &Subject) -> Result<()> {
    let node = start(bed, subject, "pods")?;
    let image = node.push(&bed.images.demo)?;
    let with_volume = node.push(&image_with_volume(bed, node.dir())?)?;
    let cri = Cri::of(&node.containerd);
    cri.pull(&image)?;
    cri.pull(&with_volume)?;
    let pod = cri.run_pod("pod", &in_the_machines_network())?;
    let first = cri.start_container(&pod, &container("first", &image))?;
    let second = cri.start_container(&pod, &container("second", &image))?;
    keep_apart(&cri, &first, &second)?;
    let mut third = container("third", &with_volume);
    third["linux"] = json!({ "securityContext": { "readonlyRootfs": true } });
    let third = cri.start_container(&pod, &third)?;
    check_read_only_root(&cri, &third)?;
    check_volume(&cri, &third)?;
    check_container_statistics(&cri, &first)?;
    check_image_statistics(&cri, &node)?;
    cri.remove_pod(&pod)?;
    remove_images(&cri)?;
    ensure_nothing_left(&node, subject)
}

/// What one container writes, the other does not see.
fn keep_apart(cri: &Cri, first: &str, second: &str) -> Result<()> {
    let program = format!(
        "import os; f = open('/srv/app/new', 'wb'); f.write(os.urandom({WRITTEN})); f.flush(); os.fsync(f.fileno()); \
         os.remove('/srv/app/main.py'); print(open('/etc/hostname').read().strip(), os.listdir('/srv/app/opaque'))"
    );
    let printed = cri.output(first, &["/usr/bin/python3", "-c", &program])?;
    ensure!(printed.ends_with("['new']"), "the first container printed {printed:?}");
    let program = "import os; print(os.path.exists('/srv/app/new'), os.path.exists('/srv/app/main.py'))";
    let printed = cri.output(second, &["/usr/bin/python3", "-c", program])?;
    ensure!(printed == "False True", "the second container printed {printed:?}");
    Ok(())
}

fn check_read_only_root(cri: &Cri, container: &str) -> Result<()> {
    let program = "import errno\n\
        try: open('/srv/app/new', 'w')\n\
        except OSError as error: print(errno.errorcode[error.errno])";
    let printed = cri.output(container, &["/usr/bin/python3", "-c", program])?;
    ensure!(printed == "EROFS", "writing to a read-only root printed {printed:?}");
    Ok(())
}

/// The volume begins with what the image has there, and can be written to.
fn check_volume(cri: &Cri, container: &str) -> Result<()> {
    let program = format!(
        "import os; os.chdir('{VOLUME}'); open('added', 'w').write('x'); \
         print(os.path.getsize('data'), os.path.getsize('sparse'), os.path.samefile('data', 'hard link'), \
         oct(os.stat('.').st_mode & 0o7777), os.path.ismount('.'))"
    );
    let printed = cri.output(container, &["/usr/bin/python3", "-c", &program])?;
    ensure!(printed.starts_with("300000 9000000 "), "the volume's files: {printed:?}");
    ensure!(printed.ends_with(" 0o1777 True"), "the volume itself: {printed:?}");
    Ok(())
}

/// The writable layer's size is found in the container's statistics, once containerd collected them.
fn check_container_statistics(cri: &Cri, container: &str) -> Result<()> {
    eventually(|| {
        let answer = cri.runtime("ContainerStats", &json!({ "containerId": container }))?;
        let used = number(&answer["stats"]["writableLayer"]["usedBytes"]);
        Ok((!(WRITTEN..4 * WRITTEN).contains(&used)).then(|| format!("after {WRITTEN} bytes: {answer}")))
    })
}

/// The images' file system is ours, with what the layers take.
fn check_image_statistics(cri: &Cri, node: &Node) -> Result<()> {
    let root = node.daemon.as_ref().map(|daemon| daemon.root().display().to_string());
    eventually(|| {
        let answer = cri.image("ImageFsInfo", &json!({}))?;
        let of = &answer["imageFilesystems"][0];
        let place = of["fsId"]["mountpoint"].as_str().unwrap_or_default();
        let is_ours = root.as_deref().is_none_or(|root| place == root);
        let used = number(&of["usedBytes"]["value"]);
        Ok((!is_ours || used < 10_000_000).then(|| format!("statistics of images: {answer}")))
    })
}

/// A number of 64 bits, which JSON has as text, or 0.
fn number(value: &Value) -> u64 {
    let value = value.get("value").unwrap_or(value);
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn remove_images(cri: &Cri) -> Result<()> {
    let images = cri.image("ListImages", &json!({}))?;
    for image in images["images"].as_array().context("no list of images")? {
        cri.remove_image(image["id"].as_str().context("an image without id")?)?;
    }
    Ok(())
}

/// An image mounted into a container of another image.
fn image_volume(bed: &Bed, subject: &Subject) -> Result<()> {
    let node = start(bed, subject, "volume")?;
    let image = node.push(&bed.images.demo)?;
    let data = node.push(&bed.images.encodings)?;
    let cri = Cri::of(&node.containerd);
    cri.pull(&image)?;
    cri.pull(&data)?;
    let pod = cri.run_pod("pod", &in_the_machines_network())?;
    let mut config = container("one", &image);
    config["mounts"] = json!([{ "containerPath": "/data", "image": { "image": data }, "readonly": true }]);
    let one = cri.start_container(&pod, &config)?;
    let program = "import errno, os; print(sorted(os.listdir('/data')), os.path.getsize('/data/zstd/large'))\n\
        try: open('/data/new', 'w')\n\
        except OSError as error: print(errno.errorcode[error.errno])";
    let printed = cri.output(&one, &["/usr/bin/python3", "-c", program])?;
    let expected = "['gzip', 'gzip-members', 'plain', 'zstd', 'zstd-frames'] 7000001\nEROFS";
    ensure!(printed == expected, "the volume shows {printed:?}");
    cri.remove_pod(&pod)?;
    remove_images(&cri)?;
    ensure_nothing_left(&node, subject)
}

/// A network of its own for a pod, which a pod with a user namespace must have: a pair of virtual devices without
/// a route to anywhere. Format: CNI specification 1.0, network configuration list.
const NETWORK: &str = r#"{
    "cniVersion": "1.0.0",
    "name": "test",
    "plugins": [{
        "type": "ptp",
        "ipam": { "type": "host-local", "subnet": "10.255.77.0/24", "dataDir": "/run/cni-addresses" }
    }]
}"#;

/// The first user of the machine that users of the pod are.
const FIRST: u32 = 200_000;
/// How many users the pod has.
const USERS: u32 = 65_536;

/// Files have their owners inside, although none of the pod's users is one of the machine's.
fn user_namespace(bed: &Bed, subject: &Subject) -> Result<()> {
    let node = start(bed, subject, "users")?;
    let networks = node.dir().join("networks");
    fs::create_dir_all(&networks)?;
    fs::write(networks.join("10-test.conflist"), NETWORK)?;
    let image = node.push(&bed.images.demo)?;
    let cri = Cri::of(&node.containerd);
    cri.pull(&image)?;
    eventually(|| network_is_missing(&cri))?;
    let users = json!([{ "containerId": 0, "hostId": FIRST, "length": USERS }]);
    let users = json!({ "mode": "POD", "uids": users, "gids": users });
    let security = json!({ "namespaceOptions": { "network": "POD", "usernsOptions": users } });
    let pod = cri.run_pod("users", &security)?;
    let mut config = container("one", &image);
    config["linux"] = json!({ "securityContext": security });
    let one = cri.start_container(&pod, &config)?;
    let program = "import os; own = lambda p: '%d:%d' % (os.lstat(p).st_uid, os.lstat(p).st_gid)\n\
        open('/srv/app/new', 'w').write('x'); os.chown('/srv/app/new', 7, 8); os.remove('/srv/app/main.py')\n\
        os.chown('/srv/app/setuid', 9, 10)\n\
        print(open('/proc/self/uid_map').read().split()[1], own('/'), own('/etc/hostname'), own('/srv/app/symlink'), \
        own('/srv/app/secret'), own('/srv/app/new'), own('/srv/app/setuid'))";
    let printed = cri.output(&one, &["/usr/bin/python3", "-c", program])?;
    // The owner of `secret` is beyond the users that the pod has.
    let expected = format!("{FIRST} 0:0 0:0 1000:1000 65534:65534 7:8 9:10");
    ensure!(printed == expected, "owners inside: {printed:?}, expected {expected:?}");
    cri.remove_pod(&pod)?;
    remove_images(&cri)?;
    ensure_nothing_left(&node, subject)
}

/// Says what is missing until containerd has found the network's configuration.
fn network_is_missing(cri: &Cri) -> Result<Option<String>> {
    let answer = cri.runtime("Status", &json!({}))?;
    let conditions = answer["status"]["conditions"].as_array().context("no conditions in the status")?;
    let ready = conditions.iter().any(|one| one["type"] == "NetworkReady" && one["status"] == true);
    Ok((!ready).then(|| format!("the network is not ready: {answer}")))
}

/// After pods and images are gone, nothing may remind of them.
fn ensure_nothing_left(node: &Node, subject: &Subject) -> Result<()> {
    eventually(|| {
        let left = node.containerd.snapshots("k8s.io", subject.snapshotter)?;
        Ok((!left.is_empty()).then(|| format!("containerd has snapshots left: {left:?}")))
    })?;
    node.assert_nothing_left()
}
