//! Manifests for Kubernetes, held against its schema as the crate k8s-openapi has it.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::node::v1::RuntimeClass;
use nexuserofs_integration::bed::Bed;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Table;

use crate::path;

/// The documents of a file, each of which its type has to have as a whole: what a type does not know gets lost on
/// the way through it.
fn documents(bed: &Bed, name: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path(bed, name))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| name.to_owned())?;
    for document in &documents {
        let read = match document["kind"].as_str() {
            Some("DaemonSet") => through::<DaemonSet>(document),
            Some("RuntimeClass") => through::<RuntimeClass>(document),
            kind => bail!("{name} has a document of the kind {kind:?}"),
        };
        let read = read.with_context(|| name.to_owned())?;
        ensure!(read == *document, "{name}: Kubernetes reads {read:#} of {document:#}");
    }
    Ok(documents)
}

fn through<T: DeserializeOwned + Serialize>(document: &Value) -> Result<Value> {
    Ok(serde_json::to_value(serde_json::from_value::<T>(document.clone())?)?)
}

pub(crate) fn manifests(bed: &Bed) -> Result<()> {
    let classes = documents(bed, "runtimeclass.yaml")?;
    let drop_in: Table = fs::read_to_string(path(bed, "containerd-kata.toml"))?.parse()?;
    let runtimes = drop_in["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"].as_table();
    let mut handlers: Vec<&str> = classes
        .iter()
        .map(|class| class["handler"].as_str().context("a class has a handler"))
        .collect::<Result<_>>()?;
    handlers.sort_unstable();
    let mut configured: Vec<&str> =
        runtimes.context("the drop-in has handlers")?.keys().map(String::as_str).collect();
    configured.sort_unstable();
    ensure!(handlers == configured, "classes name {handlers:?}, the drop-in {configured:?}");
    let daemons = documents(bed, "daemonset.yaml")?;
    ensure!(daemons.len() == 1, "{} documents for one daemon", daemons.len());
    Ok(())
}
