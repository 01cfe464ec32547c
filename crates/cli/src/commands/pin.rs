//! `pin`.

use std::process::ExitCode;

use super::this_machine;
use crate::args::host::Pin;
use crate::failure::Failure;
use crate::render::text;
use crate::{output, select};

/// Pins a deployment, or takes that back.
pub(crate) fn run(args: &Pin) -> Result<ExitCode, Failure> {
    let machine = this_machine()?;
    let name = select::select(&machine.observe()?, &args.deployment)?;
    machine.pin(&name, !args.unpin)?;
    let name = text::shorten(&name.to_string());
    let told = if args.unpin {
        format!("Deployment {name} may be removed when it is not needed.\n")
    } else {
        format!("Deployment {name} is kept until `hull pin --unpin {name}`.\n")
    };
    output::print(&told)?;
    Ok(ExitCode::SUCCESS)
}
