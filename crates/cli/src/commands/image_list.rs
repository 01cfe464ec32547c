//! `image list`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use hull_deploy::state::HostState;
use hull_store::{Store, StoreError};
use serde::Serialize;

use super::{sources, this_machine};
use crate::args::images::{List, ListFormat, ListKind};
use crate::failure::Failure;
use crate::render::table::table;
use crate::render::text;
use crate::{host_v1, output};

/// An image as bootc lists it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Listed {
    image_type: &'static str,
    image: String,
}

/// Lists the images of all deployments, and those that were pulled by name.
pub(crate) fn run(args: &List) -> Result<ExitCode, Failure> {
    let mut images = match args.store.store {
        None => listed(&this_machine()?.observe()?, args.kind),
        Some(_) => BTreeSet::new(),
    };
    if matches!(args.kind, ListKind::All | ListKind::Pulled) {
        images.extend(pulled(&sources::store(
            &args.store,
            sources::Missing::Refused,
        )?)?);
    }
    let text = match args.format {
        ListFormat::Json => output::json(&images)?,
        ListFormat::Table => {
            let rows = images
                .iter()
                .map(|found| [text::line(&found.image), found.image_type.to_owned()]);
            let header = ["IMAGE", "TYPE"].map(String::from);
            table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn listed(state: &HostState, kind: ListKind) -> BTreeSet<Listed> {
    let records = || state.deployments.iter().map(|found| &found.record);
    let entry = |image_type, reference: &str| Listed {
        image_type,
        image: host_v1::image_name(reference),
    };
    let host = records().map(|record| entry("host", &record.image.reference));
    let bound = records().flat_map(|record| &record.bound_images);
    let logical = bound.map(|image| entry("logical", &image.reference));
    match kind {
        ListKind::All => host.chain(logical).collect(),
        ListKind::Host => host.collect(),
        ListKind::Logical => logical.collect(),
        ListKind::Pulled => BTreeSet::new(),
    }
}

/// The images that were pulled by name, or by digest alone.
fn pulled(store: &Store) -> Result<Vec<Listed>, StoreError> {
    let named = hull_oci::image::named(store)?.into_iter();
    Ok(named
        .map(|(image, _)| Listed {
            image_type: "pulled",
            image,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_v1::fixtures;
    use hull_boot::record::BoundImage;

    #[test]
    fn each_image_is_listed_once_with_its_kind() {
        let mut all = fixtures::all();
        let (_, seen) = all.iter_mut().find(|(name, _)| *name == "pinned").unwrap();
        seen.state.deployments[0]
            .record
            .bound_images
            .push(BoundImage {
                reference: "docker://registry.example/app:1".into(),
                manifest_digest: format!("sha256:{}", "a".repeat(64)),
            });
        let names = |kind| {
            let found = listed(&seen.state, kind).into_iter();
            found
                .map(|found| format!("{} {}", found.image_type, found.image))
                .collect::<Vec<_>>()
        };
        let host = [
            "host oci:/srv/image:golden",
            "host registry.example/os/debian:stable",
        ];
        assert_eq!(names(ListKind::Host), host);
        assert_eq!(names(ListKind::Logical), ["logical registry.example/app:1"]);
        assert_eq!(names(ListKind::All).len(), 3);
    }
}
