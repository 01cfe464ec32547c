//! The one table: what went wrong → what to do → the exit code.

use std::error::Error;
use std::process::ExitCode;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output;

/// The command was not done.
pub(crate) const FAILED: u8 = 1;
/// The command line asks for something that hull can't do.
pub(crate) const USAGE: u8 = 2;
/// `upgrade --check --exit-code`: there is nothing new.
pub(crate) const NOTHING_NEW: u8 = 77;

/// What a person can do about a failure, where that is known; and the exit code.
fn advice(failure: &Failure) -> (Option<&'static str>, u8) {
    match failure {
        Failure::Output(_) | Failure::Serialize(_) => (None, FAILED),
        Failure::Write { .. } | Failure::Read { .. } => (None, FAILED),
        Failure::Refused { .. } => (Some("leave it out; nothing was changed"), USAGE),
        Failure::NoCommand(_) => (Some("`hull help` lists the commands"), USAGE),
    }
}

/// Tells of a failure on standard error and gives the exit code.
pub(crate) fn report(failure: &Failure, environment: &Environment) -> ExitCode {
    let (hint, code) = advice(failure);
    let _ = environment;
    output::note(&text(failure, hint));
    ExitCode::from(code)
}

/// `error:`, its causes, and the hint, a line each.
fn text(failure: &dyn Error, hint: Option<&str>) -> String {
    let mut text = format!("error: {failure}");
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(&format!("\ncaused by: {error}"));
        cause = error.source();
    }
    if let Some(hint) = hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}
