//! The rules for the policy of Kata's agent, judged by the evaluator that the agent has.
//!
//! The layers and their sidecars are real, and the plans are those of the profile `nexuserofs-verity`. What the
//! agent is asked is made of them as Kata's runtime does.

// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

#[path = "../tar_semantics/archive.rs"]
mod archive;
mod attacks;
mod frame;
mod guest;
mod host;
mod kata;

use regorus::{Engine, Value};

/// What the agent's policy makes of a request to create a container.
pub(crate) fn is_allowed(rules: &str, request: &serde_json::Value) -> bool {
    let caller = "package agent_policy\nimport future.keywords.if\ndefault CreateContainerRequest := false\n\
                  CreateContainerRequest if nexuserofs_allow_container(input)\n";
    answer(&[rules, caller], "CreateContainerRequest", request) == Some(true)
}

/// The answer of these policies for an endpoint of the agent, asked as the agent does (kata-containers,
/// `src/agent/policy/src/policy.rs`). None if they do not speak of it.
pub(crate) fn answer(policies: &[&str], endpoint: &str, input: &serde_json::Value) -> Option<bool> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    for (number, policy) in policies.iter().enumerate() {
        engine.add_policy(format!("policy-{number}"), (*policy).to_owned()).expect("the agent can read it");
    }
    engine.set_input_json(&input.to_string()).unwrap();
    let results = engine.eval_query(format!("data.agent_policy.{endpoint}"), false).unwrap();
    let [result] = results.result.as_slice() else { return None };
    match &result.expressions.first()?.value {
        Value::Bool(allowed) => Some(*allowed),
        _ => None,
    }
}
