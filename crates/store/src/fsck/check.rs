//! Looking for damage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hull_erofs::ObjectId;

use super::digest::{content_digest, measured, open_unchecked, quick_digest};
use super::{Checked, Damage, Depth, Finding, FsckError, Progress, Report, User};
use crate::error::StoreError;
use crate::gc::{IMAGE_MAX, Inventory, broken_links, image_objects, link_path, reference_path};
use crate::store::Store;
use crate::stream::References;

/// Objects that a thread takes at once.
const BATCH: usize = 64;
const THREADS: usize = 2;

/// Checks the store. Nothing is changed; pulls may go on beside it, collections
/// wait.
///
/// `progress` is called from several threads.
pub fn check(
    store: &Store,
    depth: Depth,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, FsckError> {
    let _lock = crate::session::lock_shared(store)?;
    let inventory = Inventory::take(store)?;
    let uses = Uses::collect(store, &inventory);
    let objects = check_objects(store, &inventory, depth, progress)?;

    let mut findings = Vec::new();
    findings.extend(check_meta(store));
    findings.extend(missing(store, &inventory, &uses)?);
    findings.extend(
        objects
            .damaged
            .iter()
            .map(|(object, damage)| Finding::Damaged {
                object: *object,
                damage: uses.refine(object, damage.clone(), store),
                users: uses.of(object),
            }),
    );
    findings.extend(unreadable(&uses, &objects));
    findings.extend(dangling(&inventory));
    findings.extend(
        inventory
            .foreign
            .iter()
            .map(|path| Finding::Foreign { path: path.clone() }),
    );
    findings.extend(unreferenced(&inventory, &uses));
    Ok(Report {
        findings,
        checked: Checked {
            objects: inventory.objects.len(),
            measured: objects.measured,
            streams: inventory.links.streams.len(),
            images: inventory.links.images.len(),
            references: inventory.links.references.len(),
        },
        references: uses.references(&inventory),
    })
}

fn check_meta(store: &Store) -> Option<Finding> {
    let reason = match store.reread_meta() {
        Ok(Some(())) => return None,
        Ok(None) => "it is missing".to_owned(),
        Err(StoreError::BadMeta { reason }) => reason,
        Err(error) => error.to_string(),
    };
    Some(Finding::BadMeta { reason })
}

/// Which streams and images use which objects.
#[derive(Debug, Default)]
struct Uses {
    users: Vec<User>,
    /// Places in `users`.
    by_object: HashMap<ObjectId, Vec<usize>>,
    /// The lengths that images give.
    lengths: HashMap<ObjectId, u64>,
    /// The targets of each user's named references.
    named: BTreeMap<User, Vec<ObjectId>>,
    /// What could not be read, and why.
    unreadable: Vec<(User, ObjectId, StoreError)>,
}

impl Uses {
    fn collect(store: &Store, inventory: &Inventory) -> Self {
        let mut uses = Self::default();
        for (name, object) in &inventory.links.streams {
            let user = User::Stream(name.clone());
            let references = open_unchecked(store, object)
                .and_then(|file| Ok(References::read(&file, *object)?));
            match references {
                Ok(references) => uses.add_stream(user, object, references),
                Err(error) => uses.add_unreadable(user, object, error),
            }
        }
        for image in &inventory.links.images {
            let user = User::Image(*image);
            match read_image(store, image) {
                Ok(objects) => uses.add_image(user, image, &objects),
                Err(error) => uses.add_unreadable(user, image, error),
            }
        }
        uses
    }

    fn add_stream(&mut self, user: User, object: &ObjectId, references: References) {
        let targets: Vec<ObjectId> = references.named.into_values().collect();
        let needed = references.objects.iter().chain(&targets);
        self.add(user.clone(), std::iter::once(object).chain(needed));
        self.named.insert(user, targets);
    }

    fn add_image(&mut self, user: User, image: &ObjectId, objects: &[(ObjectId, u64)]) {
        self.lengths.extend(objects.iter().copied());
        let needed = objects.iter().map(|(object, _)| object);
        self.add(user, std::iter::once(image).chain(needed));
    }

    fn add_unreadable(&mut self, user: User, object: &ObjectId, error: StoreError) {
        self.add(user.clone(), std::iter::once(object));
        self.unreadable.push((user, *object, error));
    }

    fn add<'a>(&mut self, user: User, objects: impl Iterator<Item = &'a ObjectId>) {
        let place = self.users.len();
        self.users.push(user);
        for object in objects {
            let users = self.by_object.entry(*object).or_default();
            if users.last() != Some(&place) {
                users.push(place);
            }
        }
    }

    fn of(&self, object: &ObjectId) -> Vec<User> {
        let places = self.by_object.get(object);
        let mut users: Vec<User> = places
            .into_iter()
            .flatten()
            .map(|&place| self.users[place].clone())
            .collect();
        users.sort();
        users
    }

    /// Tells truncated from changed.
    fn refine(&self, object: &ObjectId, damage: Damage, store: &Store) -> Damage {
        let Damage::Changed { .. } = damage else {
            return damage;
        };
        let Ok(Some(length)) = store.object_size(object) else {
            return damage;
        };
        match self.lengths.get(object).copied() {
            Some(expected) if length < expected => Damage::Truncated {
                length,
                expected: Some(expected),
            },
            None if length == 0 => Damage::Truncated {
                length,
                expected: None,
            },
            _ => damage,
        }
    }

    /// The references that lead to each user.
    fn references(&self, inventory: &Inventory) -> BTreeMap<User, Vec<String>> {
        let mut by_object: HashMap<ObjectId, Vec<&User>> = HashMap::new();
        for (name, object) in &inventory.links.streams {
            let place = self
                .users
                .iter()
                .find(|user| matches!(user, User::Stream(other) if other == name));
            by_object.entry(*object).or_default().extend(place);
        }
        for user in &self.users {
            if let User::Image(id) = user {
                by_object.entry(*id).or_default().push(user);
            }
        }
        let mut found: BTreeMap<User, BTreeSet<String>> = BTreeMap::new();
        for (kind, name, target) in &inventory.links.references {
            let path = reference_path(*kind, name);
            let mut waiting: Vec<ObjectId> =
                inventory.links.resolve(*kind, target).into_iter().collect();
            while let Some(object) = waiting.pop() {
                for user in by_object.get(&object).into_iter().flatten() {
                    let references = found.entry((*user).clone()).or_default();
                    if references.insert(path.clone()) {
                        waiting.extend(self.named.get(user).into_iter().flatten());
                    }
                }
            }
        }
        found
            .into_iter()
            .map(|(user, references)| (user, references.into_iter().collect()))
            .collect()
    }
}

fn read_image(store: &Store, image: &ObjectId) -> Result<Vec<(ObjectId, u64)>, StoreError> {
    let bytes = store.read_object(image, IMAGE_MAX)?;
    image_objects(&bytes).map_err(|error| {
        StoreError::io(
            format!("reading image {image}"),
            std::io::Error::other(error),
        )
    })
}

/// What the pass over all objects found.
#[derive(Debug, Default)]
struct Objects {
    damaged: BTreeMap<ObjectId, Damage>,
    measured: usize,
}

fn check_objects(
    store: &Store,
    inventory: &Inventory,
    depth: Depth,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Objects, StoreError> {
    let batches: Vec<&[ObjectId]> = inventory.objects.chunks(BATCH).collect();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let found = Mutex::new(Objects::default());
    let work = || -> Result<(), StoreError> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut seen = Objects::default();
            for object in *batch {
                check_object(store, object, depth, &mut seen)?;
            }
            let done = done.fetch_add(batch.len(), Ordering::Relaxed) + batch.len();
            let total = inventory.objects.len();
            progress(Progress { done, total });
            let mut found = found
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            found.damaged.append(&mut seen.damaged);
            found.measured += seen.measured;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for thread in threads {
            match thread.join() {
                Ok(other) => result = result.and(other),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    Ok(found
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn check_object(
    store: &Store,
    object: &ObjectId,
    depth: Depth,
    seen: &mut Objects,
) -> Result<(), StoreError> {
    let digest = match depth {
        Depth::Quick => quick_digest(store, object),
        Depth::Full => content_digest(store, object),
    };
    match digest {
        Ok(actual) if actual == *object => {}
        Ok(actual) => {
            let actual = Box::new(actual);
            seen.damaged.insert(*object, Damage::Changed { actual });
        }
        // Repaired by a session meanwhile, or gone with a quarantine.
        Err(StoreError::Missing { .. }) => {}
        Err(StoreError::Io { source, .. }) => {
            let reason = source.to_string();
            seen.damaged.insert(*object, Damage::Unreadable { reason });
        }
        Err(error) => return Err(error),
    }
    if depth == Depth::Quick && store.verity() {
        let file = open_unchecked(store, object);
        let measured = file.and_then(|file| measured(store, &file, object));
        seen.measured += usize::from(matches!(measured, Ok(Some(_))));
    }
    Ok(())
}

fn missing(store: &Store, inventory: &Inventory, uses: &Uses) -> Result<Vec<Finding>, StoreError> {
    let mut objects: Vec<&ObjectId> = uses
        .by_object
        .keys()
        .filter(|object| !inventory.has_object(object))
        .collect();
    objects.sort_unstable();
    let mut findings = Vec::new();
    for object in objects {
        // A pull beside this may have brought it since the listing.
        if store.object_size(object)?.is_none() {
            findings.push(Finding::Missing {
                object: *object,
                users: uses.of(object),
            });
        }
    }
    Ok(findings)
}

/// Streams and images that can't be read though their objects are right.
fn unreadable(uses: &Uses, objects: &Objects) -> Vec<Finding> {
    uses.unreadable
        .iter()
        .filter(|(_, object, error)| {
            !objects.damaged.contains_key(object) && !matches!(error, StoreError::Missing { .. })
        })
        .map(|(user, _, error)| Finding::NotWhatItIsLinkedAs {
            user: user.clone(),
            reason: with_source(error),
        })
        .collect()
}

fn with_source(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn dangling(inventory: &Inventory) -> Vec<Finding> {
    let links = broken_links(inventory)
        .into_iter()
        .map(|(path, object)| Finding::Dangling {
            path,
            target: format!("object {object}"),
        });
    let references = inventory
        .links
        .references
        .iter()
        .filter(|(kind, _, target)| inventory.links.resolve(*kind, target).is_none())
        .map(|(kind, name, target)| Finding::Dangling {
            path: reference_path(*kind, name),
            target: link_path(*kind, target),
        });
    links.chain(references).collect()
}

fn unreferenced(inventory: &Inventory, uses: &Uses) -> Vec<Finding> {
    inventory
        .objects
        .iter()
        .filter(|object| !uses.by_object.contains_key(object))
        .map(|object| Finding::Unreferenced { object: *object })
        .collect()
}
