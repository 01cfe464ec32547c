//! `status`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use hull_deploy::machine::Machine;
use hull_deploy::running;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

use super::{Context, boot_report, this_machine};
use crate::args::Format;
use crate::args::host::Status;
use crate::clock;
use crate::failure::Failure;
use crate::host_v1::{self, Host, Observation};
use crate::{output, render, yaml};

/// Prints the status.
pub(crate) fn run(args: &Status, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let observation = match (&args.sysroot, &args.esp) {
        (Some(sysroot), Some(esp)) => observe_other(sysroot, esp)?,
        _ => observe()?,
    };
    let mut host = host_v1::host(&observation);
    if args.booted {
        host.status.only_booted();
    }
    output::print(&written(&host, format(args, context), context)?)?;
    Ok(ExitCode::SUCCESS)
}

fn format(args: &Status, context: &Context<'_>) -> Format {
    match args.format {
        Some(format) => format,
        None if args.json => Format::Json,
        None if context.environment.terminal_out => Format::HumanReadable,
        None => Format::Yaml,
    }
}

fn written(host: &Host, format: Format, context: &Context<'_>) -> Result<String, Failure> {
    match format {
        Format::HumanReadable => Ok(render::status::render(
            host,
            context.verbose,
            context.style(),
        )),
        Format::Json => output::json(host),
        Format::Yaml => yaml(host),
    }
}

fn yaml(host: &Host) -> Result<String, Failure> {
    let value = serde_json::to_value(host).map_err(Failure::Serialize)?;
    Ok(yaml::to_string(&value))
}

/// Looks at a machine that does not run, whose file systems are mounted.
fn observe_other(sysroot: &Path, esp: &Path) -> Result<Observation, Failure> {
    let machine = Machine::open(open(sysroot)?, open(esp)?, clock::now())?;
    Ok(Observation {
        state: machine.observe()?,
        ..Observation::default()
    })
}

fn open(dir: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| Failure::Read {
        path: dir.display().to_string(),
        source: error.into(),
    })
}

/// Looks at the machine; one that hull did not start has nothing to show.
fn observe() -> Result<Observation, Failure> {
    if running::booted()?.is_none() {
        return Ok(Observation::default());
    }
    let machine = this_machine()?;
    let root = rustix::fs::fstatvfs(&machine.root);
    let report = boot_report::read();
    Ok(Observation {
        state: machine.observe()?,
        etc_conflicts: report.conflicts(),
        booted_verity: report.verity_required(),
        // hull's own mount is writable if the file system is.
        read_only: root.is_ok_and(|root| root.f_flag.contains(StatVfsMountFlags::RDONLY)),
    })
}
