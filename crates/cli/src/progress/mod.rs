//! Telling how far long work is: bars on a terminal, JSON lines for programs,
//! a line for each stage elsewhere.
//!
//! The work only moves counters ([`tracker`]). A thread of its own looks at
//! them a few times a second and shows what it sees, so nothing that is shown
//! on can hold up the work: neither a stopped terminal nor a stuck reader.

mod fd;
mod json;
mod plain;
mod pull;
mod show;
mod terminal;
mod tracker;

pub(crate) use fd::InvalidFd;
pub(crate) use pull::Pulling;
pub(crate) use show::Shown;
pub(crate) use tracker::{Amount, Task};

use crate::args::ProgressOptions;
use crate::environment::Environment;

/// Looks whether `--progress-fd` can be written to. To be called first: later
/// the number may be that of a file which hull has opened itself.
pub(crate) fn check(options: &ProgressOptions) -> Result<(), InvalidFd> {
    options.progress_fd.map(fd::open).transpose().map(drop)
}

/// Shows progress where the command line wants it, else where it is of use.
pub(crate) fn start(
    options: &ProgressOptions,
    environment: &Environment,
) -> Result<Shown, InvalidFd> {
    Ok(match options.progress_fd {
        Some(number) => Shown::to_fd(fd::open(number)?),
        None if options.quiet => Shown::nowhere(),
        None if environment.terminal_err => Shown::on_terminal(),
        None => Shown::plain(),
    })
}
