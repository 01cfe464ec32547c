//! What a registry can do to a pull: every fault at every seat.
//!
//! A seat is what is asked for when the fault comes. Whatever happens, a pull ends with an error
//! or the exact image, the store stays whole, no secret goes astray, and a second run works.

mod cells;
mod faults;
mod flips;
mod kill;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hull_oci::manifest::Compression;
use hull_oci::{Digest, Policy, PullOptions, Pulled, Spool};
use hull_store::Store;
use hull_store::fsck::{self, Depth};
use serde_json::json;

use crate::certificates::{self, Shown};
use crate::faulty::{Answer, Fault, Faulty, Request};
use crate::image::{Recipe, TestImage, make, tar};
use crate::local_store::{options, read};
use crate::signatures::Signed;
pub(crate) use faults::IDLE;

const PASSWORD: &str = "hush-password";
const TOKEN: &str = "hush-token";
const SEED: u64 = 20_261_121;

/// What is asked for when the fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    Manifest,
    Config,
    SmallBlob,
    LargeBlob,
    Token,
    Signature,
    Payload,
}

const SEATS: [Seat; 7] = [
    Seat::Manifest,
    Seat::Config,
    Seat::SmallBlob,
    Seat::LargeBlob,
    Seat::Token,
    Seat::Signature,
    Seat::Payload,
];

static IMAGE: LazyLock<TestImage> = LazyLock::new(|| image(b'1'));
static SIGNED: LazyLock<Signed> = LazyLock::new(|| Signed::new(&IMAGE));

impl Seat {
    /// Whether this is the request for that, of an image whose signature is of this payload.
    fn is_asked(self, request: &Request, image: &TestImage, payload: &Digest) -> bool {
        let ends = |digest: &Digest| request.path.ends_with(&digest.to_string());
        match self {
            Self::Manifest => request.path.ends_with("/manifests/stable"),
            Self::Config => ends(&image.config),
            Self::SmallBlob => ends(&image.layers[0]),
            Self::LargeBlob => ends(&image.layers[2]),
            Self::Token => request.path.starts_with("/token"),
            Self::Signature => request.path.ends_with(&signature_of(image)),
            Self::Payload => ends(payload),
        }
    }

    /// Whether a policy is needed for that to be asked.
    fn is_of_policy(self) -> bool {
        matches!(self, Self::Signature | Self::Payload)
    }

    /// The seat of the image that it is fetched like.
    fn like(self) -> Self {
        match self {
            Self::Signature => Self::Manifest,
            Self::Payload => Self::Config,
            seat => seat,
        }
    }

    /// How an error calls what was asked for.
    fn asked(self) -> String {
        match self {
            Self::Manifest | Self::Token => "the manifest stable".to_owned(),
            Self::Config => IMAGE.config.to_string(),
            Self::SmallBlob => IMAGE.layers[0].to_string(),
            Self::LargeBlob => IMAGE.layers[2].to_string(),
            Self::Signature => format!("the manifest {}", signature_of(&IMAGE)),
            Self::Payload => SIGNED.payload.to_string(),
        }
    }
}

/// The tag of an image's signatures.
fn signature_of(image: &TestImage) -> String {
    format!("sha256-{}.sig", image.digest().to_hex())
}

/// An image whose version is a digit, with one layer that is the same in all of them.
fn image(version: u8) -> TestImage {
    let large: Vec<u8> = (0..266_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ u32::from(version)).to_le_bytes())
        .collect();
    make(&Recipe {
        layers: &[
            (
                Compression::Gzip,
                tar(&[("usr/", b""), ("usr/one", &[version; 300])]),
            ),
            (Compression::Zstd, tar(&[("usr/two", &[b'2'; 300])])),
            (Compression::None, tar(&[("usr/three", &large)])),
        ],
        architecture: &crate::image::host_architecture(),
        version: &char::from(version).to_string(),
    })
}

/// A registry that wants a token, and a password for that; over HTTPS where it has a certificate.
fn guarded(
    image: &TestImage,
    shown: Option<&Arc<Shown>>,
    fault: impl Fn(&Request, Answer) -> Option<Answer> + Send + Sync + 'static,
) -> Faulty {
    let served = SIGNED.served(image);
    let right = move |request: &Request| {
        let signed = SIGNED.answer(&request.path);
        signed.unwrap_or_else(|| served.answer(request))
    };
    guarding(right, shown, fault)
}

/// The same for whatever `right` answers who has a token.
fn guarding(
    right: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    shown: Option<&Arc<Shown>>,
    fault: impl Fn(&Request, Answer) -> Option<Answer> + Send + Sync + 'static,
) -> Faulty {
    let tls = shown.map(Shown::config);
    Faulty::start(IMAGE.clone(), tls, move |request, server| {
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{PASSWORD}")));
        let sent = request.header("authorization");
        let right = if request.path.starts_with("/token") {
            if sent != Some(&*basic) {
                return Some(Answer::status(401));
            }
            Answer::ok("application/json", json!({"token": TOKEN}).to_string())
        } else if sent != Some(&*format!("Bearer {TOKEN}")) {
            let realm = format!("{}://{}/token", server.scheme(), server.host());
            let challenge = format!(r#"Bearer realm="{realm}",service="x""#);
            return Some(Answer::status(401).header("WWW-Authenticate", challenge));
        } else {
            right(request)
        };
        Some(fault(request, right.clone()).unwrap_or(right))
    })
}

/// Writes what a pull from this registry needs to know.
fn introduce(dir: &Path, server: &Faulty, seat: Seat) {
    let auth = STANDARD.encode(format!("me:{PASSWORD}"));
    let value = json!({"auths": {server.host(): {"auth": auth}}});
    serde_json::to_writer(
        File::create(dir.join(auth_file(server.port()))).unwrap(),
        &value,
    )
    .unwrap();
    if server.scheme() == "https" {
        certificates::trust(dir, &server.host());
    }
    if seat.is_of_policy() {
        SIGNED.policy(dir);
    }
}

fn auth_file(port: u16) -> String {
    format!("auth-{port}.json")
}

/// Options that follow what was written there. Who has a certificate must show it.
fn options_in(dir: &Path, port: u16) -> PullOptions {
    let mut options = options();
    options.source.auth.explicit = Some(dir.join(auth_file(port)));
    if dir.join(format!("certs.d/127.0.0.1:{port}")).is_dir() {
        options.source.insecure = false;
        options.source.trust_loopback = false;
        options.source.config.system = Some(dir.to_owned());
    }
    let policy = dir.join("policy.json");
    options.policy = policy
        .exists()
        .then(|| Arc::new(Policy::read(&policy).unwrap()));
    options.source.retry.pause = Duration::from_millis(1);
    options.source.retry.longest_pause = Duration::from_millis(5);
    let parent = File::open(dir).unwrap();
    options.spool = Some(Spool::create(parent, "spool", dir.join("spool")).unwrap());
    options
}

fn assert_image(store: &Store, pulled: &Pulled, image: &TestImage) {
    assert_eq!(pulled.image.manifest_digest, image.digest());
    let tree = pulled.image.tree(store).unwrap();
    let content = read(store, &tree, "usr/three");
    let layer = &image.blobs[&image.layers[2]];
    assert_eq!(content, layer[512..512 + content.len()]);
    let version = pulled.image.config.version().unwrap().as_bytes();
    assert_eq!(read(store, &tree, "usr/one"), version.repeat(300));
    assert_eq!(read(store, &tree, "usr/two"), [b'2'; 300]);
}

fn assert_sound(store: &Store, what: &str) {
    let report = fsck::check(store, Depth::Full, &|_| {}).unwrap();
    assert!(report.is_sound(), "{what}");
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap()
    }
}

/// Checks all cells, several at a time: all are tried, whichever fail.
fn check_all<Cell: Sync>(cells: &[Cell], check: impl Fn(&Cell) + Sync) {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let check = std::panic::AssertUnwindSafe(|| check(cell));
                    let outcome = std::panic::catch_unwind(check);
                    failed.fetch_add(usize::from(outcome.is_err()), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "cells of {}", cells.len());
}
