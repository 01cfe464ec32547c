//! `container lint`.

use std::process::ExitCode;

use hull_lint::{LINTS, Outcome, Root, Severity};
use serde_json::Value;

use crate::args::Format;
use crate::args::container::Lint;
use crate::failure::Failure;
use crate::hints::FAILED;
use crate::render::lint;
use crate::{output, yaml};

/// Says what is wrong with a root file system, or what is checked.
pub(crate) fn run(args: &Lint) -> Result<ExitCode, Failure> {
    if args.list {
        print(args, &lint::list_document(LINTS), || lint::list(LINTS))?;
        return Ok(ExitCode::SUCCESS);
    }
    let root = Root::read(&args.rootfs)?;
    let outcomes = hull_lint::run(&root, &args.skip);
    print(args, &lint::document(&args.rootfs, &outcomes), || {
        lint::report(&outcomes, args.no_truncate)
    })?;
    Ok(match failed(&outcomes, args.fatal_warnings) {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    })
}

fn failed(outcomes: &[Outcome], fatal_warnings: bool) -> bool {
    let any = |severity| outcomes.iter().any(|outcome| outcome.failed(severity));
    any(Severity::Fatal) || (fatal_warnings && any(Severity::Warning))
}

fn print(args: &Lint, document: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    output::print(&match args.format {
        Format::HumanReadable => text(),
        Format::Json => output::json(document)?,
        Format::Yaml => yaml::to_string(document),
    })
}
