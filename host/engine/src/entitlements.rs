//! Entitlements: what a step may do only where the user said so. Checked in one function, below every frontend and every API, for every
//! exec (CVE-2024-23653); the modes are closed enums, so that nothing unknown gets by (GHSA-7236-3392-c5c6).
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rhost_llb::{ExecOp, NetMode, SecurityMode};

use crate::op_error::OpFailure;
use crate::rules::Rules;

/// One permission, as `--allow` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `network.host`: steps that ask for the host's network by name.
    NetworkHost,
    /// `security.insecure`: steps without the sandbox.
    SecurityInsecure,
}

impl fmt::Display for Entitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        })
    }
}

/// A text that names no entitlement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no entitlement; there are network.host and security.insecure")]
pub struct UnknownEntitlement(pub String);

impl FromStr for Entitlement {
    type Err = UnknownEntitlement;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::NetworkHost, Self::SecurityInsecure];
        known.into_iter().find(|known| known.to_string() == text).ok_or_else(|| UnknownEntitlement(text.to_owned()))
    }
}

/// What one build was granted. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlements(pub BTreeSet<Entitlement>);

impl Entitlements {
    /// The gate.
    ///
    /// # Errors
    /// The step wants what was not granted, or what a rule forbids.
    pub(crate) fn check(&self, exec: &ExecOp, rules: &Rules) -> Result<(), OpFailure> {
        let network = match exec.network {
            NetMode::Sandbox | NetMode::None => None,
            NetMode::Host => Some(Entitlement::NetworkHost),
        };
        let security = match exec.security {
            SecurityMode::Sandbox => None,
            SecurityMode::Insecure => Some(Entitlement::SecurityInsecure),
        };
        for wanted in [network, security].into_iter().flatten() {
            rules.check_entitlement(wanted)?;
            if !self.0.contains(&wanted) {
                return Err(OpFailure::NotAllowed(wanted));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_granted_passes() {
        let exec = |network, security| ExecOp { network, security, ..ExecOp::default() };
        let none = Entitlements::default();
        assert!(none.check(&exec(NetMode::Sandbox, SecurityMode::Sandbox), &Rules::default()).is_ok());
        assert!(none.check(&exec(NetMode::None, SecurityMode::Sandbox), &Rules::default()).is_ok());
        let refused = |granted: &Entitlements, network, security| {
            granted.check(&exec(network, security), &Rules::default()).expect_err("refused").to_string()
        };
        assert!(refused(&none, NetMode::Host, SecurityMode::Sandbox).contains("network.host"));
        assert!(refused(&none, NetMode::Sandbox, SecurityMode::Insecure).contains("security.insecure"));
        let one = Entitlements(["network.host".parse().expect("known")].into());
        assert!(one.check(&exec(NetMode::Host, SecurityMode::Sandbox), &Rules::default()).is_ok());
        assert!(refused(&one, NetMode::Host, SecurityMode::Insecure).contains("security.insecure"));
        assert!("device".parse::<Entitlement>().is_err_and(|error| error.to_string().contains("network.host")));
    }
}
