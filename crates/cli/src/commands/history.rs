//! `history`.

use std::process::ExitCode;

use super::{Context, this_machine};
use crate::args::Format;
use crate::args::host::History;
use crate::failure::Failure;
use crate::{output, render, yaml};

/// Prints what was done to this machine.
pub(crate) fn run(args: &History, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let events = this_machine()?.history()?;
    let text = match args.format {
        Format::HumanReadable => render::history::render(&events, context.verbose, context.style()),
        Format::Json => output::json(&events)?,
        Format::Yaml => {
            let value = serde_json::to_value(&events).map_err(Failure::Serialize)?;
            yaml::to_string(&value)
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
