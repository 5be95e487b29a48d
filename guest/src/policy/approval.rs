//! A manifest held against a policy.

use super::{KeyRule, Policy, Refusal, Rule};
use crate::manifest::{ImageHash, Manifest, Signature, SignedManifest, UnixTime};

/// A manifest that a policy allows. There is no other way to one than [`Policy::approve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved<'a> {
    manifest: &'a Manifest,
    image_hash: ImageHash,
}

impl<'a> Approved<'a> {
    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &'a Manifest {
        self.manifest
    }

    /// The hash that stands for it.
    #[must_use]
    pub const fn image_hash(&self) -> ImageHash {
        self.image_hash
    }
}

impl Policy {
    /// The manifest, if this policy allows it at the time `now`. A guest's clock is often its host's, so an
    /// expiry is no protection against the host itself: a minimum version is.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn approve<'a>(&self, signed: &'a SignedManifest, now: UnixTime) -> Result<Approved<'a>, Refusal> {
        let manifest = &signed.manifest;
        let image_hash = manifest.image_hash();
        match &self.rule {
            Rule::Exact(hashes) if hashes.contains(&image_hash) => {}
            Rule::Exact(_) => return Err(Refusal::ImageHashNotAllowed { hash: image_hash }),
            Rule::Key(rule) => rule.approve(&signed.signatures, image_hash, now)?,
        }
        Ok(Approved { manifest, image_hash })
    }
}

impl KeyRule {
    /// One signature that is right is enough. If none is, the reason is that of the first by a key that
    /// the policy knows.
    fn approve(&self, signatures: &[Signature], hash: ImageHash, now: UnixTime) -> Result<(), Refusal> {
        let mut refusal = None;
        for signature in signatures.iter().take(SignedManifest::MOST_SIGNATURES) {
            match self.check(signature, hash, now) {
                Ok(()) => return Ok(()),
                Err(reason) if matches!(refusal, None | Some(Refusal::KeyNotAllowed { .. })) => {
                    refusal = Some(reason);
                }
                Err(_) => {}
            }
        }
        Err(refusal.unwrap_or(Refusal::Unsigned))
    }

    fn check(&self, signature: &Signature, found: ImageHash, now: UnixTime) -> Result<(), Refusal> {
        let Signature { statement, signature } = signature;
        let id = statement.key_id;
        let Some(key) = self.keys.iter().find(|key| key.id() == id) else {
            return Err(Refusal::KeyNotAllowed { id });
        };
        // Nothing in the statement means anything before this.
        if !key.made(signature, &statement.message()) {
            return Err(Refusal::SignatureWrong { id });
        }
        if statement.image_hash != found {
            return Err(Refusal::SignedAnother { id, signed: statement.image_hash, found });
        }
        if let Some(expires) = statement.expires.filter(|expires| *expires <= now) {
            return Err(Refusal::Expired { expires, now });
        }
        if statement.version < self.minimum_version {
            return Err(Refusal::VersionTooOld { version: statement.version, minimum: self.minimum_version });
        }
        let is_named = statement.name.as_ref().is_some_and(|name| self.names.contains(name));
        match self.names.is_empty() || is_named {
            true => Ok(()),
            false => Err(Refusal::NameNotAllowed { name: statement.name.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fixtures::{self, key, public, sign, statement};
    use crate::manifest::Statement;

    const NOW: UnixTime = UnixTime(1_900_000_000);

    fn exact(hashes: &[ImageHash]) -> Policy {
        Policy::new(Rule::Exact(hashes.iter().copied().collect()))
    }

    fn keyed(minimum_version: u64, names: &[&str]) -> Policy {
        Policy::new(Rule::Key(KeyRule {
            keys: vec![public(&key(1))],
            minimum_version,
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
        }))
    }

    fn refused(policy: &Policy, signed: &SignedManifest) -> &'static str {
        policy.approve(signed, NOW).unwrap_err().reason()
    }

    #[test]
    fn exact_hashes_allow_themselves_and_nothing_else() {
        let (one, two) = (fixtures::manifest(1), fixtures::manifest(2));
        let policy = exact(&[one.image_hash()]);
        let approved = policy.approve(&one.clone().into(), NOW).map(|approved| approved.image_hash());
        assert_eq!(approved, Ok(one.image_hash()));
        assert_eq!(refused(&policy, &two.clone().into()), "image_hash_not_allowed");
        // A signature does not help where hashes are asked for.
        assert_eq!(refused(&policy, &fixtures::signed(&two)), "image_hash_not_allowed");
        assert_eq!(refused(&exact(&[]), &one.into()), "image_hash_not_allowed");
    }

    #[test]
    fn a_signature_by_a_known_key_allows() {
        let signed = fixtures::signed(&fixtures::manifest(3));
        for policy in [keyed(0, &[]), keyed(7, &["registry.example/app"])] {
            assert!(policy.approve(&signed, NOW).is_ok());
        }
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_reason() {
        let manifest = fixtures::manifest(3);
        let signed = fixtures::signed(&manifest);
        assert_eq!(refused(&keyed(0, &[]), &manifest.clone().into()), "unsigned");
        assert_eq!(refused(&keyed(8, &[]), &signed), "version_too_old");
        assert_eq!(refused(&keyed(0, &["registry.example/other"]), &signed), "name_not_allowed");
        assert_eq!(
            keyed(0, &[]).approve(&signed, UnixTime(253_402_300_799)).unwrap_err().reason(),
            "expired"
        );

        let with = |signature| SignedManifest { manifest: manifest.clone(), signatures: vec![signature] };
        let other_key = Statement { key_id: public(&key(2)).id(), ..statement(&manifest) };
        assert_eq!(refused(&keyed(0, &[]), &with(sign(other_key, &key(2)))), "key_not_allowed");
        assert_eq!(refused(&keyed(0, &[]), &with(sign(statement(&manifest), &key(2)))), "signature_wrong");

        let mut newer = signed.signatures[0].clone();
        newer.statement.version = 9;
        assert_eq!(refused(&keyed(8, &[]), &with(newer)), "signature_wrong");

        let another = sign(statement(&fixtures::manifest(2)), &key(1));
        assert_eq!(refused(&keyed(0, &[]), &with(another)), "signed_another_image");
    }

    #[test]
    fn an_unnamed_image_is_refused_where_names_are_asked_for() {
        let manifest = fixtures::manifest(1);
        let unnamed = Statement { name: None, expires: None, ..statement(&manifest) };
        let signed = SignedManifest { signatures: vec![sign(unnamed, &key(1))], manifest };
        assert_eq!(refused(&keyed(0, &["registry.example/app"]), &signed), "name_not_allowed");
        assert!(keyed(0, &[]).approve(&signed, NOW).is_ok());
    }

    #[test]
    fn one_right_signature_among_wrong_ones_is_enough() {
        let manifest = fixtures::manifest(1);
        let wrong = sign(statement(&manifest), &key(2));
        let right = sign(statement(&manifest), &key(1));
        let signed = |signatures: &[&Signature]| SignedManifest {
            manifest: manifest.clone(),
            signatures: signatures.iter().map(|signature| (*signature).clone()).collect(),
        };
        assert!(keyed(0, &[]).approve(&signed(&[&wrong, &right]), NOW).is_ok());
        assert_eq!(refused(&keyed(0, &[]), &signed(&[&wrong, &wrong])), "signature_wrong");
        // One behind the last that is looked at does not count.
        let many = [[&wrong; SignedManifest::MOST_SIGNATURES].as_slice(), &[&right]].concat();
        assert_eq!(refused(&keyed(0, &[]), &signed(&many)), "signature_wrong");
    }

    #[test]
    fn no_key_means_nobody() {
        let policy =
            Policy::new(Rule::Key(KeyRule { keys: Vec::new(), minimum_version: 0, names: BTreeSet::new() }));
        assert_eq!(refused(&policy, &fixtures::signed(&fixtures::manifest(1))), "key_not_allowed");
    }
}
