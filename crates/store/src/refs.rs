//! References: the roots of a collection, by name.

use std::os::fd::AsFd;

use hull_erofs::ObjectId;
use hull_sys::durable;
use rustix::fs::FileType;

use crate::error::{During, StoreError};
use crate::names::{self, Kind, REFS};
use crate::session::Session;
use crate::store::Store;

/// What a reference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The image in `images/`.
    Image(&'a ObjectId),
    /// The stream of this name in `streams/`.
    Stream(&'a str),
}

impl Target<'_> {
    /// Which kind of target it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Image(_) => Kind::Image,
            Self::Stream(_) => Kind::Stream,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Image(id) => id.to_hex(),
            Self::Stream(name) => (*name).to_owned(),
        }
    }
}

impl Store {
    /// All references of a kind, sorted: their names, and the names of the stream
    /// or the image (hexadecimal digits) that they lead to.
    pub fn refs(&self, kind: Kind) -> Result<Vec<(String, String)>, StoreError> {
        let mut found = Vec::new();
        let path = format!("{}/{REFS}", kind.directory());
        collect(self, &path, "", &mut found)?;
        found.sort_unstable();
        Ok(found)
    }

    /// What the reference leads to, if it is there: the name of a stream or of
    /// an image (hexadecimal digits).
    pub fn find_ref(&self, kind: Kind, name: &str) -> Result<Option<String>, StoreError> {
        names::check_ref_name(name)?;
        Ok(self
            .read_link(&ref_path(kind, name))?
            .map(|target| target_name(&target)))
    }
}

fn collect(
    store: &Store,
    path: &str,
    prefix: &str,
    found: &mut Vec<(String, String)>,
) -> Result<(), StoreError> {
    let listing = || format!("listing {path} of the store");
    let directory = match hull_sys::dir::open_dir_beneath(store.root(), path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(listing(), error)),
    };
    for entry in hull_sys::dir::entries(&directory).during(listing)? {
        let name = entry.name.to_string_lossy();
        let inner = format!("{path}/{name}");
        match entry.kind {
            FileType::Directory => collect(store, &inner, &format!("{prefix}{name}/"), found)?,
            FileType::Symlink => {
                if let Some(target) = store.read_link(&inner)? {
                    found.push((format!("{prefix}{name}"), target_name(&target)));
                }
            }
            // No reference; `fsck` reports it.
            _ => {}
        }
    }
    Ok(())
}

/// As upstream does, only the last component of a reference's link counts.
fn target_name(target: &str) -> String {
    target.rsplit('/').next().unwrap_or_default().to_owned()
}

fn ref_path(kind: Kind, name: &str) -> String {
    format!("{}/{REFS}/{name}", kind.directory())
}

pub(crate) fn set(session: &Session, name: &str, target: Target<'_>) -> Result<(), StoreError> {
    names::check_ref_name(name)?;
    let kind = target.kind();
    let entry = target.name();
    require_target(session.store(), &ref_path(kind, name), kind, &entry)?;
    let up = "../".repeat(name.split('/').count());
    let link = format!("{up}{entry}");
    let path = ref_path(kind, name);
    if session.store().read_link(&path)?.as_deref() == Some(&*link) {
        return Ok(());
    }
    let writing = || format!("writing reference {path}");
    // The link that the reference leads to must never be younger on disk.
    sync_dir(session.store(), kind.directory()).during(writing)?;
    make_parents(session.store(), &path)?;
    session.replace_link(&path, &link)?;
    sync_dir(session.store(), parent(&path)).during(writing)
}

fn require_target(
    store: &Store,
    reference: &str,
    kind: Kind,
    entry: &str,
) -> Result<(), StoreError> {
    if kind == Kind::Stream {
        names::check_stream_name(entry)?;
    }
    let path = format!("{}/{entry}", kind.directory());
    match store.read_object_link(&path)? {
        Some(_) => Ok(()),
        None => Err(StoreError::NoTarget {
            reference: reference.to_owned(),
            what: path,
        }),
    }
}

pub(crate) fn remove(session: &Session, kind: Kind, name: &str) -> Result<(), StoreError> {
    names::check_ref_name(name)?;
    let path = ref_path(kind, name);
    if session.store().read_link(&path)?.is_none() {
        return Ok(());
    }
    let removing = || format!("removing reference {path}");
    durable::remove(session.store().root(), &path).during(removing)?;
    sync_dir(session.store(), parent(&path)).during(removing)
}

fn make_parents(store: &Store, path: &str) -> Result<(), StoreError> {
    let writing = |path: &str| format!("writing the directory {path} of the store");
    for (end, _) in path.match_indices('/') {
        let directory = &path[..end];
        durable::make_dir(store.root(), directory, 0o755).during(|| writing(directory))?;
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn sync_dir(store: &Store, path: &str) -> std::io::Result<()> {
    let directory = hull_sys::dir::open_dir_beneath(store.root(), path)?;
    durable::sync_dir(directory.as_fd())
}
