//! Which versions of the protocol between nodes two programs have in common: told when a connection is opened, before
//! anything else is sent. Log entries go from node to node as one version writes them, and a node that met one which it cannot
//! read would have to stop; so nodes that have no version in common do not talk at all, and say why.

use proto::logstore as wire;

/// The version that this program writes.
pub const PEER_VERSION: u32 = 1;
/// The oldest version of a peer that this program understands.
pub const LOWEST_PEER_VERSION: u32 = 1;
/// What a peer speaks that does not say so: it is older than the versions' being told.
const UNTOLD: u32 = 1;

/// Whether the two can talk; else what is told to the other one.
pub(super) fn check_versions(introduction: &wire::Introduction) -> Result<(), String> {
    let told = |version: u32| if version == 0 { UNTOLD } else { version };
    let (newest, lowest) = (told(introduction.version), told(introduction.lowest_version));
    if newest >= LOWEST_PEER_VERSION && lowest <= PEER_VERSION {
        return Ok(());
    }
    Err(format!(
        "the sender speaks versions {lowest} to {newest} of the protocol between log nodes, this node \
         {LOWEST_PEER_VERSION} to {PEER_VERSION}: upgrade the older program first"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_overlap_or_are_refused() {
        let cases = [(0, 0, true), (1, 1, true), (2, 1, true), (9, 1, true), (2, 2, false), (9, 3, false)];
        for (version, lowest_version, fits) in cases {
            let introduction = wire::Introduction { version, lowest_version, ..wire::Introduction::default() };
            let outcome = check_versions(&introduction);
            assert_eq!(outcome.is_ok(), fits, "{lowest_version} to {version}: {outcome:?}");
        }
    }
}
