//! `fsck`.

use std::process::ExitCode;

use hull_deploy::machine::Machine;
use hull_deploy::{repair, running};
use hull_store::fsck::{self, Depth, Report};

use super::{Context, sources};
use crate::args::host::Fsck;
use crate::args::{Format, ProgressOptions};
use crate::clock;
use crate::failure::Failure;
use crate::hints::FAILED;
use crate::progress::{self, Amount, Pulling, Shown, Task};
use crate::{output, render, yaml};

/// Checks the store, and with `--repair` makes it whole.
pub(crate) fn run(args: &Fsck, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let mut machine = running::open_damaged(clock::now())?;
    let shown = progress::start(&args.progress(), context.environment)?;
    let mut report = check(&machine, args, &shown)?;
    if args.repair && !report.is_sound() {
        let pull = sources::pull_options(&args.auth, context)?;
        let repaired = repair::execute(&mut machine, &report, &pull, &Pulling::new(&shown))?;
        let mut failures = repaired.failures.into_iter();
        if let Some(first) = failures.next() {
            drop(shown);
            failures.for_each(|other| output::note(&other.to_string()));
            return Err(first.into());
        }
        report = check(&machine, args, &shown)?;
    }
    drop(shown);
    output::print(&written(&report, args.format, context)?)?;
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

impl Fsck {
    /// A report for programs comes alone.
    fn progress(&self) -> ProgressOptions {
        ProgressOptions {
            quiet: self.format != Format::HumanReadable,
            progress_fd: None,
        }
    }
}

fn check(machine: &Machine, args: &Fsck, shown: &Shown) -> Result<Report, Failure> {
    let depth = if args.quick {
        Depth::Quick
    } else {
        Depth::Full
    };
    let tracker = shown.tracker();
    tracker.begin(Task {
        name: "checking",
        description: "Checking all files".to_owned(),
        id: "checking".to_owned(),
        ..Task::default()
    });
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let report = fsck::check(&machine.store, depth, &|progress| {
        tracker.update(|task| {
            task.steps = Amount {
                cached: 0,
                // Several threads tell, and not always in order.
                done: task.steps.done.max(number(progress.done)),
                total: number(progress.total),
            };
        });
    })?;
    tracker.end();
    Ok(report)
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
