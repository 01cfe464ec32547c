//! Images in podman's store: `[driver@graphroot+runroot:options]image`.

use std::fmt;
use std::path::Path;

use super::{ReferenceError, is_repository, is_tag, parse_digest};
use crate::digest::Digest;

/// An image in a store of podman's.
///
/// [`fmt::Display`] writes it without its transport.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageReference {
    store: Option<StoreSpecifier>,
    image: ImageSelector,
    digest: Option<Digest>,
}

/// Which store: what stands in the brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StoreSpecifier {
    /// The storage driver.
    pub driver: Option<String>,
    /// Where images and layers are.
    pub graphroot: String,
    /// Where podman keeps what goes with a reboot; hull needs nothing of it.
    pub runroot: Option<String>,
    /// `key=value`, as storage.conf's `[storage.options]` has them.
    pub options: Vec<(String, String)>,
}

/// Which image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageSelector {
    /// A name, with a tag where one is given.
    Name(String),
    /// The image's ID: the hexadecimal digits of its configuration's digest, or the
    /// first of them.
    Id(String),
    /// Any image with the digest that the reference has.
    AnyName,
}

impl StorageReference {
    /// The store, where one is given.
    pub fn store(&self) -> Option<&StoreSpecifier> {
        self.store.as_ref()
    }

    /// Which image is meant.
    pub fn selector(&self) -> &ImageSelector {
        &self.image
    }

    /// The digest of its manifest, if one is given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    pub(super) fn pin(&mut self, digest: Digest) {
        self.digest = Some(digest);
    }

    pub(super) fn parse(rest: &str, text: &str) -> Result<Self, ReferenceError> {
        let (store, rest) = match rest.strip_prefix('[') {
            None => (None, rest),
            Some(rest) => {
                let (inside, image) = rest
                    .split_once(']')
                    .ok_or_else(|| bad(text, "the ] is missing"))?;
                let store = (!inside.is_empty()).then(|| StoreSpecifier::parse(inside, text));
                (store.transpose()?, image)
            }
        };
        let (image, digest) = parse_image(rest, text)?;
        Ok(Self {
            store,
            image,
            digest,
        })
    }
}

fn bad(text: &str, reason: &'static str) -> ReferenceError {
    ReferenceError::Store {
        text: text.to_owned(),
        reason,
    }
}

impl StoreSpecifier {
    fn parse(inside: &str, text: &str) -> Result<Self, ReferenceError> {
        let (driver, rest) = match inside.split_once('@') {
            Some((driver, rest)) if !driver.contains('/') => (Some(driver), rest),
            _ => (None, inside),
        };
        let (places, options) = match rest.split_once(':') {
            Some((places, options)) => (places, Some(options)),
            None => (rest, None),
        };
        let (graphroot, runroot) = match places.split_once('+') {
            Some((graphroot, runroot)) => (graphroot, Some(runroot)),
            None => (places, None),
        };
        if !Path::new(graphroot).is_absolute() || graphroot.contains('\0') {
            return Err(bad(text, "the path of the store must be absolute"));
        }
        if driver.is_some_and(str::is_empty) {
            return Err(bad(text, "the driver is empty"));
        }
        let options = options.into_iter().flat_map(|options| options.split(','));
        let options = options
            .map(|option| {
                let (key, value) = option
                    .split_once('=')
                    .ok_or_else(|| bad(text, "an option has no ="))?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect::<Result<_, ReferenceError>>()?;
        Ok(Self {
            driver: driver.map(str::to_owned),
            graphroot: graphroot.to_owned(),
            runroot: runroot.map(str::to_owned),
            options,
        })
    }
}

fn parse_image(rest: &str, text: &str) -> Result<(ImageSelector, Option<Digest>), ReferenceError> {
    let wrong = || ReferenceError::StoredImage {
        text: text.to_owned(),
        image: rest.to_owned(),
    };
    let (name, digest) = match rest.rsplit_once('@') {
        Some((name, digest)) if digest.starts_with("sha256:") || digest.starts_with("sha512:") => {
            (name, Some(parse_digest(digest, text)?))
        }
        _ => (rest, None),
    };
    // `name@id` is the image of that ID, whatever its name.
    if let Some((_, id)) = name.rsplit_once('@') {
        return match is_id(id) {
            true => Ok((ImageSelector::Id(id.to_owned()), digest)),
            false => Err(wrong()),
        };
    }
    if name.is_empty() {
        return match digest {
            Some(_) => Ok((ImageSelector::AnyName, digest)),
            None => Err(wrong()),
        };
    }
    if name.len() == 64 && is_id(name) {
        return Ok((ImageSelector::Id(name.to_owned()), digest));
    }
    match is_name(name) {
        true => Ok((ImageSelector::Name(name.to_owned()), digest)),
        false => Err(wrong()),
    }
}

/// The digits of an ID, or enough of its first ones.
fn is_id(text: &str) -> bool {
    (3..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A name as podman gives it: perhaps a host, a repository, perhaps a tag.
fn is_name(name: &str) -> bool {
    let slash = name.rfind('/').unwrap_or(0);
    let (name, tag) = match name[slash..].find(':') {
        Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
        None => (name, None),
    };
    let is_host = |text: &str| text.contains(['.', ':']) && super::is_host(text);
    tag.is_none_or(is_tag)
        && match name.split_once('/') {
            Some((host, repository)) if is_host(host) => is_repository(repository),
            _ => is_repository(name),
        }
}

impl fmt::Display for StorageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(store) = &self.store {
            write!(f, "[{store}]")?;
        }
        match &self.image {
            ImageSelector::Name(name) => f.write_str(name)?,
            ImageSelector::Id(id) => write!(f, "@{id}")?,
            ImageSelector::AnyName => {}
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StoreSpecifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(driver) = &self.driver {
            write!(f, "{driver}@")?;
        }
        f.write_str(&self.graphroot)?;
        if let Some(runroot) = &self.runroot {
            write!(f, "+{runroot}")?;
        }
        for (place, (key, value)) in self.options.iter().enumerate() {
            write!(f, "{}{key}={value}", if place == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}
