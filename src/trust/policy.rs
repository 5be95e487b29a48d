//! Policies in the forms that guests take.

use nexuserofs_guest::policy::Policy;
use sha2::{Digest as _, Sha256};

/// The name under which the guest's program looks for its policy in the initdata.
const INITDATA_NAME: &str = "nexuserofs-policy.json";

/// The policy as the guest's program reads it from a file.
///
/// # Errors
/// Never in practice: every policy has a JSON form.
pub fn json(policy: &Policy) -> Result<String, serde_json::Error> {
    serde_json::to_string(policy)
}

/// Initdata of Kata with the policy, for `io.katacontainers.config.hypervisor.cc_init_data` (compressed and
/// encoded as the runtime wants it).
///
/// Format: TOML, kata-containers `src/libs/kata-types/src/initdata.rs`. The agent checks the whole text against
/// what the machine measured, and writes each entry to a file.
///
/// # Errors
/// As [`json`].
pub fn initdata(policy: &Policy) -> Result<String, serde_json::Error> {
    let policy = json(policy)?;
    // Nothing in the JSON of a policy needs an escape, and it has no apostrophe.
    Ok(format!(
        "algorithm = \"sha256\"\nversion = \"0.1.0\"\n\n[data]\n\"{INITDATA_NAME}\" = '''\n{policy}\n'''\n"
    ))
}

/// SHA-256 of initdata, as confidential machines measure it, in hex digits.
#[must_use]
pub fn initdata_digest(initdata: &str) -> String {
    Sha256::digest(initdata).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nexuserofs_guest::policy::{Rule, UpperKind};

    use super::*;

    fn policy() -> Policy {
        let hash = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        Policy::new(Rule::Exact(BTreeSet::from([hash])))
    }

    #[test]
    fn initdata_has_the_policy_that_the_guest_reads() {
        let text = initdata(&policy()).unwrap();
        let parsed: toml::Value = toml::from_str(&text).unwrap();
        assert_eq!(parsed["version"].as_str(), Some("0.1.0"));
        let found = parsed["data"][INITDATA_NAME].as_str().unwrap();
        assert_eq!(Policy::read(found.as_bytes()).unwrap(), policy());
        assert!(!Policy::read(found.as_bytes()).unwrap().uppers.contains(&UpperKind::Device));
    }

    #[test]
    fn the_digest_is_that_of_the_text() {
        // FIPS 180-2, appendix B.1.
        assert!(initdata_digest("abc").starts_with("ba7816bf8f01cfea"));
    }
}
