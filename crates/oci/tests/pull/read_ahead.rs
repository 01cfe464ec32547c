//! What an import has no time for yet waits in the spool, and is read back from there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hull_oci::manifest::Compression;
use hull_oci::progress::{Event, Progress};
use hull_oci::{PullOptions, Reference};

use crate::faulty::{Answer, Faulty};
use crate::image::{self, TestImage};
use crate::local_store::{LocalStore, read};
use crate::resume::{is_about, offsets, put, spool_files, spooled};

/// Keeps the import of a layer waiting until all of its blob is in the spool, and then for a
/// pause every few hundred kilobytes.
struct Busy<'a> {
    pause: Duration,
    part: std::path::PathBuf,
    length: u64,
    then: &'a (dyn Fn(&std::path::Path) + Sync),
    waited: AtomicUsize,
    remarks: Mutex<Vec<String>>,
}

impl Progress for Busy<'_> {
    fn report(&self, event: Event<'_>) {
        if let Event::Remark(remark) = event {
            self.remarks.lock().unwrap().push(remark.to_owned());
        }
        if !matches!(event, Event::LayerBytes { .. }) {
            return;
        }
        if self.waited.fetch_add(1, Ordering::SeqCst) > 0 {
            std::thread::sleep(self.pause);
            return;
        }
        let length = || std::fs::metadata(&self.part).map_or(0, |file| file.len());
        let started = std::time::Instant::now();
        while length() < self.length {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{} bytes came",
                length()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        (self.then)(&self.part);
    }
}

/// The bytes of the one file of the image.
fn content() -> Vec<u8> {
    (0..3_000_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// An image of one layer of several MB.
pub(crate) fn one_layer() -> TestImage {
    image::make(&image::Recipe {
        layers: &[(Compression::None, image::tar(&[("large", &content())]))],
        architecture: &image::host_architecture(),
        version: "1",
    })
}

/// Pulls that image while its import waits until all of it came; gives the remarks.
#[track_caller]
fn pull_busily(
    local: &LocalStore,
    name: &str,
    options: &PullOptions,
    then: &(dyn Fn(&std::path::Path) + Sync),
) -> Vec<String> {
    let image = one_layer();
    let [digest] = image.layers[..] else { panic!() };
    let busy = Busy {
        pause: Duration::ZERO,
        part: local.path(&format!("spool/sha256-{}", digest.to_hex())),
        length: u64::try_from(image.blobs[&digest].len()).unwrap(),
        then,
        waited: AtomicUsize::new(0),
        remarks: Mutex::default(),
    };
    let reference = Reference::parse(name).unwrap();
    let pulled = hull_oci::pull(&local.store, &reference, options, &busy).unwrap();
    let tree = pulled.image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "large") == content());
    assert_eq!(spool_files(local), [""; 0]);
    busy.remarks.into_inner().unwrap()
}

/// The same from one registry: where its layer was asked for from, and the remarks.
fn pull_from_one(then: &(dyn Fn(&std::path::Path) + Sync)) -> (Vec<usize>, Vec<String>) {
    let image = one_layer();
    let layer = image.layers[0];
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let name = server.image("debian:stable");
    let remarks = pull_busily(&local, &name, &spooled(&local), then);
    (offsets(&server, &layer), remarks)
}

#[test]
fn a_busy_import_keeps_no_server_waiting() {
    let image = one_layer();
    let layer = image.layers[0];
    let length = u64::try_from(image.blobs[&layer].len()).unwrap();
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let name = server.image("debian:stable");
    let remarks = pull_busily(&local, &name, &spooled(&local), &|_| ());
    assert_eq!(offsets(&server, &layer), [0]);
    let others = server.sent() - length;
    assert!(others < 100_000, "{others}");
    assert_eq!(remarks, [""; 0]);
}

fn damage(part: &std::path::Path) {
    let file = std::fs::File::options().write(true).open(part).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 10_000_000).unwrap();
}

#[track_caller]
fn assert_remark(remarks: &[String], reason: &str) {
    let layer = one_layer().layers[0];
    let expected = format!(
        "the part of {layer} that is kept in the spool is damaged: {reason}; the layer is \
         fetched once more, without the spool"
    );
    assert_eq!(remarks, [expected]);
}

#[test]
fn what_was_damaged_while_it_waited_is_fetched_once_more() {
    let (asked, remarks) = pull_from_one(&damage);
    assert_eq!(asked, [0, 0]);
    assert_remark(&remarks, "it holds other bytes than were written");
}

#[test]
fn what_cannot_be_read_back_is_fetched_once_more() {
    let (asked, remarks) = pull_from_one(&|part| {
        let file = std::fs::File::options().write(true).open(part).unwrap();
        file.set_len(10_000_000).unwrap();
    });
    assert_eq!(asked, [0, 0]);
    assert_remark(&remarks, "it is shorter than what was written");
}

#[test]
fn a_mirror_is_still_trusted_when_it_is_the_spool_that_is_damaged() {
    let image = one_layer();
    let layer = image.layers[0];
    let mirror = Faulty::new(image.clone(), |_, _| None);
    let registry = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let text = format!(
        "[[registry]]\nprefix = 'named.example'\nlocation = '{}'\ninsecure = true\n\
         [[registry.mirror]]\nlocation = '{}'\ninsecure = true\n",
        registry.host(),
        mirror.host(),
    );
    put(&local.path("registries.conf"), text.as_bytes());
    let mut options = spooled(&local);
    options.source.config.system = Some(local.path(""));
    let name = "named.example/debian:stable";
    let remarks = pull_busily(&local, name, &options, &damage);
    assert_remark(&remarks, "it holds other bytes than were written");
    assert_eq!(offsets(&mirror, &layer), [0, 0]);
    assert_eq!(registry.requests().len(), 0);
}

/// The record, once it says so many bytes: the thread that read the blob may write it when the
/// pull has failed already.
fn recorded(record: &std::path::Path, length: usize) -> serde_json::Value {
    let started = std::time::Instant::now();
    loop {
        let value: serde_json::Value =
            serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        if value["bytes"] == length {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{value}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The layer waits whole in the spool when another one fails; then the machine is switched off.
#[test]
fn a_layer_that_came_whole_is_known_after_a_power_cut() {
    let content = content();
    let image = image::make(&image::Recipe {
        layers: &[
            (Compression::None, image::tar(&[("large", &content)])),
            (Compression::None, image::tar(&[("small", b"small")])),
        ],
        architecture: &image::host_architecture(),
        version: "1",
    });
    let [large, small] = image.layers[..] else {
        panic!()
    };
    let length = image.blobs[&large].len();
    let local = LocalStore::new();
    let part = local.path(&format!("spool/sha256-{}", large.to_hex()));
    let (came, failing) = std::sync::mpsc::channel();
    let (came, failing) = (Mutex::new(came), Mutex::new(failing));
    let failed = AtomicUsize::new(0);
    let server = Faulty::new(image, move |request, _| {
        let fails = is_about(request, &small) && failed.fetch_add(1, Ordering::SeqCst) == 0;
        fails.then(|| {
            failing.lock().unwrap().recv().unwrap();
            Answer::status(404)
        })
    });
    let busy = Busy {
        // There are dozens of them, but the import ends at the first after the failure.
        pause: Duration::from_secs(1),
        part: part.clone(),
        length: u64::try_from(length).unwrap(),
        then: &|_| came.lock().unwrap().send(()).unwrap(),
        waited: AtomicUsize::new(0),
        remarks: Mutex::default(),
    };
    let name = server.image("debian:stable");
    let reference = Reference::parse(&name).unwrap();
    let options = spooled(&local);
    hull_oci::pull(&local.store, &reference, &options, &busy).unwrap_err();

    let record = part.with_extension("json");
    let mut value = recorded(&record, length);
    value["boot"] = "another".into();
    put(&record, value.to_string().as_bytes());
    let pulled = local.pull_with(&name, &options).unwrap();
    let tree = pulled.image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "large") == content);
    assert_eq!(offsets(&server, &large), [0]);
}
