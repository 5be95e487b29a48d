//! Which images a guest runs, by the word of someone it trusts; never the host's.
//!
//! Whatever is not allowed is refused, and so is a policy that is missing, damaged or there twice.
//! Format: `docs/guest.md`.
//!
//! * `rule`: what is allowed. * `approval`: a manifest held against it.
//! * `source`: where the policy comes from. * `refusal`: the reasons.

mod approval;
mod refusal;
mod rule;
mod source;

pub use approval::Approved;
pub use refusal::Refusal;
pub use rule::{KeyRule, Policy, Rule, UpperKind};
pub use source::{InvalidPolicy, Origin, choose};
