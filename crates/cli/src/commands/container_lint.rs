//! `container lint`.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use hull_lint::{LINTS, Outcome, Root, Severity};
use hull_oci::progress::Silent;
use hull_store::Store;
use serde_json::Value;

use super::dump::with_store;
use super::{Context, sources};
use crate::args::container::Lint;
use crate::args::{Format, Transport};
use crate::failure::Failure;
use crate::hints::FAILED;
use crate::render::lint;
use crate::{output, yaml};

/// Says what is wrong with a root file system or an image, or what is checked.
pub(crate) fn run(args: &Lint, context: &Context<'_>) -> Result<ExitCode, Failure> {
    if args.list {
        print(args, &lint::list_document(LINTS), || lint::list(LINTS))?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes = match &args.image {
        None => hull_lint::run(&Root::read(&args.rootfs)?, &args.skip),
        Some(image) => with_store(None, |store| {
            Ok(hull_lint::run(
                &pulled(image, store, args, context)?,
                &args.skip,
            ))
        })?,
    };
    let document = lint::document(&args.rootfs, args.image.as_deref(), &outcomes);
    print(args, &document, || {
        lint::report(&outcomes, args.no_truncate)
    })?;
    Ok(match failed(&outcomes, args.fatal_warnings) {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    })
}

/// An image, pulled into a store that goes away.
fn pulled(name: &str, store: &Store, args: &Lint, context: &Context<'_>) -> Result<Root, Failure> {
    let reference = sources::reference(name, Transport::Registry, context)?;
    let options = sources::pull_options(&args.auth, context)?;
    let (image, tree) = hull_oci::pull_tree(store, &reference, &options, &Silent)?;
    let objects = store.clone();
    let open = move |id: &_| objects.open_object(id).map_err(io::Error::other);
    Ok(Root::of_image(
        name,
        tree,
        Arc::new(open),
        image.config.labels,
    )?)
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
