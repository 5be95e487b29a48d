//! Kubernetes' container runtime interface (CRI v1) of a node's containerd, one call at a time.
//!
//! Requests and responses are JSON in the mapping that protobuf defines: names in camel case, bytes in base64,
//! numbers of 64 bits as text.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::containerd::Containerd;
use crate::command::Run;

/// A client of the interface.
#[derive(Clone, Debug)]
pub struct Cri {
    program: PathBuf,
    socket: PathBuf,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its id.
    pub id: String,
    /// What it was made from. Each of its containers is made from this too.
    config: Value,
}

/// What a command in a container printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code.
    pub code: i64,
}

impl Cri {
    /// A client of this containerd, which must serve the interface.
    #[must_use]
    pub fn of(containerd: &Containerd) -> Self {
        Self { program: containerd.tool("cri-call"), socket: containerd.socket().to_owned() }
    }

    /// A call to do with images.
    ///
    /// # Errors
    /// The call fails.
    pub fn image(&self, method: &str, request: &Value) -> Result<Value> {
        self.call("ImageService", method, request)
    }

    /// A call to do with pods and containers.
    ///
    /// # Errors
    /// The call fails.
    pub fn runtime(&self, method: &str, request: &Value) -> Result<Value> {
        self.call("RuntimeService", method, request)
    }

    fn call(&self, service: &str, method: &str, request: &Value) -> Result<Value> {
        let answer = Run::new(&self.program)
            .arg("-address")
            .arg(&self.socket)
            .args([service, method])
            .input(request.to_string())
            .output()?;
        serde_json::from_str(&answer).with_context(|| format!("answer to {method}"))
    }

    /// Pulls an image.
    ///
    /// # Errors
    /// The pull fails.
    pub fn pull(&self, reference: &str) -> Result<()> {
        self.image("PullImage", &json!({ "image": { "image": reference } })).map(drop)
    }

    /// Removes an image.
    ///
    /// # Errors
    /// The removal fails.
    pub fn remove_image(&self, reference: &str) -> Result<()> {
        self.image("RemoveImage", &json!({ "image": { "image": reference } })).map(drop)
    }

    /// Starts a pod. `security` is its `LinuxSandboxSecurityContext`.
    ///
    /// # Errors
    /// The pod does not start.
    pub fn run_pod(&self, name: &str, security: &Value) -> Result<Pod> {
        let config = json!({
            "metadata": { "name": name, "namespace": "test", "uid": name, "attempt": 0 },
            "linux": { "cgroupParent": format!("/nexuserofs-{name}"), "securityContext": security },
        });
        let answer = self.runtime("RunPodSandbox", &json!({ "config": config }))?;
        Ok(Pod { id: text(&answer, "podSandboxId")?, config })
    }

    /// Ends a pod and everything in it.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let request = json!({ "podSandboxId": pod.id });
        self.runtime("StopPodSandbox", &request)?;
        self.runtime("RemovePodSandbox", &request).map(drop)
    }

    /// Starts a container in a pod and returns its id. `config` is a `ContainerConfig`.
    ///
    /// # Errors
    /// The container does not start.
    pub fn start_container(&self, pod: &Pod, config: &Value) -> Result<String> {
        let request = json!({ "podSandboxId": pod.id, "config": config, "sandboxConfig": pod.config });
        let id = text(&self.runtime("CreateContainer", &request)?, "containerId")?;
        self.runtime("StartContainer", &json!({ "containerId": id }))?;
        Ok(id)
    }

    /// Runs a command in a container.
    ///
    /// # Errors
    /// The command cannot be run. One that ends with a code other than 0 is no error.
    pub fn execute(&self, container: &str, command: &[&str]) -> Result<Executed> {
        let request = json!({ "containerId": container, "cmd": command, "timeout": "60" });
        let answer = self.runtime("ExecSync", &request)?;
        Ok(Executed {
            stdout: printed(&answer, "stdout")?,
            stderr: printed(&answer, "stderr")?,
            code: answer["exitCode"].as_i64().unwrap_or_default(),
        })
    }

    /// Runs a command that must end with 0, and returns what it printed, without blanks at its ends.
    ///
    /// # Errors
    /// The command cannot be run, or ends otherwise.
    pub fn output(&self, container: &str, command: &[&str]) -> Result<String> {
        let executed = self.execute(container, command)?;
        ensure!(executed.code == 0, "{command:?} ended with {}: {}", executed.code, executed.stderr);
        Ok(executed.stdout.trim().to_owned())
    }
}

/// A text field of an answer.
fn text(answer: &Value, field: &str) -> Result<String> {
    let value = answer[field].as_str().with_context(|| format!("no {field} in {answer}"))?;
    Ok(value.to_owned())
}

/// A field of bytes of an answer, which is left out when it is empty.
fn printed(answer: &Value, field: &str) -> Result<String> {
    let encoded = answer[field].as_str().unwrap_or_default();
    let bytes =
        BASE64_STANDARD.decode(encoded).with_context(|| format!("{field} is not base64: {encoded}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
