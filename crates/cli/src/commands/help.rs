//! `help`, `help COMMAND`.

use std::process::ExitCode;

use clap::Command;

use super::Context;
use crate::args::{self, Help};
use crate::failure::Failure;
use crate::output;

/// Prints the list of commands, or the long help of one.
pub(crate) fn run(args: &Help, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let mut command = args::command(context.name);
    command.build();
    let help = long_help(&mut command, &args.command)
        .ok_or_else(|| Failure::NoCommand(args.command.join(" ")))?;
    if context.environment.colour_out {
        output::print(&help.ansi().to_string())?;
    } else {
        output::print(&help.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn long_help(command: &mut Command, path: &[String]) -> Option<clap::builder::StyledStr> {
    let mut found = command;
    for name in path {
        found = found.find_subcommand_mut(name)?;
    }
    Some(found.render_long_help())
}
