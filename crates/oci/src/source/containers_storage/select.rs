//! Which image of the stores is meant.

use super::StorageError;
use super::store::{ImageRecord, Store};
use crate::reference::{DEFAULT_TAG, ImageSelector, StorageReference};

/// The registries that podman takes for meant where a name has none.
const UNNAMED: [&str; 2] = ["localhost/", "docker.io/"];

/// The images that the reference may mean, by store and place in its list; never none.
pub(super) fn candidates(
    stores: &[Store],
    reference: &StorageReference,
) -> Result<Vec<(usize, usize)>, StorageError> {
    let mut found = Vec::new();
    for (place, store) in stores.iter().enumerate() {
        let images = store.images.iter().enumerate();
        let images = images.filter(|(_, image)| fits(image, reference.selector()));
        found.extend(images.map(|(image, _)| (place, image)));
    }
    let image = |&(store, image): &(usize, usize)| &stores[store].images[image];
    if found.is_empty() {
        return Err(missing(&stores[0], reference));
    }
    // The same image may be in several stores; the first counts.
    let several = found
        .iter()
        .any(|other| image(other).id != image(&found[0]).id);
    match reference.selector() {
        ImageSelector::AnyName => {}
        _ if several => {
            return Err(StorageError::Ambiguous {
                store: stores[found[0].0].path.clone(),
                wanted: shown(reference),
                offered: found
                    .iter()
                    .map(|place| name(image(place)))
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
        _ => found.truncate(1),
    }
    Ok(found)
}

fn fits(image: &ImageRecord, selector: &ImageSelector) -> bool {
    match selector {
        ImageSelector::AnyName => true,
        ImageSelector::Id(id) => image.id.starts_with(id),
        ImageSelector::Name(name) => {
            let meant = meant(name);
            image
                .names
                .iter()
                .flatten()
                .any(|name| meant.contains(name))
        }
    }
}

/// The full names that a name may stand for.
fn meant(name: &str) -> Vec<String> {
    let slash = name.rfind('/').unwrap_or(0);
    let name = match name[slash..].contains(':') {
        true => name.to_owned(),
        false => format!("{name}:{DEFAULT_TAG}"),
    };
    let host = name.split_once('/').map(|(host, _)| host);
    if host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost") {
        return vec![name];
    }
    let official = match host {
        None => "library/",
        Some(_) => "",
    };
    UNNAMED
        .iter()
        .map(|registry| match *registry {
            "docker.io/" => format!("{registry}{official}{name}"),
            registry => format!("{registry}{name}"),
        })
        .collect()
}

fn shown(reference: &StorageReference) -> String {
    match reference.selector() {
        ImageSelector::Name(name) => name.clone(),
        ImageSelector::Id(id) => format!("@{id}"),
        ImageSelector::AnyName => match reference.digest() {
            Some(digest) => format!("@{digest}"),
            None => String::new(),
        },
    }
}

pub(super) fn missing(store: &Store, reference: &StorageReference) -> StorageError {
    let names: Vec<_> = store.images.iter().take(20).map(name).collect();
    let mut wanted = shown(reference);
    if let (Some(digest), false) = (reference.digest(), wanted.starts_with("@sha")) {
        wanted = format!("{wanted}@{digest}");
    }
    StorageError::NoImage {
        store: store.path.clone(),
        wanted,
        offered: match names.len() {
            0 => "nothing".to_owned(),
            _ => names.join(", "),
        },
    }
}

/// What an image is called in a message.
fn name(image: &ImageRecord) -> String {
    let names: Vec<_> = image.names.iter().flatten().take(8).cloned().collect();
    let names = match names.is_empty() {
        false => names.join(", "),
        true => format!("@{}", image.digest.as_deref().unwrap_or(&image.id)),
    };
    names.chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_registry_is_a_local_one_or_docker_hub_s() {
        assert_eq!(meant("quay.io/a/b"), ["quay.io/a/b:latest"]);
        assert_eq!(meant("localhost:5000/a:1"), ["localhost:5000/a:1"]);
        assert_eq!(
            meant("os"),
            ["localhost/os:latest", "docker.io/library/os:latest"]
        );
        assert_eq!(
            meant("team/os:2"),
            ["localhost/team/os:2", "docker.io/team/os:2"]
        );
    }
}
