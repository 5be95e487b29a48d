//! BuildKit with its containerd worker, which mounts snapshots by itself and commits what a step wrote: a Dockerfile of
//! three steps on the profile made for such clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use nexuserofs_integration::bed::{Bed, Needs, Profile};
use nexuserofs_integration::command::Run;
use nexuserofs_integration::harness::{self, Test, eventually};
use nexuserofs_integration::host::tools::BUILDKIT;
use nexuserofs_integration::node::containerd::ImageMount;
use nexuserofs_integration::node::service::Service;
use nexuserofs_integration::node::{DaemonOptions, HOST_SNAPSHOTTER, Node, NodeOptions, OVERLAYFS, Pull};
use nexuserofs_integration::tree::{self, Tree};

const TESTS: &[Test] = &[
    Test { name: "overlayfs", run: |bed| build(bed, OVERLAYFS, None) },
    Test {
        name: "host_in_directories",
        run: |bed| build(bed, HOST_SNAPSHOTTER, Some(DaemonOptions::default())),
    },
    Test {
        name: "host_in_blocks",
        run: |bed| {
            let blocks = DaemonOptions { default_size: Some("64MiB"), ..DaemonOptions::default() };
            build(bed, HOST_SNAPSHOTTER, Some(blocks))
        },
    },
];

/// The namespace of BuildKit's worker.
const WORKER: &str = "buildkit";
/// The namespace into which the result is pulled.
const NAMESPACE: &str = "built";

fn main() -> Result<ExitCode> {
    let needs = Needs { programs: Some(Profile::Debug), extras: &[BUILDKIT], ..Needs::default() };
    harness::main(needs, TESTS)
}

/// Builds, pushes, and compares what is pulled again with what the steps were to make.
fn build(bed: &Bed, snapshotter: &'static str, daemon: Option<DaemonOptions>) -> Result<()> {
    let mode = match &daemon {
        Some(DaemonOptions { default_size: Some(_), .. }) => "blocks",
        _ => "directories",
    };
    let node = Node::start(
        &bed.place,
        &format!("{snapshotter}-{mode}"),
        &NodeOptions { daemon, ..NodeOptions::default() },
    )?;
    let base = node.push(&bed.images.demo)?;
    let built = node.registry.reference("built");
    let context = node.dir().join("context");
    write_context(&context, &base)?;
    let mut buildkit = BuildKit::start(bed, &node, snapshotter)?;
    buildkit.build(&context, &built)?;
    buildkit.prune()?;
    buildkit.service.stop()?;

    node.containerd.pull(NAMESPACE, snapshotter, Pull::Transfer, &built)?;
    let printed = node.containerd.run(
        NAMESPACE,
        snapshotter,
        &built,
        "one",
        &["/usr/bin/python3", "/srv/app/look.py"],
    )?;
    ensure!(printed.trim() == "second False ['new'] True", "the built image printed {printed:?}");
    let ours = read(&node, snapshotter, &built)?;
    if snapshotter != OVERLAYFS {
        node.containerd.pull(NAMESPACE, OVERLAYFS, Pull::Transfer, &built)?;
        let found = tree::differences(&read(&node, OVERLAYFS, &built)?, &ours, 20);
        ensure!(found.is_empty(), "overlayfs on the left:\n{}", found.join("\n"));
    }
    node.containerd.remove_image(NAMESPACE, &built)?;
    for namespace in [WORKER, NAMESPACE] {
        eventually(|| {
            let left = node.containerd.snapshots(namespace, snapshotter)?;
            Ok((!left.is_empty()).then(|| format!("snapshots were left in {namespace}: {left:?}")))
        })?;
    }
    node.assert_nothing_left()
}

/// A Dockerfile of three steps: one that writes, one that copies, one that changes and removes what the first wrote.
fn write_context(dir: &Path, base: &str) -> Result<()> {
    fs::create_dir(dir)?;
    fs::write(
        dir.join("look.py"),
        "import os\n\
         print(open('/srv/app/step').read(), os.path.exists('/srv/app/taken'), os.listdir('/srv/app/opaque'), \
         os.path.samefile('/srv/app/step', '/srv/app/linked'))\n",
    )?;
    let first = "import os; open('/srv/app/step', 'w').write('first'); os.mkdir('/srv/app/taken'); \
                 open('/srv/app/taken/file', 'w').write('x'); os.remove('/srv/app/main.py')";
    let third = "import os; open('/srv/app/step', 'w').write('second'); \
                 os.remove('/srv/app/taken/file'); os.rmdir('/srv/app/taken'); \
                 os.link('/srv/app/step', '/srv/app/linked'); os.chown('/srv/app/secret', 0, 0)";
    let run = |program: &str| format!("RUN {}", serde_json::json!(["/usr/bin/python3", "-c", program]));
    let dockerfile = format!("FROM {base}\n{}\nCOPY look.py /srv/app/look.py\n{}\n", run(first), run(third));
    Ok(fs::write(dir.join("Dockerfile"), dockerfile)?)
}

/// A running BuildKit.
struct BuildKit {
    service: Service,
    client: PathBuf,
    address: String,
}

impl BuildKit {
    fn start(bed: &Bed, node: &Node, snapshotter: &str) -> Result<Self> {
        let programs = bed.place.extra(BUILDKIT)?;
        let dir = node.dir().join("buildkit");
        fs::create_dir(&dir)?;
        let address = format!("unix://{}", dir.join("socket").display());
        let mut command = Command::new(programs.join("buildkitd"));
        command.args(["--addr", &address, "--root"]).arg(dir.join("root"));
        command.args(["--oci-worker=false", "--containerd-worker=true", "--containerd-worker-net=host"]);
        command.arg(format!("--containerd-worker-addr={}", node.containerd.socket().display()));
        command.arg(format!("--containerd-worker-snapshotter={snapshotter}"));
        command.arg(format!("--containerd-worker-namespace={WORKER}"));
        let mut service = Service::start("buildkitd", command, &dir.join("log"))?;
        let client = programs.join("buildctl");
        let workers = {
            let (client, address) = (client.clone(), address.clone());
            move || Run::new(&client).args(["--addr", &address, "debug", "workers"]).succeeds()
        };
        service.wait_until(workers)?;
        Ok(Self { service, client, address })
    }

    fn client(&self) -> Run {
        Run::new(&self.client).args(["--addr", &self.address])
    }

    /// Builds the Dockerfile in `context` and pushes the image.
    fn build(&self, context: &Path, reference: &str) -> Result<()> {
        let context = context.display();
        self.client()
            .args(["build", "--progress=plain", "--frontend=dockerfile.v0"])
            .arg(format!("--local=context={context}"))
            .arg(format!("--local=dockerfile={context}"))
            .arg(format!("--output=type=image,name={reference},push=true,registry.insecure=true"))
            .run()
            .with_context(|| format!("end of BuildKit's log:\n{}", self.service.log().unwrap_or_default()))
    }

    /// Lets go of everything that it keeps for later builds.
    fn prune(&self) -> Result<()> {
        self.client().args(["prune", "--all"]).run()
    }
}

fn read(node: &Node, snapshotter: &str, reference: &str) -> Result<Tree> {
    node.containerd.read_image(ImageMount {
        namespace: NAMESPACE,
        snapshotter,
        reference,
        target: &node.dir().join("mounted"),
        writable: false,
    })
}
