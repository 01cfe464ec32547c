//! A store whose file system is small, or fills up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hull_oci::progress::{Event, Progress, Silent};
use hull_oci::{PullError, PullOptions, Reference, Spool};
use hull_store::fsck::{self, Depth};
use hull_sys::run::Program;

use crate::faulty::{Fault, Faulty, Request};
use crate::image::{tar, three_layers};
use crate::local_store::{LocalStore, open, options, read, show};
use crate::read_ahead::one_layer;

/// A small ext4 on a loop device, unmounted when dropped.
struct Small {
    temp: tempfile::TempDir,
}

impl Small {
    fn mount(megabytes: u64) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let small = Self { temp };
        std::fs::create_dir(small.path()).unwrap();
        let image = small.temp.path().join("image");
        File::create(&image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        let mkfs = Program::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-N", "4096"]);
        mkfs.arg(&image).run().unwrap();
        let mount = Program::new("mount").args(["-o", "loop"]).arg(&image);
        mount.arg(small.path()).run().expect("this test needs root");
        std::fs::create_dir(small.path().join("composefs")).unwrap();
        small
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join("mounted")
    }

    fn options(&self) -> PullOptions {
        let mut options = options();
        let parent = File::open(self.path()).unwrap();
        options.spool = Some(Spool::create(parent, "spool", "spool").unwrap());
        options.parallel = Some(1.try_into().unwrap());
        options
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let umount = Program::new("umount").arg("-l").arg(self.path());
        umount.run().ok();
    }
}

/// Fills the file system until only so many bytes are free.
fn fill(directory: &Path, leave: u64) {
    let mut ballast = File::create(directory.join("ballast")).unwrap();
    loop {
        let stat = rustix::fs::fstatvfs(&ballast).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        if free <= leave {
            return;
        }
        let piece = usize::try_from((free - leave).min(1 << 20)).unwrap();
        ballast.write_all(&vec![1; piece.max(4096)]).unwrap();
        ballast.sync_all().unwrap();
    }
}

#[test]
fn an_image_that_cannot_fit_is_refused_with_numbers_before_its_layers_come() {
    let small = Small::mount(4);
    let store = open(&small.path().join("composefs"));
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let reference = Reference::parse(&server.image("debian:stable")).unwrap();
    let error = hull_oci::pull(&store, &reference, &small.options(), &Silent).unwrap_err();
    assert!(
        matches!(error, PullError::NoRoom { .. }),
        "{}",
        show(&error)
    );
    assert!(error.is_no_space());
    let text = show(&error);
    // 2.8 MB of layers, and the same of what is under way.
    assert!(
        text.contains("needs about 5.6 MB") && text.contains("2.8 MB of"),
        "{text}"
    );
    assert_eq!(server.requests().len(), 2, "manifest and configuration");
}

#[test]
fn a_disk_that_fills_up_leaves_the_store_whole_and_the_part_usable() {
    let small = Small::mount(24);
    let directory = small.path();
    let store = open(&directory.join("composefs"));
    let image = three_layers("1");
    let large = image.layers[2];
    let is_large = move |request: &Request| request.path.ends_with(&large.to_string());
    let filled = directory.clone();
    let server = Faulty::new(image.clone(), move |request, _| {
        if is_large(request) && request.offset().is_none() {
            fill(&filled, 1_500_000);
        }
        None
    });
    let reference = Reference::parse(&server.image("debian:stable")).unwrap();
    let options = small.options();
    let error = hull_oci::pull(&store, &reference, &options, &Silent).unwrap_err();
    assert!(error.is_no_space(), "{}", show(&error));
    assert!(show(&error).contains("no space left"), "{}", show(&error));
    assert!(hull_oci::Image::load(&store, &image.digest()).is_err());

    std::fs::remove_file(directory.join("ballast")).unwrap();
    let report = fsck::check(&store, Depth::Full, &|_| {}).unwrap();
    assert!(report.is_sound());
    hull_oci::pull(&store, &reference, &options, &Silent).unwrap();
    hull_oci::Image::load(&store, &image.digest()).unwrap();
    let requests = server.requests();
    let last = requests.iter().rfind(|request| is_large(request)).unwrap();
    assert!(
        last.offset().is_some_and(|offset| offset > 500_000),
        "{last:?}"
    );
}

#[test]
fn a_spool_whose_disk_is_full_is_done_without_and_what_it_has_stays_usable() {
    let small = Small::mount(8);
    let local = LocalStore::new();
    let image = three_layers("1");
    let large = image.layers[2];
    let is_large = move |request: &Request| request.path.ends_with(&large.to_string());
    let breaks = AtomicBool::new(true);
    let server = Faulty::new(image, move |request, server| {
        let breaks = is_large(request) && breaks.swap(false, Ordering::SeqCst);
        breaks.then(|| server.answer(request).cut(2_500_000, Fault::Close))
    });
    fill(&small.path(), 1_200_000);
    let mut options = small.options();
    options.source.retry.attempts = 1;
    let name = server.image("debian:stable");
    let error = show(&local.pull_with(&name, &options).unwrap_err());
    // The network's fault, not the disk's.
    assert!(error.contains("broke off after 2500000 of"), "{error}");
    // Still full: it goes on from what fitted.
    let pulled = local.pull_with(&name, &options).unwrap();
    let tree = pulled.image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "usr/three").len() > 2_800_000);
    let requests = server.requests();
    let last = requests.iter().rfind(|request| is_large(request)).unwrap();
    assert!(
        last.offset()
            .is_some_and(|offset| (400_000..2_500_000).contains(&offset)),
        "{last:?}"
    );
    assert_eq!(options.spool.unwrap().leftovers().unwrap(), []);
}

/// Remembers the least that was free while a layer came.
struct Least<'a> {
    free: &'a (dyn Fn() -> u64 + Sync),
    least: AtomicU64,
}

impl Progress for Least<'_> {
    fn report(&self, event: Event<'_>) {
        if let Event::LayerBytes { .. } = event {
            self.least.fetch_min((self.free)(), Ordering::SeqCst);
        }
    }
}

#[test]
fn a_spool_leaves_the_margin_to_others() {
    let small = Small::mount(2048);
    let local = LocalStore::new();
    let ballast = File::create(small.path().join("ballast")).unwrap();
    let stat = || rustix::fs::fstatvfs(&ballast).unwrap();
    let free = || stat().f_bavail * stat().f_frsize;
    let margin = stat().f_blocks * stat().f_frsize / 100;
    let flags = rustix::fs::FallocateFlags::empty();
    let room = 3 << 20;
    rustix::fs::fallocate(&ballast, flags, 0, free() - margin - room).unwrap();
    // Of 12 MB.
    let server = Faulty::new(one_layer(), |_, _| None);
    let reference = Reference::parse(&server.image("debian:stable")).unwrap();
    let options = small.options();
    let least = Least {
        free: &free,
        least: AtomicU64::new(u64::MAX),
    };
    hull_oci::pull(&local.store, &reference, &options, &least).unwrap();
    let least = least.least.into_inner();
    assert!(least < margin + room / 2, "the spool was used: {least}");
    // It looks after each MB, and does not know how much its own files take beside the bytes.
    assert!(least > margin - (2 << 20), "{least} of {margin}");
    assert_eq!(options.spool.unwrap().leftovers().unwrap(), []);
}

#[test]
fn layers_that_unpack_to_more_than_there_is_room_for_leave_some_free() {
    let small = Small::mount(2048);
    let store = open(&small.path().join("composefs"));
    let ballast = File::create(small.path().join("ballast")).unwrap();
    let free = || {
        let stat = rustix::fs::fstatvfs(&ballast).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&ballast, flags, 0, free() - (40 << 20)).unwrap();
    let files: Vec<_> = (0..60_u32)
        .map(|number| {
            (
                format!("file{number}"),
                number.to_le_bytes().repeat(256 << 10),
            )
        })
        .collect();
    let entries: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (&**name, &**bytes))
        .collect();
    let archive = tar(&entries);
    let session = store.session().unwrap();
    let error = hull_oci::layer::import(&session, &mut &*archive).unwrap_err();
    assert!(show(&error).contains("is kept free"), "{}", show(&error));
    // A hundredth of the whole is 20 MB; the threads may write a little more.
    assert!(free() > 5 << 20, "{}", free());
}
