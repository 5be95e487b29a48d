//! What our daemon's log says about its calls.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A call that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// gRPC method, without its service.
    pub method: String,
    /// containerd namespace.
    pub namespace: String,
    /// Name of the snapshotter, if the call is about one.
    pub snapshotter: Option<String>,
    /// What the call was about: a snapshot's key or a layer's digest.
    pub key: String,
    /// Name of the gRPC code; `Ok` for success.
    pub code: String,
    /// How long the daemon worked on it.
    pub took: Duration,
}

/// A line of the log in JSON. Lines about other things lack these.
#[derive(Debug, Deserialize)]
struct Line {
    code: Option<String>,
    duration_ms: Option<f64>,
    span: Option<Span>,
}

#[derive(Debug, Deserialize)]
struct Span {
    method: Option<String>,
    snapshotter: Option<String>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    key: String,
}

/// The calls in a log, in the order of their answers.
///
/// # Errors
/// A line is not JSON. The last line may be cut off: its writer may have been killed.
pub fn calls(log: &str) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for line in log.split_inclusive('\n').filter(|line| line.starts_with('{') && line.ends_with('\n')) {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("line of the daemon's log: {line}"))?;
        let (Some(code), Some(span)) = (line.code, line.span) else { continue };
        let Span { method: Some(method), namespace, snapshotter, key } = span else { continue };
        let took = Duration::from_secs_f64(line.duration_ms.unwrap_or_default() / 1e3);
        calls.push(Call { method, namespace, snapshotter, key, code, took });
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answered_calls_are_found_among_other_lines() {
        let log = concat!(
            r#"{"level":"INFO","message":"listening","target":"nexuserofs"}"#,
            "\n",
            r#"{"level":"INFO","code":"Ok","duration_ms":1.5,"message":"call answered","span":{"key":"sha256:ab","method":"Apply","name":"rpc","namespace":"one"},"spans":[]}"#,
            "\n",
            r#"{"level":"INFO","code":"Ok","mess"#,
        );
        let expected = Call {
            method: "Apply".to_owned(),
            namespace: "one".to_owned(),
            key: "sha256:ab".to_owned(),
            code: "Ok".to_owned(),
            snapshotter: None,
            took: Duration::from_micros(1500),
        };
        assert_eq!(calls(log).unwrap(), [expected]);
    }
}
