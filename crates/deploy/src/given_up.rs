//! Images that failed all their tries here. Their deployments go with time; what
//! is known of them stays in `/state/given-up.json`, so that an upgrade does
//! not try one again by itself.

use std::io;
use std::os::fd::AsFd;

use hull_boot::record::DeploymentName;
use hull_sys::{dir, durable};
use serde::{Deserialize, Serialize};

use crate::state::HostState;

const FILE_NAME: &str = "given-up.json";
/// The oldest are forgotten: a reference does not go back to them.
const MAX_IMAGES: usize = 50;
const MAX_BYTES: u64 = 1 << 20;

/// An image that did not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// The reference that led to it.
    pub reference: String,
    /// The digest of its manifest.
    pub manifest_digest: String,
    /// The deployment that was tried.
    pub deployment: DeploymentName,
}

/// All that are remembered, the oldest first. A damaged file is an empty memory:
/// the worst that comes of it is a few boots.
pub(crate) fn read(state_dir: impl AsFd) -> io::Result<Vec<GivenUp>> {
    match dir::read_file_at_most(state_dir, FILE_NAME, MAX_BYTES) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes what is remembered. On return it is on disk.
pub(crate) fn write(state_dir: impl AsFd, images: &[GivenUp]) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(images)?;
    bytes.push(b'\n');
    durable::replace(state_dir, FILE_NAME, 0o644, &bytes)
}

/// What is to be remembered: what was, without those that came up since or
/// are tried again, and with those that the loader has given up.
pub(crate) fn update(state: &HostState) -> Vec<GivenUp> {
    let of = |found: &crate::state::Deployment| GivenUp {
        reference: found.record.image.reference.clone(),
        manifest_digest: found.record.image.manifest_digest.clone(),
        deployment: found.name,
    };
    let (bad, others): (Vec<_>, Vec<_>) = state
        .deployments
        .iter()
        .rev()
        .partition(|found| state.is_bad(&found.name));
    let mut images = state.given_up.clone();
    images.retain(|known| {
        let same = |found: &&crate::state::Deployment| {
            let image = &found.record.image;
            image.manifest_digest == known.manifest_digest && found.name != known.deployment
        };
        !others.iter().any(same) && !bad.iter().any(|found| of(found) == *known)
    });
    images.extend(bad.into_iter().map(of));
    let excess = images.len().saturating_sub(MAX_IMAGES);
    images.drain(..excess);
    images
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::{machine, name};

    fn image(n: u64) -> GivenUp {
        let record = &machine(&[(n, "hull-1.conf")]).0.deployments[0].record;
        GivenUp {
            reference: record.image.reference.clone(),
            manifest_digest: record.image.manifest_digest.clone(),
            deployment: name(n),
        }
    }

    #[test]
    fn what_the_loader_gave_up_is_remembered_once() {
        let mut state = machine(&[(2, "hull-2+0-3.conf")]).0;
        state.given_up = update(&state);
        assert_eq!(state.given_up, [image(2)]);
        assert_eq!(update(&state), [image(2)]);
    }

    #[test]
    fn its_deployment_may_go() {
        let mut state = machine(&[]).0;
        state.given_up = vec![image(2)];
        assert_eq!(update(&state), [image(2)]);
    }

    #[test]
    fn what_is_deployed_again_is_forgotten() {
        let mut state = machine(&[(3, "hull-3+3-0.conf")]).0;
        state.given_up = vec![image(2)];
        assert!(update(&state).is_empty());
    }
}
