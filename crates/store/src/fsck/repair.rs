//! Making a store whole again.

use std::collections::BTreeMap;
use std::fmt;

use hull_erofs::ObjectId;
use hull_sys::durable;

use super::{Finding, Report, User, content_digest};
use crate::error::{During, StoreError};
use crate::names::{self, PASSING};
use crate::session::Session;
use crate::store::Store;

/// What has to be pulled or made again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairPlan {
    /// Streams with something missing or damaged, each with the references that
    /// lead to it.
    pub streams: BTreeMap<String, Vec<String>>,
    /// The same for images.
    pub images: BTreeMap<ObjectId, Vec<String>>,
    /// Damaged objects that nothing uses: a collection removes them.
    pub unused: Vec<ObjectId>,
    /// Whether meta.json has to be written again: [`restore_meta`].
    pub meta: bool,
}

impl RepairPlan {
    /// Whether there is nothing to repair.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.meta {
            writeln!(f, "write meta.json again")?;
        }
        for (name, references) in &self.streams {
            writeln!(f, "pull stream {name} again{}", For(references))?;
        }
        for (image, references) in &self.images {
            writeln!(f, "make image {image} again{}", For(references))?;
        }
        for object in &self.unused {
            writeln!(f, "collect object {object}, which nothing uses")?;
        }
        Ok(())
    }
}

struct For<'a>(&'a [String]);

impl fmt::Display for For<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            write!(f, " (no reference leads to it: it can also be collected)")
        } else {
            write!(f, ", for {}", self.0.join(", "))
        }
    }
}

/// What has to be pulled or made again, by what a check found.
pub fn repair_plan(report: &Report) -> RepairPlan {
    let mut plan = RepairPlan::default();
    for finding in &report.findings {
        match finding {
            Finding::BadMeta { .. } => plan.meta = true,
            Finding::Missing { users, .. } => plan.add(report, users),
            Finding::Damaged { object, users, .. } if users.is_empty() => {
                plan.unused.push(*object);
            }
            Finding::Damaged { users, .. } => plan.add(report, users),
            Finding::NotWhatItIsLinkedAs { user, .. } => {
                plan.add(report, std::slice::from_ref(user));
            }
            Finding::Dangling { .. } | Finding::Foreign { .. } | Finding::Unreferenced { .. } => {}
        }
    }
    plan
}

impl RepairPlan {
    fn add(&mut self, report: &Report, users: &[User]) {
        for user in users {
            let references = || report.references.get(user).cloned().unwrap_or_default();
            match user {
                User::Stream(name) => {
                    self.streams.entry(name.clone()).or_insert_with(references);
                }
                User::Image(id) => {
                    self.images.entry(*id).or_insert_with(references);
                }
            }
        }
    }
}

/// Takes an object out of the way if it is damaged; tells whether it was.
///
/// It is read and hashed again first. Until the object is put again, what uses
/// it finds it missing, and never reads wrong bytes. The next collection removes
/// it.
pub fn quarantine(session: &Session, object: &ObjectId) -> Result<bool, StoreError> {
    let store = session.store();
    match content_digest(store, object) {
        Ok(actual) if actual == *object => return Ok(false),
        // Changed, or unreadable.
        Ok(_) | Err(StoreError::Io { .. }) => {}
        Err(error) => return Err(error),
    }
    let moving = || format!("taking object {object} out of the way");
    let away = format!("{PASSING}damaged-{object}");
    let path = names::object_path(object);
    durable::rename(store.root(), &path, store.root(), &away).during(moving)?;
    durable::sync_dir(store.root()).during(moving)?;
    Ok(true)
}

/// Writes meta.json again, in a store that [`Store::open_damaged`] opened.
///
/// A meta.json that can be read is left as it is.
pub fn restore_meta(store: &Store) -> Result<(), StoreError> {
    let _lock = crate::session::lock_shared(store)?;
    store.rewrite_meta()
}
