//! `fsck`.

use std::process::ExitCode;

use hull_store::fsck::{self, Depth, Report};

use super::{Context, this_machine};
use crate::args::Format;
use crate::args::host::Fsck;
use crate::failure::Failure;
use crate::hints::FAILED;
use crate::{output, render, yaml};

/// Checks the store.
pub(crate) fn run(args: &Fsck, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let machine = this_machine()?;
    let depth = if args.quick {
        Depth::Quick
    } else {
        Depth::Full
    };
    let report = fsck::check(&machine.store, depth, &|_| {})?;
    output::print(&written(&report, args.format, context)?)?;
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

fn written(report: &Report, format: Format, context: &Context<'_>) -> Result<String, Failure> {
    let document = render::fsck::document(report);
    match format {
        Format::HumanReadable => Ok(render::fsck::render(
            report,
            context.verbose,
            context.style(),
        )),
        Format::Json => output::json(&document),
        Format::Yaml => {
            let value = serde_json::to_value(&document).map_err(Failure::Serialize)?;
            Ok(yaml::to_string(&value))
        }
    }
}
