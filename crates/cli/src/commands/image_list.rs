//! `image list`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use hull_deploy::state::HostState;
use serde::Serialize;

use super::known_images::{self, Known};
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
    /// Of the manifest.
    digest: String,
}

/// Lists the images of all deployments, and those that were pulled by name.
pub(crate) fn run(args: &List) -> Result<ExitCode, Failure> {
    let mut images = match args.store.store {
        None => listed(&this_machine()?.observe()?, args.kind),
        Some(_) => BTreeSet::new(),
    };
    if matches!(args.kind, ListKind::All | ListKind::Pulled) {
        let store = sources::store(&args.store, sources::Missing::Refused)?;
        images.extend(known_images::pulled(&store)?.into_iter().map(pulled));
    }
    let text = match args.format {
        ListFormat::Json => output::json(&images)?,
        ListFormat::Table => {
            let rows = images.iter().map(|found| {
                let kind = found.image_type.to_owned();
                [text::line(&found.image), kind, short(&found.digest)]
            });
            let header = ["IMAGE", "TYPE", "DIGEST"].map(String::from);
            table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn listed(state: &HostState, kind: ListKind) -> BTreeSet<Listed> {
    let records = || state.deployments.iter().map(|found| &found.record);
    let entry = |image_type, reference: &str, digest: &str| Listed {
        image_type,
        image: host_v1::image_name(reference),
        digest: digest.to_owned(),
    };
    let host = records().map(|record| {
        let image = &record.image;
        entry("host", &image.reference, &image.manifest_digest)
    });
    let bound = records().flat_map(|record| &record.bound_images);
    let logical = bound.map(|image| entry("logical", &image.reference, &image.manifest_digest));
    match kind {
        ListKind::All => host.chain(logical).collect(),
        ListKind::Host => host.collect(),
        ListKind::Logical => logical.collect(),
        ListKind::Pulled => BTreeSet::new(),
    }
}

fn pulled(known: Known) -> Listed {
    Listed {
        image_type: "pulled",
        image: known.name,
        digest: known.digest.to_string(),
    }
}

/// As much of a digest as `image push` wants at least, for people.
fn short(digest: &str) -> String {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    text::line(&digits.chars().take(12).collect::<String>())
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
                .map(|found| {
                    format!(
                        "{} {} {}",
                        found.image_type,
                        found.image,
                        short(&found.digest)
                    )
                })
                .collect::<Vec<_>>()
        };
        let host = [
            "host oci:/srv/image:golden 111111111111",
            "host registry.example/os/debian:stable 222222222222",
            "host registry.example/os/debian:stable 333333333333",
        ];
        assert_eq!(names(ListKind::Host), host);
        let logical = ["logical registry.example/app:1 aaaaaaaaaaaa"];
        assert_eq!(names(ListKind::Logical), logical);
        assert_eq!(names(ListKind::All).len(), 4);
    }
}
