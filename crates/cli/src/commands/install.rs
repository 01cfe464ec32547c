//! `install to-disk`.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use hull_deploy::install::{self as system, InstallRequest};
use hull_deploy::machine::Machine;
use hull_disk::filesystem::Kind;
use hull_disk::install::{
    Facts, Fetched, Phase, Preparation, Stage, StageError, ToDisk as DiskRequest,
};
use hull_disk::plan::Architecture;
use hull_disk::target::TargetKind;
use hull_oci::{Platform, Policy, PullOptions, Reference};
use hull_store::Verity;

use super::{Context, setup_root, sources};
use crate::args::Transport;
use crate::args::install::{Filesystem, ToDisk};
use crate::failure::Failure;
use crate::progress::{self, Pulling, Shown, Task};
use crate::{clock, output, timestamp};

/// An authorized_keys file is never larger.
const MAX_KEYS: u64 = 1 << 20;

/// Installs to a device or a file.
pub(crate) fn run(args: &ToDisk, context: &Context<'_>) -> Result<ExitCode, Failure> {
    refuse(args)?;
    let source = sources::reference(&args.source_imgref, Transport::Registry, context)?;
    let target = match &args.target_imgref {
        Some(name) => sources::reference(name, args.target_transport, context)?,
        None => source.clone(),
    };
    progress::check(&args.progress)?;
    let keys = args.root_ssh_authorized_keys.as_deref().map(read_keys);
    let keys = keys.transpose()?;
    let preparation = Preparation::new(request(args)?)?;
    if args.dry_run {
        output::print(&format!("{source} would be installed.\n{preparation}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.progress.quiet {
        output::note(preparation.to_string().trim_end());
    }
    let shown = progress::start(&args.progress, context.environment)?;
    let mut system = System {
        source,
        target,
        keys,
        setup_root: setup_root::find()?,
        pull: PullOptions {
            enforce_policy: args.enforce_container_sigpolicy,
            ..sources::pull_options(&args.auth, context)?
        },
        // A file is made from the image alone: the same input, the same bytes.
        timeless: preparation.observation().kind != TargetKind::Device,
        pulling: Pulling::new(&shown),
        made: None,
    };
    let installed = preparation.execute(&mut system, &mut |phase| tell(&shown, &phase));
    let target = system.target;
    drop(shown);
    installed?;
    output::print(&format!(
        "Installed to {}. Upgrades follow {target}.\n",
        args.target.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What bootc's scripts may say, and hull can't do or need not be told.
fn refuse(args: &ToDisk) -> Result<(), Failure> {
    if args.disable_selinux {
        return Err(Failure::Refused {
            option: "--disable-selinux",
            reason: "hull labels the files of an image that has an SELinux policy, and no others; `selinux=0` by --karg turns it off in the machine",
        });
    }
    let from_pipe = args.source_imgref.ends_with("archive:-");
    if from_pipe && args.target_imgref.is_none() {
        return Err(Failure::Refused {
            option: "a pipe as the source",
            reason: "the machine could not follow it: --target-imgref names the image that its upgrades follow",
        });
    }
    if args.via_loopback && !args.progress.quiet {
        output::note("--via-loopback is not needed: hull writes to files without a loop device.");
    }
    Ok(())
}

fn request(args: &ToDisk) -> Result<DiskRequest, Failure> {
    let platform = Platform::host().architecture;
    let architecture = Architecture::from_oci(&platform).ok_or(Failure::Architecture(platform))?;
    Ok(DiskRequest {
        target: args.target.clone(),
        architecture,
        filesystem: args.filesystem.map(|kind| match kind {
            Filesystem::Ext4 => Kind::Ext4,
            Filesystem::Xfs => Kind::Xfs,
            Filesystem::Btrfs => Kind::Btrfs,
        }),
        size: args.size.map(|size| size.0),
        esp_size: None,
        root_size: args.root_size.map(|size| size.0),
        wipe: args.wipe,
        kernel_arguments: args.karg.clone(),
        deleted_kernel_arguments: args.karg_delete.clone(),
        workdir: args.workdir.clone(),
        random: random()?,
    })
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // The kernel gives up to 256 bytes in one piece.
    read.map(|_| bytes).map_err(|error| Failure::Read {
        path: "the kernel's random numbers".to_owned(),
        source: error.into(),
    })
}

fn read_keys(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::Read {
        path: path.display().to_string(),
        source,
    };
    let mut keys = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_KEYS + 1)
        .read_to_end(&mut keys)
        .map_err(failed)?;
    match u64::try_from(keys.len()) {
        Ok(length) if length <= MAX_KEYS => Ok(keys),
        _ => Err(failed(std::io::Error::other(
            "it is too large for a file of ssh keys",
        ))),
    }
}

fn tell(shown: &Shown, phase: &Phase) {
    let (name, description) = match phase {
        // The pull tells of itself.
        Phase::Fetch => return,
        Phase::Stage => ("staging", "Putting the system together"),
        Phase::Write(_) => ("writing", "Writing the disk"),
        Phase::Verify => ("verifying", "Reading back what was written"),
    };
    shown.tracker().begin(Task {
        name,
        description: description.to_owned(),
        id: name.to_owned(),
        ..Task::default()
    });
}

/// The system that is put together for the disk.
struct System<'a> {
    source: Reference,
    target: Reference,
    keys: Option<Vec<u8>>,
    setup_root: Option<Vec<u8>>,
    pull: PullOptions,
    timeless: bool,
    pulling: Pulling<'a>,
    made: Option<(Machine, system::Fetched)>,
}

impl Stage for System<'_> {
    fn fetch(&mut self, root: OwnedFd, esp: OwnedFd) -> Result<Fetched, StageError> {
        // fs-verity does not survive the packing; the machine enables it.
        let mut machine = Machine::create(root, esp, Verity::Never, clock::now())?;
        let fetched = system::fetch(&machine, &self.source, &self.pull, &self.pulling)?;
        let created = fetched.created().and_then(timestamp::checked);
        let seconds = created.as_deref().and_then(timestamp::seconds).unwrap_or(0);
        if self.timeless {
            machine.now = created.unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned());
        }
        let facts = fetched.facts();
        let answer = Fetched {
            digest: fetched.manifest_digest(),
            install_config: facts.install_config.clone(),
            kernel_arguments: facts.kernel_arguments.clone(),
            created: u64::try_from(seconds).unwrap_or(0),
        };
        self.made = Some((machine, fetched));
        Ok(answer)
    }

    fn install(&mut self, facts: &Facts) -> Result<(), StageError> {
        let (machine, fetched) = self.made.as_ref().ok_or("the image was not fetched")?;
        // The image may demand it too; what was pulled went through the policy that there is.
        let enforce_policy =
            self.pull.enforce_policy || facts.config.enforce_container_sigpolicy.unwrap_or(false);
        if enforce_policy {
            Policy::require(self.pull.policy.as_deref())?;
        }
        let request = InstallRequest {
            target: self.target.clone(),
            kernel_arguments: facts.kernel_arguments.clone(),
            root_ssh_keys: self.keys.clone(),
            esp_partuuid: facts.identity.esp_partition.to_string(),
            setup_root: self.setup_root.clone(),
            enforce_policy,
        };
        system::install(machine, fetched, request)?;
        Ok(())
    }
}
