//! Upgrade and switch: from a reference to a staged deployment.

use std::collections::BTreeMap;

use hull_boot::kargs;
use hull_boot::record::{DeploymentName, FILE_NAME, Operation, Record};
use hull_oci::progress::Event;
use hull_oci::source::SourceError;
use hull_oci::spool::SpoolError;
use hull_oci::{Image, LoadError, Progress, PullError, PullOptions, Reference, Unnamed};
use hull_store::{Kind, Session, StoreError};
use hull_sys::durable;
use hull_sys::lock::Lock;

use crate::cleanup::{self, CleanupError};
use crate::etc_preview::{self, EtcPreviewError};
use crate::image_files::{ImageFileError, ImageFiles};
use crate::machine::{Machine, MachineError, doing};
use crate::retention::Retention;
use crate::seal::{self, SealError, Sealed};
use crate::stage::{self, StageError, StagePlan, StageRequest};
use crate::state::{Deployment, Downloaded, HostState};

/// What the machine should run next.
#[derive(Debug, Clone)]
pub enum Goal {
    /// The newest image of the reference that it follows.
    Upgrade,
    /// This image from now on.
    Switch(Reference),
}

/// How to get there.
#[derive(Debug, Clone)]
pub struct UpdateRequest {
    /// Where to.
    pub goal: Goal,
    /// How to pull.
    pub pull: PullOptions,
    /// Only bring the image into the store.
    pub download_only: bool,
    /// Take the image that an earlier download brought; ask no registry.
    pub from_downloaded: bool,
    /// hull's setup-root, for an image that has none.
    pub setup_root: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The machine runs, or starts next, what the reference leads to.
    UpToDate {
        /// The deployment that has it.
        deployment: DeploymentName,
        /// Its manifest's digest.
        manifest_digest: String,
    },
    /// A new manifest of the very same system: only the record was changed.
    Relabelled {
        /// The deployment that has it.
        deployment: DeploymentName,
        /// The new manifest's digest.
        manifest_digest: String,
    },
    /// The image failed to come up before; it is not tried again by itself.
    KnownBad {
        /// The deployment that the loader gave up.
        deployment: DeploymentName,
        /// Its manifest's digest.
        manifest_digest: String,
    },
    /// The image is in the store.
    Downloaded(Downloaded),
    /// The next boot starts it.
    Staged(Box<Staged>),
}

/// A deployment that was staged.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Its name, record and entry.
    pub plan: StagePlan,
    /// Where the merge of /etc will keep the machine's version over the image's.
    pub conflicts: Vec<String>,
    /// What the operator should know about the image, and what is old and could not be
    /// removed: the next boot starts the new system all the same.
    pub notes: Vec<String>,
    /// What went.
    pub removed: Retention,
    /// Bytes that were downloaded.
    pub downloaded_bytes: u64,
}

/// An update that failed. The next boot is what it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nothing was deployed here by hull.
    #[error("this machine has no deployment to upgrade: `hull switch IMAGE` names an image")]
    NothingToFollow,
    /// Somebody switched the machine while an upgrade was downloading.
    #[error(
        "this machine was switched to {now_followed} meanwhile, so what was downloaded is not staged: run it again"
    )]
    Switched {
        /// What it follows now.
        now_followed: Reference,
    },
    /// `--from-downloaded` without a download.
    #[error("no image was downloaded: `hull upgrade --download-only` does that")]
    NothingDownloaded,
    /// The reference in the record cannot be read.
    #[error("the deployment follows {text:?}, which is no image reference: {source}")]
    BadReference {
        /// The text of the record.
        text: String,
        /// What is wrong with it.
        #[source]
        source: hull_oci::ReferenceError,
    },
    /// Pulling.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// Reading what was downloaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Staging.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An image's files.
    #[error(transparent)]
    ImageFile(#[from] ImageFileError),
    /// Kernel arguments of the running image.
    #[error(transparent)]
    Kargs(#[from] kargs::KargsError),
    /// The merge of /etc would fail.
    #[error(transparent)]
    Etc(#[from] EtcPreviewError),
    /// The image of the running system.
    #[error(transparent)]
    Image(#[from] etc_preview::ReadImageError),
    /// Making room on the ESP.
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
}

/// What is new, as far as can be told without downloading layers.
#[derive(Debug, Clone)]
pub struct Available {
    /// What is followed.
    pub reference: Reference,
    /// What it leads to, and how much of it is not here.
    pub image: hull_oci::Available,
    /// The deployment that already has it, if one does.
    pub deployment: Option<DeploymentName>,
    /// Whether the loader has given that deployment up.
    pub known_bad: bool,
}

/// The deployment that an update starts from: what is staged, else what runs,
/// else (on a machine that is not running) the newest.
pub(crate) fn current(state: &HostState) -> Option<&Deployment> {
    let roles = state.roles();
    let name = roles.staged.or(roles.booted).or_else(|| state.next())?;
    state.deployment(&name)
}

fn followed(state: &HostState) -> Result<Reference, UpdateError> {
    let record = &current(state).ok_or(UpdateError::NothingToFollow)?.record;
    let text = &record.image.reference;
    Reference::parse(text).map_err(|source| UpdateError::BadReference {
        text: text.clone(),
        source,
    })
}

fn goal_reference(state: &HostState, goal: &Goal) -> Result<Reference, UpdateError> {
    match goal {
        Goal::Upgrade => followed(state),
        Goal::Switch(reference) => Ok(reference.clone()),
    }
}

/// How to pull: as was asked for, and an upgrade as strictly as what it follows
/// was set up.
fn pull_options(state: &HostState, goal: &Goal, options: &PullOptions) -> PullOptions {
    let remembered = matches!(goal, Goal::Upgrade)
        && current(state).is_some_and(|deployment| deployment.record.image.enforce_policy);
    PullOptions {
        enforce_policy: options.enforce_policy || remembered,
        ..options.clone()
    }
}

/// Asks what the goal leads to. Nothing is written.
pub fn check(
    machine: &Machine,
    goal: &Goal,
    options: &PullOptions,
) -> Result<Available, UpdateError> {
    let state = machine.observe()?;
    let reference = goal_reference(&state, goal)?;
    let options = pull_options(&state, goal, options);
    let image = hull_oci::look(&machine.store, &reference, &options)?;
    let digest = image.manifest_digest.to_string();
    let having = having(&state, &reference, &digest, options.enforce_policy);
    Ok(Available {
        known_bad: having.is_some_and(|having| having.is_bad),
        reference,
        image,
        deployment: having.map(|having| having.deployment),
    })
}

/// A deployment that makes an update unnecessary.
#[derive(Debug, Clone, Copy)]
struct Having {
    deployment: DeploymentName,
    /// It did not come up; it may be gone since.
    is_bad: bool,
}

/// The deployment with that manifest that makes an update unnecessary: it is
/// what runs or what is next; or it was tried, and given up.
fn having(
    state: &HostState,
    reference: &Reference,
    digest: &str,
    enforce_policy: bool,
) -> Option<Having> {
    let reference = reference.to_string();
    let follows = |found: &&Deployment| {
        found.record.image.manifest_digest == digest && found.record.image.reference == reference
    };
    let as_strict = |found: &&Deployment| found.record.image.enforce_policy == enforce_policy;
    if let Some(found) = current(state).filter(follows).filter(as_strict) {
        return Some(Having {
            deployment: found.name,
            is_bad: state.is_bad(&found.name),
        });
    }
    let deployed = state.deployments.iter().filter(follows);
    let mut known = state
        .given_up
        .iter()
        .filter(|known| known.manifest_digest == digest && known.reference == reference);
    deployed
        .map(|found| found.name)
        .find(|name| state.is_bad(name))
        .or_else(|| Some(known.next_back()?.deployment))
        .map(|deployment| Having {
            deployment,
            is_bad: true,
        })
}

/// Brings the machine to the goal at its next boot.
pub fn update(
    machine: &Machine,
    request: &UpdateRequest,
    progress: &dyn Progress,
) -> Result<Outcome, UpdateError> {
    let observed = machine.observe()?;
    let reference = goal_reference(&observed, &request.goal)?;
    let request = UpdateRequest {
        pull: pull_options(&observed, &request.goal, &request.pull),
        ..request.clone()
    };
    let mut session = machine.store.session()?;
    // The long part goes without the machine's lock: nobody waits for a network.
    let obtain =
        |session: &Session| obtain(machine, session, &observed, &reference, &request, progress);
    let obtained = match obtain(&session) {
        Err(UpdateError::Pull(error)) if error.is_no_space() => {
            drop(session);
            let has_made_room = make_room_in_store(machine);
            if !has_made_room || !matches!(error, PullError::NoRoom { .. }) {
                return Err(error.into());
            }
            session = machine.store.session()?;
            obtain(&session)?
        }
        obtained => obtained?,
    };
    if request.download_only {
        // Of layers that need long for it nobody else should feel anything.
        obtained.check(&session)?;
    }
    let outcome = take(machine, &request, &reference, session, obtained, progress);
    if outcome.as_ref().is_err_and(is_no_space) {
        // No name leads to the layers: what they take would stay until the next collection.
        make_room_in_store(machine);
    }
    outcome
}

fn is_no_space(error: &UpdateError) -> bool {
    match error {
        UpdateError::Pull(error) => error.is_no_space(),
        UpdateError::Seal(SealError::Store(error)) | UpdateError::Store(error) => {
            matches!(error, StoreError::NoSpace { .. })
        }
        _ => false,
    }
}

/// Stages what was obtained, or keeps it for later.
fn take(
    machine: &Machine,
    request: &UpdateRequest,
    reference: &Reference,
    session: Session,
    obtained: Obtained,
    progress: &dyn Progress,
) -> Result<Outcome, UpdateError> {
    let _lock = obtained.lock(machine, progress)?;
    let state = machine.observe()?;
    let now_followed = goal_reference(&state, &request.goal)?;
    if now_followed != *reference {
        return Err(UpdateError::Switched { now_followed });
    }
    let digest = obtained.image().manifest_digest.to_string();
    if let Some(outcome) = settled(&state, reference, &digest, request) {
        // It was sealed when it was staged. It need not be fetched again, but what was
        // downloaded to be staged later is of more use.
        match state.downloaded {
            Some(_) => obtained.write_down(&session)?,
            None => drop(obtained.commit(&session)?),
        }
        return Ok(outcome);
    }
    if request.download_only {
        obtained.commit(&session)?;
        return keep_download(machine, reference, digest);
    }
    let sealed = seal::seal(&session, obtained.image()).map_err(|error| obtained.refused(error))?;
    // The deployment will be its name.
    obtained.write_down(&session)?;
    let (image, downloaded_bytes) = obtained.into_image();
    let enforce_policy = request.pull.enforce_policy;
    let kernel_arguments = kernel_arguments(machine, &state, &sealed)?;
    if let Some(found) = same_system(&state, &sealed, &kernel_arguments) {
        return relabel(machine, &session, found, &image, reference, enforce_policy);
    }
    let stage_request = stage_request(machine, request, reference, kernel_arguments);
    let plan = stage::plan(machine, &state, &sealed, &image, stage_request)?;
    let conflicts = etc_preview::conflicts(machine, &sealed)?;
    let files = &plan.record.boot_files;
    cleanup::make_room_on_esp(machine, &files.directory, &files.files)?;
    let stream = image.stream();
    stage::execute(machine, &session, &plan, &stream)?;
    let superseded = cleanup::remove_superseded(machine, session, &stream);
    let mut notes = notes(&sealed);
    notes.extend(superseded.note);
    Ok(Outcome::Staged(Box::new(Staged {
        notes,
        plan,
        conflicts,
        removed: superseded.removed,
        downloaded_bytes,
    })))
}

/// Removes what a pull that did not end left, so that the file system does not stay
/// full; tells whether there was something. The caller's error tells why it is called,
/// so one in here is of no use to anybody.
fn make_room_in_store(machine: &Machine) -> bool {
    let Ok(_lock) = machine.lock() else {
        return false;
    };
    cleanup::collect_store(machine).is_ok_and(|removed| !removed.objects.is_empty())
}

pub(crate) fn stage_request(
    machine: &Machine,
    request: &UpdateRequest,
    reference: &Reference,
    kernel_arguments: Vec<String>,
) -> StageRequest {
    StageRequest {
        reference: reference.to_string(),
        operation: match request.goal {
            Goal::Upgrade => Operation::Upgrade,
            Goal::Switch(_) => Operation::Switch,
        },
        kernel_arguments,
        previous: machine.booted,
        setup_root: request.setup_root.clone(),
        enforce_policy: request.pull.enforce_policy,
        etc_additions: BTreeMap::new(),
    }
}

/// An image whose layers are in the store.
enum Obtained {
    /// It was downloaded earlier.
    Named(Box<Image>),
    /// It has come just now.
    Unnamed(Box<Unnamed>),
}

impl Obtained {
    fn image(&self) -> &Image {
        match self {
            Self::Named(image) => image,
            Self::Unnamed(unnamed) => unnamed.image(),
        }
    }

    /// The machine's lock. What was downloaded just now is lost if that cannot be had.
    fn lock(&self, machine: &Machine, progress: &dyn Progress) -> Result<Lock, MachineError> {
        match self {
            Self::Named(_) => machine.lock(),
            Self::Unnamed(_) => machine.lock_with_download(|| {
                progress.report(Event::Remark(
                    "everything is downloaded; another hull is at work on this machine, and has ten minutes to end",
                ));
            }),
        }
    }

    /// Makes sure that the layers go together.
    fn check(&self, session: &Session) -> Result<(), PullError> {
        match self {
            Self::Named(_) => Ok(()),
            Self::Unnamed(unnamed) => unnamed.check(session.store()),
        }
    }

    /// Writes the image down, now that it has proved fit.
    fn write_down(&self, session: &Session) -> Result<(), StoreError> {
        match self {
            Self::Named(_) => Ok(()),
            Self::Unnamed(unnamed) => unnamed.write_down(session),
        }
    }

    /// Says of layers that do not go together where they came from.
    fn refused(&self, error: SealError) -> UpdateError {
        match (self, error) {
            (Self::Unnamed(unnamed), SealError::Layers(error)) => unnamed.refused(error).into(),
            (_, error) => error.into(),
        }
    }

    /// The image, and how many bytes were downloaded.
    fn into_image(self) -> (Image, u64) {
        match self {
            Self::Named(image) => (*image, 0),
            Self::Unnamed(unnamed) => {
                let pulled = unnamed.into_pulled();
                (pulled.image, pulled.downloaded_bytes)
            }
        }
    }

    /// Makes the image stay. Gives also how many bytes were downloaded.
    fn commit(self, session: &Session) -> Result<(Image, u64), StoreError> {
        match self {
            Self::Named(image) => Ok((*image, 0)),
            Self::Unnamed(unnamed) => {
                let pulled = unnamed.commit(session)?;
                Ok((pulled.image, pulled.downloaded_bytes))
            }
        }
    }
}

fn obtain(
    machine: &Machine,
    session: &Session,
    state: &HostState,
    reference: &Reference,
    request: &UpdateRequest,
    progress: &dyn Progress,
) -> Result<Obtained, UpdateError> {
    if !request.from_downloaded {
        let options = PullOptions {
            spool: Some(machine.spool().map_err(spool_error)?),
            ..keeping(&request.pull)
        };
        let unnamed = hull_oci::fetch(session, reference, &options, progress)?;
        return Ok(Obtained::Unnamed(Box::new(unnamed)));
    }
    let downloaded = state
        .downloaded
        .as_ref()
        .filter(|image| image.reference == reference.to_string())
        .ok_or(UpdateError::NothingDownloaded)?;
    let digest = downloaded.manifest_digest.parse();
    let digest = digest.map_err(|_| UpdateError::NothingDownloaded)?;
    // A power cut can leave the record of one image beside the name of another: what has no
    // name may be gone.
    let kept = session
        .store()
        .find_ref(Kind::Stream, cleanup::DOWNLOAD_REFERENCE)?;
    if kept != Some(hull_oci::image::manifest_stream(&digest)) {
        return Err(UpdateError::NothingDownloaded);
    }
    let image = Image::load(session.store(), &digest)?;
    Ok(Obtained::Named(Box::new(image)))
}

fn spool_error(error: SpoolError) -> PullError {
    SourceError::from(error).into()
}

/// What is given a name is kept until it is staged, or another takes its place.
pub(crate) fn keeping(options: &PullOptions) -> PullOptions {
    PullOptions {
        ref_name: Some(cleanup::DOWNLOAD_REFERENCE.to_owned()),
        ..options.clone()
    }
}

fn settled(
    state: &HostState,
    reference: &Reference,
    digest: &str,
    request: &UpdateRequest,
) -> Option<Outcome> {
    let strict = request.pull.enforce_policy;
    let Having { deployment, is_bad } = having(state, reference, digest, strict)?;
    let manifest_digest = digest.to_owned();
    if !is_bad {
        return Some(Outcome::UpToDate {
            deployment,
            manifest_digest,
        });
    }
    // Who names the image again wants it tried again.
    matches!(request.goal, Goal::Upgrade).then_some(Outcome::KnownBad {
        deployment,
        manifest_digest,
    })
}

fn keep_download(
    machine: &Machine,
    reference: &Reference,
    manifest_digest: String,
) -> Result<Outcome, UpdateError> {
    let downloaded = Downloaded {
        reference: reference.to_string(),
        manifest_digest,
    };
    machine.set_downloaded(Some(&downloaded))?;
    Ok(Outcome::Downloaded(downloaded))
}

/// The running system's arguments, with the changes between its image and the
/// new one.
pub(crate) fn kernel_arguments(
    machine: &Machine,
    state: &HostState,
    sealed: &Sealed,
) -> Result<Vec<String>, UpdateError> {
    let Some(current) = current(state) else {
        return Ok(sealed.facts.kernel_arguments.clone());
    };
    let old_tree = etc_preview::read_image(machine, &current.record.composefs.digest)?;
    let files = ImageFiles {
        store: &machine.store,
        tree: &old_tree,
    };
    let old = kargs::from_files(
        &files.toml_files("usr/lib/bootc/kargs.d")?,
        std::env::consts::ARCH,
    )?;
    Ok(kargs::carry_over(
        &current.record.kernel_arguments,
        &old,
        &sealed.facts.kernel_arguments,
    ))
}

/// The deployment that runs or is next, if the sealed image would be the same.
pub(crate) fn same_system<'a>(
    state: &'a HostState,
    sealed: &Sealed,
    kernel_arguments: &[String],
) -> Option<&'a Deployment> {
    current(state).filter(|found| {
        found.record.composefs.digest == sealed.digest
            && found.record.kernel_arguments == kernel_arguments
            && !state.is_bad(&found.name)
    })
}

/// A rebuild that changes labels alone, or another name for the same image.
fn relabel(
    machine: &Machine,
    session: &Session,
    found: &Deployment,
    image: &Image,
    reference: &Reference,
    enforce_policy: bool,
) -> Result<Outcome, UpdateError> {
    let stream = image.stream();
    stage::set_references(session, &found.name, &stream)?;
    let record = Record {
        image: stage::image_record(image, reference.to_string(), enforce_policy),
        ..found.record.clone()
    };
    let directory = machine.deployment_dir(&found.name)?;
    durable::replace(&directory, FILE_NAME, 0o644, &record.to_json())
        .map_err(doing(format!("the record of {}", found.name)))?;
    Ok(Outcome::Relabelled {
        deployment: found.name,
        manifest_digest: record.image.manifest_digest,
    })
}

pub(crate) fn notes(sealed: &Sealed) -> Vec<String> {
    let facts = &sealed.facts;
    let mut notes = Vec::new();
    if !facts.has_label {
        notes.push(
            "the image has no label containers.bootc=1: is it meant to be booted?".to_owned(),
        );
    }
    if !facts.has_setup_root {
        notes.push(
            "the image's initrd cannot mount a composefs root, so hull adds a second initrd"
                .to_owned(),
        );
    }
    if !facts.has_hull {
        notes.push("the image has no hull: once it runs, the machine cannot upgrade or roll back by itself (choose the older entry in the boot menu), and a failed boot is not counted".to_owned());
    }
    notes
}
