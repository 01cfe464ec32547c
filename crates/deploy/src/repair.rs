//! Making the store of a machine whole again: what a check found damaged or
//! missing is pulled again, by the digest that its deployment was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hull_boot::record::DeploymentName;
use hull_oci::{Progress, PullError, PullOptions, Reference};
use hull_store::fsck::{self, Finding, Report, User};
use hull_store::{Kind, Session, StoreError};

use crate::cleanup;
use crate::machine::{Machine, MachineError};
use crate::seal::{self, SealError};
use crate::stage;
use crate::state::HostState;

/// Keeps what is being pulled again, until the deployments' own references do.
pub(crate) const REFERENCE: &str = "hull/repair";

/// The store's directories of links, as a check names them.
const STREAMS: &str = "streams";
const IMAGES: &str = "images";

/// An image that is pulled again, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it came from, with its transport.
    pub reference: String,
    /// The digest of its manifest: tags move.
    pub manifest_digest: String,
    /// The deployments that need it; none: it waits for `--from-downloaded`.
    pub deployments: Vec<DeploymentName>,
}

/// What a repair does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// The store's meta.json is written again.
    pub meta: bool,
    /// The images that are pulled and sealed again.
    pub sources: Vec<Source>,
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.meta {
            writeln!(f, "write meta.json again")?;
        }
        for source in &self.sources {
            writeln!(
                f,
                "pull {} ({}) again",
                source.reference, source.manifest_digest
            )?;
        }
        Ok(())
    }
}

/// A repair that failed. What was damaged may be so still; what was well is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record names nothing that can be pulled.
    #[error("an image is noted as {text:?}, which nothing can be pulled from: {reason}")]
    BadSource {
        /// The reference, with the digest.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image cannot be pulled.
    #[error(
        "{reference} cannot be pulled again, so what is damaged of it stays damaged; nothing else was touched"
    )]
    Pull {
        /// The image, by digest.
        reference: Box<Reference>,
        /// Why not.
        #[source]
        source: Box<PullError>,
    },
    /// It was pulled, and cannot be sealed.
    #[error("{reference} was pulled again, but no system can be made of it")]
    Seal {
        /// The image, by digest.
        reference: Box<Reference>,
        /// Why not.
        #[source]
        source: Box<SealError>,
    },
    /// This hull makes another system of the same container image.
    #[error(
        "{reference} was pulled again, but this version of hull makes another system of it than deployment {deployment}: `hull upgrade` stages it anew"
    )]
    OtherSystem {
        /// The image, by digest.
        reference: Box<Reference>,
        /// The deployment.
        deployment: DeploymentName,
    },
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What was pulled again.
    pub sources: Vec<Source>,
    /// What could not be: each image is tried, whatever became of the others.
    pub failures: Vec<RepairError>,
}

/// Decides what is pulled again. What no deployment needs is left to a collection.
pub fn plan(report: &Report, state: &HostState) -> RepairPlan {
    let affected = affected_references(report);
    let needs = |reference: &str| {
        let kinds = [STREAMS, IMAGES];
        kinds
            .iter()
            .any(|kind| affected.contains(&format!("{kind}/refs/{reference}")))
    };
    let mut sources: BTreeMap<(String, String), Vec<DeploymentName>> = BTreeMap::new();
    for found in &state.deployments {
        if needs(&stage::reference_name(&found.name)) {
            let image = &found.record.image;
            let key = (image.reference.clone(), image.manifest_digest.clone());
            sources.entry(key).or_default().push(found.name);
        }
    }
    if let Some(image) = &state.downloaded
        && needs(cleanup::DOWNLOAD_REFERENCE)
    {
        let key = (image.reference.clone(), image.manifest_digest.clone());
        sources.entry(key).or_default();
    }
    RepairPlan {
        meta: fsck::repair_plan(report).meta,
        sources: sources
            .into_iter()
            .map(|((reference, manifest_digest), deployments)| Source {
                reference,
                manifest_digest,
                deployments,
            })
            .collect(),
    }
}

/// The references that lead to something damaged, or nowhere, from the store's directory.
fn affected_references(report: &Report) -> BTreeSet<String> {
    let mut affected = BTreeSet::new();
    for finding in report.damage() {
        let users = match finding {
            Finding::Missing { users, .. } | Finding::Damaged { users, .. } => users.clone(),
            Finding::NotWhatItIsLinkedAs { user, .. } => vec![user.clone()],
            Finding::Dangling { path, .. } => {
                affected.insert(path.clone());
                linked_user(path).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let references = users.iter().filter_map(|user| report.references.get(user));
        affected.extend(references.flatten().cloned());
    }
    affected
}

/// The stream or image whose link this is.
fn linked_user(path: &str) -> Option<User> {
    match path.split_once('/')? {
        (STREAMS, name) => Some(User::Stream(name.to_owned())),
        (IMAGES, name) => Some(User::Image(name.parse().ok()?)),
        _ => None,
    }
}

/// Makes whole what a check of this machine's store found.
///
/// The machine may have been opened with [`Machine::open_damaged`]; its store is
/// the repaired one afterwards. What is well is not fetched over: an object
/// whose content is right stays the file that it is.
pub fn execute(
    machine: &mut Machine,
    report: &Report,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Repaired, RepairError> {
    if fsck::repair_plan(report).meta {
        let _lock = machine.lock()?;
        machine.restore_store()?;
    }
    let plan = plan(report, &machine.observe()?);
    let session = machine.store.repair_session()?;
    // The long part goes without the machine's lock, as that of an upgrade does.
    let mut repaired = Repaired::default();
    for source in plan.sources {
        let done = pull(&session, &source, options, progress)
            .and_then(|stream| refer(machine, &session, &source, &stream));
        match done {
            Ok(()) => repaired.sources.push(source),
            Err(error) => repaired.failures.push(error),
        }
    }
    session.remove_ref(Kind::Stream, REFERENCE)?;
    Ok(repaired)
}

/// Pulls and seals an image again, and gives the stream of its manifest.
fn pull(
    session: &Session,
    source: &Source,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<String, RepairError> {
    let reference = exact_reference(source)?;
    let options = PullOptions {
        ref_name: Some(REFERENCE.to_owned()),
        ..options.clone()
    };
    let failed = |error| RepairError::Pull {
        reference: Box::new(reference.clone()),
        source: Box::new(error),
    };
    let fetched = hull_oci::fetch(session, &reference, &options, progress).map_err(failed)?;
    if source.deployments.is_empty() {
        fetched.check(session.store()).map_err(failed)?;
        return Ok(fetched.commit(session)?.image.stream());
    }
    // What is damaged of its documents is whole again then, whatever comes of the rest.
    fetched.write_down(session)?;
    let sealed = seal::seal(session, fetched.image()).map_err(|error| RepairError::Seal {
        reference: Box::new(reference.clone()),
        source: Box::new(error),
    })?;
    let image = fetched.commit(session)?.image;
    let other = |name: &&DeploymentName| name.digest != sealed.digest;
    match source.deployments.iter().find(other) {
        Some(deployment) => Err(RepairError::OtherSystem {
            reference: Box::new(reference),
            deployment: *deployment,
        }),
        None => Ok(image.stream()),
    }
}

fn exact_reference(source: &Source) -> Result<Reference, RepairError> {
    let bad = |reason: String| RepairError::BadSource {
        text: format!("{}@{}", source.reference, source.manifest_digest),
        reason,
    };
    let digest = source.manifest_digest.parse();
    let digest = digest.map_err(|error: hull_oci::digest::InvalidDigest| bad(error.to_string()))?;
    let reference = Reference::parse(&source.reference).map_err(|error| bad(error.to_string()))?;
    Ok(reference.with_digest(digest))
}

/// Makes the references of those deployments whole that are there still.
fn refer(
    machine: &Machine,
    session: &Session,
    source: &Source,
    stream: &str,
) -> Result<(), RepairError> {
    let _lock = machine.lock()?;
    let state = machine.observe()?;
    for name in &source.deployments {
        if state.deployment(name).is_some() {
            stage::set_references(session, name, stream)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::{machine, name};

    fn reference_of(n: u64) -> String {
        format!("images/refs/{}", stage::reference_name(&name(n)))
    }

    fn missing(n: u64) -> Report {
        let user = User::Image(name(n).digest);
        Report {
            findings: vec![Finding::Missing {
                object: name(9).digest,
                users: vec![user.clone()],
            }],
            references: [(user, vec![reference_of(n)])].into(),
            ..Report::default()
        }
    }

    #[test]
    fn only_the_image_that_needs_something_damaged_is_pulled_again() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).0;
        let plan = plan(&missing(1), &state);
        assert_eq!(plan.sources.len(), 1);
        assert_eq!(plan.sources[0].deployments, [name(1)]);
        assert!(!plan.meta);
    }

    #[test]
    fn deployments_of_one_image_are_repaired_by_one_pull() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).0;
        let mut report = missing(1);
        report.findings.push(Finding::Dangling {
            path: reference_of(2),
            target: "nothing".into(),
        });
        let plan = plan(&report, &state);
        assert_eq!(plan.sources.len(), 1, "{plan}");
        assert_eq!(plan.sources[0].deployments.len(), 2);
    }

    #[test]
    fn what_no_deployment_needs_is_not_pulled() {
        let state = machine(&[(1, "hull-1.conf")]).0;
        assert_eq!(plan(&missing(2), &state), RepairPlan::default());
    }
}
