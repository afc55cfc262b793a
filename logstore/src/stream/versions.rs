//! Which versions of a protocol two programs have in common: told when a connection is opened, before anything else is sent.
//!
//! Log entries go from node to node as one version writes them, and a node that met one which it cannot read would have to
//! stop; a client whose append meant something else to the node would write what nobody asked for. So programs that have no
//! version in common do not talk at all, and say why.

use std::fmt;

/// The versions of a protocol that a program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// What it writes, and the newest that it reads.
    pub newest: u32,
    /// The oldest that it reads.
    pub lowest: u32,
}

/// Between log nodes, and between them and operators.
pub const PEER_VERSIONS: Versions = Versions { newest: 1, lowest: 1 };
/// Between log nodes and those who write and read the log: computes, page servers and tools.
pub const CLIENT_VERSIONS: Versions = Versions { newest: 1, lowest: 1 };
/// What is spoken by who does not say so: it is older than the versions' being told.
const UNTOLD: u32 = 1;

/// Who talks to whom, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Parties<'a> {
    /// Whose versions are checked against.
    pub(crate) own: &'a str,
    /// Who told its versions.
    pub(crate) other: &'a str,
    /// Whose protocol it is.
    pub(crate) protocol: &'a str,
}

/// A node that checks a client.
pub(crate) const NODE_AND_CLIENT: Parties<'_> =
    Parties { own: "the log node", other: "the client", protocol: "protocol of the log's clients" };
/// A client that checks a node.
pub(crate) const CLIENT_AND_NODE: Parties<'_> =
    Parties { own: "the client", other: "the log node", protocol: "protocol of the log's clients" };

impl Versions {
    /// As they were told; zero: not at all.
    pub(crate) fn told(newest: u32, lowest: u32) -> Versions {
        let told = |version: u32| if version == 0 { UNTOLD } else { version };
        Versions { newest: told(newest), lowest: told(lowest) }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Versions> {
        let (lowest, newest) = text.split_once('-')?;
        Some(Versions::told(newest.parse().ok()?, lowest.parse().ok()?))
    }

    /// Whether the two can talk; else which versions each speaks, and which of them is to be upgraded.
    pub(crate) fn check(self, other: Versions, parties: Parties<'_>) -> Result<(), String> {
        if other.newest >= self.lowest && other.lowest <= self.newest {
            return Ok(());
        }
        let older = if other.newest < self.lowest { parties.other } else { parties.own };
        Err(format!(
            "{} speaks versions {} to {} of the {}, {} {} to {}: upgrade {older} first",
            parties.other, other.lowest, other.newest, parties.protocol, parties.own, self.lowest, self.newest
        ))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.lowest, self.newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_overlap_or_are_refused() {
        let own = Versions { newest: 4, lowest: 3 };
        let cases = [
            (0, 0, Some("upgrade the client first")),
            (2, 1, Some("upgrade the client first")),
            (3, 1, None),
            (3, 3, None),
            (4, 4, None),
            (9, 4, None),
            (9, 5, Some("upgrade the log node first")),
        ];
        for (newest, lowest, refusal) in cases {
            let other = Versions::told(newest, lowest);
            let outcome = own.check(other, NODE_AND_CLIENT);
            match refusal {
                None => assert_eq!(outcome, Ok(()), "{lowest} to {newest}"),
                Some(which) => {
                    let told = outcome.expect_err("no version in common");
                    let both = format!("versions {} to {} of", other.lowest, other.newest);
                    assert!(told.contains(&both) && told.contains("the log node 3 to 4"), "{told}");
                    assert!(told.ends_with(which), "{told}");
                }
            }
            // The other side comes to the same.
            assert_eq!(other.check(own, CLIENT_AND_NODE).is_ok(), refusal.is_none(), "{lowest} to {newest}");
            assert_eq!(Versions::parse(&other.to_string()), Some(other));
        }
        for text in ["", "1", "-", "1-", "-1", "1-x", "1-2-3", "-1-2"] {
            assert_eq!(Versions::parse(text), None, "{text}");
        }
    }
}
