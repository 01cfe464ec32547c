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
    /// What keeps it under that name; none for the image of a deployment.
    pub(crate) reference: Option<String>,
}

/// Those that were pulled by name, or by digest alone.
pub(crate) fn pulled(store: &Store) -> Result<Vec<Known>, StoreError> {
    let known = image::named(store)?.into_iter().map(|found| Known {
        name: found.name,
        digest: found.digest,
        reference: Some(found.reference),
    });
    Ok(known.collect())
}

/// Those that the machine boots.
pub(crate) fn of_deployments(state: &HostState) -> Vec<Known> {
    let known = state.deployments.iter().filter_map(|deployment| {
        let image = &deployment.record.image;
        Some(Known {
            name: host_v1::image_name(&image.reference),
            digest: image.manifest_digest.parse().ok()?,
            reference: None,
        })
    });
    known.collect()
}

/// The one that is meant: by name, with or without its transport, or by digest, or by its first digits.
pub(crate) fn find<'k>(known: &'k [Known], wanted: &str) -> Result<&'k Known, Failure> {
    let found = find_all(known, wanted)?;
    // There is one at least.
    found.into_iter().next().ok_or_else(|| none(known, wanted))
}

/// The one of that name, or all names of the image with that digest. There is one at least.
pub(crate) fn find_all<'k>(known: &'k [Known], wanted: &str) -> Result<Vec<&'k Known>, Failure> {
    let digits = wanted.trim_start_matches("sha256:");
    let is_digest = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let found: Vec<_> = match is_digest {
        true => known
            .iter()
            .filter(|known| known.digest.to_hex().starts_with(digits))
            .collect(),
        false => known
            .iter()
            .find(|known| is_named(known, wanted))
            .into_iter()
            .collect(),
    };
    match &found[..] {
        [] => Err(none(known, wanted)),
        [first, more @ ..] if more.iter().any(|other| other.digest != first.digest) => {
            Err(Failure::SeveralImages(short(wanted)))
        }
        _ => Ok(found),
    }
}

fn none(known: &[Known], wanted: &str) -> Failure {
    let names: Vec<_> = known.iter().map(|known| known.name.clone()).collect();
    Failure::from(PushError::NoImage {
        wanted: short(wanted),
        offered: match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        },
    })
}

/// What was typed, as far as an error shows it.
fn short(wanted: &str) -> String {
    wanted.chars().take(300).collect()
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

    fn known(name: &str, digest: Digest) -> Known {
        Known {
            name: name.to_owned(),
            digest,
            reference: None,
        }
    }

    #[test]
    fn an_image_is_found_by_name_or_digest() {
        let digest = |n: u8| Digest::sha256(&[n]);
        let known = [
            known("a.example/os:1", digest(1)),
            known("oci:/srv/x:1", digest(2)),
        ];
        let find = |wanted: &str| find(&known, wanted).ok().map(|known| known.digest);
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
        let digest = Digest::sha256(b"the same");
        let unnamed = digest.to_string();
        let known = ["a.example/os:1", &unnamed, "z.example/os:1"].map(|name| known(name, digest));
        let count = |wanted: &str| find_all(&known, wanted).unwrap().len();
        assert_eq!(count("z.example/os:1"), 1);
        assert_eq!(count(&unnamed), 3);
        assert_eq!(count(&digest.to_hex()[..12]), 3);
        assert!(find_all(&known, "c.example/os:1").is_err());
    }

    #[test]
    fn digits_of_several_images_mean_none_of_them() {
        let digest = |last: &str| format!("sha256:{}{last}", "a".repeat(63)).parse().unwrap();
        let known = [
            known("a.example/os:1", digest("1")),
            known("b.example/os:1", digest("2")),
        ];
        let error = find_all(&known, &"a".repeat(12)).unwrap_err();
        assert!(matches!(error, Failure::SeveralImages(_)), "{error}");
        assert_eq!(
            find_all(&known, &format!("{}2", "a".repeat(63))).unwrap(),
            [&known[1]]
        );
    }
}
