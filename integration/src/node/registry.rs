//! A registry on a free port of the loopback interface.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::service::Service;
use crate::command::Run;
use crate::images::Image;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    _service: Service,
}

impl Registry {
    /// Starts an empty registry that keeps its data in `dir`, which is made.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        let address = free_address()?;
        let config = dir.join("config.yml");
        fs::write(&config, configuration(&dir.join("data"), address))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        let mut service = Service::start("registry", command, &dir.join("log"))?;
        service.wait_until(|| answers(address))?;
        Ok(Self { address, _service: service })
    }

    /// The reference that an image of this name has, or would have, in the registry.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.address)
    }

    /// Copies an image from its OCI layout into the registry and returns its reference there.
    ///
    /// # Errors
    /// skopeo fails.
    pub fn push(&self, image: &Image) -> Result<String> {
        let reference = self.reference(image.name);
        Run::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--preserve-digests", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:latest", image.layout.display()))
            .arg(format!("docker://{reference}"))
            .run()?;
        Ok(reference)
    }
}

fn configuration(data: &Path, address: SocketAddr) -> String {
    format!(
        "version: 0.1\n\
         log: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"{address}\"}}\n",
        data.display()
    )
}

/// A port that was free a moment ago. Another process may take it first; then the registry fails to
/// start and says so.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// Whether the registry answers its base endpoint with 200.
fn answers(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}
