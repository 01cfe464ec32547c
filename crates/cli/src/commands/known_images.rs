//! The images of a store, as people name them.

use hull_deploy::state::HostState;
use hull_oci::push::PushError;
use hull_oci::{Digest, Reference, image};
use hull_store::{Store, StoreError};

use super::sources;
use crate::failure::Failure;
use crate::host_v1;

/// An image of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) digest: Digest,
}

/// Those that were pulled by name, or by digest alone.
pub(crate) fn pulled(store: &Store) -> Result<Vec<Known>, StoreError> {
    let named = image::named(store)?.into_iter();
    Ok(named.map(|(name, digest)| Known { name, digest }).collect())
}

/// Those that the machine boots.
pub(crate) fn of_deployments(state: &HostState) -> Vec<Known> {
    let known = state.deployments.iter().filter_map(|deployment| {
        let image = &deployment.record.image;
        Some(Known {
            name: host_v1::image_name(&image.reference),
            digest: image.manifest_digest.parse().ok()?,
        })
    });
    known.collect()
}

/// The one that is meant: by name, with or without its transport, or by digest, or by its first digits.
pub(crate) fn find<'k>(known: &'k [Known], wanted: &str) -> Result<&'k Known, Failure> {
    choose(known, wanted).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|known| known.name.clone()).collect();
        Failure::from(PushError::NoImage {
            wanted: wanted.chars().take(300).collect(),
            offered: match names.is_empty() {
                true => "none".to_owned(),
                false => names.join(", "),
            },
        })
    })
}

/// All that are meant: the one of that name, or all names of that digest.
pub(crate) fn find_all<'k>(known: &'k [Known], wanted: &str) -> Result<Vec<&'k Known>, Failure> {
    let found = find(known, wanted)?;
    if is_named(found, wanted) {
        return Ok(vec![found]);
    }
    let same = known.iter().filter(|other| other.digest == found.digest);
    Ok(same.collect())
}

fn choose<'k>(known: &'k [Known], wanted: &str) -> Option<&'k Known> {
    let digits = wanted.trim_start_matches("sha256:");
    let is_digest = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    known.iter().find(|known| {
        is_named(known, wanted) || (is_digest && known.digest.to_hex().starts_with(digits))
    })
}

fn is_named(known: &Known, wanted: &str) -> bool {
    let plain = wanted.trim_start_matches("docker://");
    let tagged = Reference::parse(wanted)
        .ok()
        .map(|reference| sources::name(&reference));
    known.name == plain || tagged.as_ref() == Some(&known.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_name_or_digest() {
        let digest = |n: u8| Digest::sha256(&[n]);
        let known = [
            Known {
                name: "a.example/os:1".to_owned(),
                digest: digest(1),
            },
            Known {
                name: "oci:/srv/x:1".to_owned(),
                digest: digest(2),
            },
        ];
        let find = |wanted: &str| choose(&known, wanted).map(|known| known.digest);
        assert_eq!(find("a.example/os:1"), Some(digest(1)));
        assert_eq!(find("docker://a.example/os:1"), Some(digest(1)));
        assert_eq!(find("oci:/srv/x:1"), Some(digest(2)));
        assert_eq!(find(&digest(2).to_string()), Some(digest(2)));
        assert_eq!(find(&digest(2).to_hex()[..12]), Some(digest(2)));
        assert_eq!(find("a.example/os:2"), None);
        assert_eq!(find("4bf5"), None);
    }

    #[test]
    fn a_digest_means_all_of_its_names_and_a_name_itself_alone() {
        let known = ["a.example/os:1", "b.example/os:1"].map(|name| Known {
            name: name.to_owned(),
            digest: Digest::sha256(b"the same"),
        });
        let count = |wanted: &str| find_all(&known, wanted).unwrap().len();
        assert_eq!(count("b.example/os:1"), 1);
        assert_eq!(count(&known[0].digest.to_string()), 2);
        assert!(find_all(&known, "c.example/os:1").is_err());
    }
}
