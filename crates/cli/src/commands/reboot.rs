//! `--apply`.

use hull_sys::run::Program;

use crate::failure::Failure;
use crate::output;

/// Asks the service manager for a reboot, and does not wait for it.
pub(crate) fn now() -> Result<(), Failure> {
    output::note("Rebooting.");
    let systemctl = Program::new("systemctl").package("systemd");
    systemctl.arg("reboot").run().map_err(Failure::Reboot)
}
