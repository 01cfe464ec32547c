//! Virtual machines for tests: real firmware, real boot loader, real kernel.
//!
//! A test makes (or takes) an example image ([`images`]), pushes it to a
//! [`Registry`], installs it to a raw disk, and boots that in a [`Machine`]:
//!
//! ```no_run
//! use hull_vm::{Key, Machine, Options, Registry, Workplace};
//!
//! # fn main() -> Result<(), hull_vm::VmError> {
//! let place = Workplace::new("story")?;
//! let key = Key::generate(&place)?;
//! let registry = Registry::start(&place)?;
//! let layout = hull_vm::images::Layout::at("target/images/debian/oci");
//! registry.push(&layout.reference("v1"), "debian:stable")?;
//! // ... hull install to-disk --root-ssh-authorized-keys key.public() disk.raw ...
//! let mut machine = Machine::start(&place, "one", Options::new("disk.raw", &key))?;
//! machine.wait_for_ssh()?;
//! machine.succeed("hull upgrade")?;
//! machine.reboot()?;
//! assert!(machine.succeed("cat /etc/os-release")?.contains("IMAGE_VERSION=2"));
//! machine.kill_power()?;
//! machine.power_on()?;
//! machine.wait_for_ssh()?;
//! machine.shut_down()?;
//! # Ok(())
//! # }
//! ```
//!
//! Every wait has a deadline, and every failure shows what is needed to
//! understand it: the command, what it printed, the end of the serial
//! console, and where the whole of it is. Several machines can run side by
//! side. Whatever was started ends with the value that stands for it, and at
//! the latest with the test's process.
//!
//! QEMU runs with TCG, which needs nothing of the machine that runs the
//! tests but processor time; see [`machine::BOOT_DEADLINE`].
#![forbid(unsafe_code)]

pub mod images;
pub mod machine;
pub mod process;
mod registry;
pub mod scene;
mod serial;
mod ssh;
mod workplace;

pub use machine::{Machine, Options};
pub use process::Output;
pub use registry::Registry;
pub use scene::Scene;
pub use ssh::Key;
pub use workplace::{Workplace, repository};

use std::path::PathBuf;
use std::time::Duration;

/// Why a virtual machine, or something around it, did not do what the test wanted.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A program that the harness needs could not be started.
    #[error("cannot start {program}; tools/setup installs it")]
    Start {
        /// Its name.
        program: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A program on the host failed.
    #[error("{command}\nfailed with {output}")]
    Failed {
        /// The command line.
        command: String,
        /// What came of it.
        output: Output,
    },
    /// A program did not end in time, and was killed.
    #[error("{command}\nhad not ended after {after:?}; so far it has {output}")]
    TimedOut {
        /// The command line.
        command: String,
        /// The deadline.
        after: Duration,
        /// What it had printed by then.
        output: Output,
    },
    /// A file of the harness could not be read or written.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The machine did not come to a state in time, or left it.
    #[error("machine {machine}: {problem}\nthe end of its console (all of it: {}):\n{tail}", .log.display())]
    Machine {
        /// Its name in the test.
        machine: String,
        /// What was waited for, and what happened.
        problem: String,
        /// The serial console's whole log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// No registry could be started.
    #[error("no registry answers on any of the ports {ports}: {last}")]
    Registry {
        /// The ports that were tried.
        ports: String,
        /// Why the last one did not.
        last: String,
    },
}
