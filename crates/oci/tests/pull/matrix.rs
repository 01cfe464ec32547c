//! Every fault at every seat: what a registry can do to a pull, and that it ends
//! with an error or the exact image, a whole store, and a second run that works.

use std::fs::File;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hull_oci::manifest::Compression;
use hull_oci::{Digest, PullOptions, Spool};
use hull_store::fsck::{self, Depth};
use hull_store::gc;
use serde_json::json;

use crate::faulty::{Answer, Fault, Faulty, Length, Request};
use crate::image::{Recipe, TestImage, make, tar};
use crate::local_store::{LocalStore, options, read, show};
use crate::signatures::Signed;

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

static IMAGE: LazyLock<TestImage> = LazyLock::new(image);
static SIGNED: LazyLock<Signed> = LazyLock::new(|| Signed::new(&IMAGE));

impl Seat {
    fn is_asked(self, request: &Request, image: &TestImage) -> bool {
        let ends = |digest: &Digest| request.path.ends_with(&digest.to_string());
        match self {
            Self::Manifest => request.path.ends_with("/manifests/stable"),
            Self::Config => ends(&image.config),
            Self::SmallBlob => ends(&image.layers[0]),
            Self::LargeBlob => ends(&image.layers[2]),
            Self::Token => request.path.starts_with("/token"),
            Self::Signature => request.path.ends_with(".sig"),
            Self::Payload => ends(&SIGNED.payload),
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
            Self::Signature => format!("the manifest sha256-{}.sig", IMAGE.digest().to_hex()),
            Self::Payload => SIGNED.payload.to_string(),
        }
    }
}

/// What the fault has to work with.
struct Scene<'a> {
    request: &'a Request,
    /// What should be answered.
    right: Answer,
    /// Another host, which must see no secret.
    other: &'a str,
    random: usize,
}

/// A fault, and what becomes of the pull: `+` it works, `-` it fails; at each seat in
/// the order of [`SEATS`], but for those of the policy, which are [like](Seat::like) others.
struct FaultCase {
    name: &'static str,
    /// After so many such answers the registry behaves.
    answers: usize,
    /// What becomes of it then.
    passing: &'static str,
    /// And where it never behaves.
    lasting: &'static str,
    /// What the error may say of it: one of these.
    says: &'static [&'static str],
    answer: fn(Scene<'_>) -> Answer,
}

/// What an error says of a connection that ends.
const BROKEN: &[&str] = &["broke off after", "disconnected", "reset by peer"];
/// What it says of a server that sends too little; on a busy machine, a pause between
/// two drops may be as long as silence.
const IDLE: &[&str] = &["timeout", "fell silent", "next to nothing"];
/// What it says of content that is not the right one.
const WRONG: &[&str] = &[
    "is cut short",
    "is longer than",
    "wrong content",
    "the manifest cannot be read",
    "its answer is not valid JSON",
    "its answer holds no",
    // Of a token that is not the right one.
    "access denied (401)",
];

impl FaultCase {
    /// Where patience helps, as long as it is not for ever.
    const fn passes(name: &'static str, answer: fn(Scene<'_>) -> Answer) -> Self {
        Self {
            name,
            answers: 1,
            passing: "+++++",
            lasting: "-----",
            says: BROKEN,
            answer,
        }
    }

    /// Where it does not.
    const fn fails(name: &'static str, answer: fn(Scene<'_>) -> Answer) -> Self {
        Self {
            says: WRONG,
            ..Self::passes(name, answer).but("-----", "-----")
        }
    }

    const fn but(self, passing: &'static str, lasting: &'static str) -> Self {
        Self {
            passing,
            lasting,
            ..self
        }
    }

    const fn says(self, says: &'static [&'static str]) -> Self {
        Self { says, ..self }
    }

    /// For what has its say about the rest as well.
    const fn answers(self, answers: usize) -> Self {
        Self { answers, ..self }
    }

    /// Whether the token that came is at fault, not who gave it.
    fn is_in_token(&self) -> bool {
        self.name == "a flipped bit"
    }

    fn works(&self, seat: Seat, passing: bool) -> bool {
        let outcomes = if passing { self.passing } else { self.lasting };
        let place = SEATS
            .iter()
            .position(|other| *other == seat.like())
            .unwrap();
        outcomes.as_bytes()[place] == b'+'
    }
}

fn half(scene: Scene<'_>, fault: Fault) -> Answer {
    let middle = scene.right.body_length() / 2;
    scene.right.cut(middle, fault)
}

fn last(scene: Scene<'_>, fault: Fault) -> Answer {
    let end = scene.right.body_length().saturating_sub(1);
    scene.right.cut(end, fault)
}

/// Breaks in the middle; a request for the rest gets this.
fn then(scene: Scene<'_>, rest: impl FnOnce(Scene<'_>) -> Answer) -> Answer {
    match scene.request.offset() {
        None => half(scene, Fault::Close),
        Some(_) => rest(scene),
    }
}

fn busy(wait: &str) -> Answer {
    Answer::status(429).header("Retry-After", wait)
}

const SILENCE: Fault = Fault::Silence(Duration::from_secs(4));
/// So slow that not even the rest of a small answer comes in the times that are tried.
const DRIP: Fault = Fault::Drip(Duration::from_millis(200));

const FAULTS: [FaultCase; 44] = [
    FaultCase::passes("a reset before the answer", |s| {
        s.right.cut(0, Fault::Reset)
    }),
    FaultCase::passes("a reset after a byte", |s| s.right.cut(1, Fault::Reset)),
    FaultCase::passes("a reset in the middle", |s| half(s, Fault::Reset)),
    FaultCase::passes("a reset before the last byte", |s| last(s, Fault::Reset)),
    FaultCase::passes("an end before the answer", |s| s.right.cut(0, Fault::Close)),
    FaultCase::passes("an end after a byte", |s| s.right.cut(1, Fault::Close)),
    FaultCase::passes("an end in the middle", |s| half(s, Fault::Close)),
    FaultCase::passes("an end before the last byte", |s| last(s, Fault::Close)),
    FaultCase::passes("silence before the answer", |s| s.right.cut(0, SILENCE)).says(IDLE),
    FaultCase::passes("silence in the middle", |s| half(s, SILENCE)).says(IDLE),
    FaultCase::passes("drips", |s| half(s, DRIP)).says(IDLE),
    FaultCase::passes("429", |_| Answer::status(429)).says(&["answered 429"]),
    FaultCase::passes("429 for no time", |_| busy("0")).says(&["answered 429"]),
    FaultCase::passes("429 until a date", |_| {
        busy("Sun, 06 Nov 1994 08:49:38 GMT").header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
    })
    .says(&["answered 429"]),
    FaultCase::passes("429 for ever", |_| busy("1000000000")).says(&["answered 429"]),
    FaultCase::passes("429 with garbage", |_| busy("\"soon\"")).says(&["answered 429"]),
    FaultCase::passes("408", |_| Answer::status(408)).says(&["answered 408"]),
    FaultCase::passes("500", |_| Answer::status(500).body("a stack trace")).says(&["answered 500"]),
    FaultCase::passes("502", |_| {
        Answer::status(502).body("<html>bad gateway</html>")
    })
    .says(&["answered 502"]),
    FaultCase::passes("503", |_| Answer::status(503)).says(&["answered 503"]),
    FaultCase::fails("404", |_| Answer::status(404)).says(&["answered 404"]),
    FaultCase::fails("403", |_| Answer::status(403)).says(&["access denied (403)"]),
    FaultCase::fails("401 without an end", |_| {
        Answer::status(401).header("WWW-Authenticate", "Basic realm=\"again\"")
    })
    .says(&["access denied (401)"]),
    FaultCase::fails("204", |_| Answer::status(204)).says(&["answered 204"]),
    FaultCase::fails("206 that nobody asked for", |s| {
        s.right
            .with_status(206)
            .header("Content-Range", "bytes 5-9/10")
    })
    .says(&["answered 206"]),
    FaultCase::passes("a rest of another place", |s| {
        then(s, |s| s.right.other_header("Content-Range", "bytes 1-2/3"))
    })
    .answers(2),
    FaultCase::passes("a rest that is longer", |s| {
        then(s, |s| s.right.change_body(|body| body.push(0)))
    })
    .says(&["is longer than", "broke off after", "disconnected"])
    .answers(2)
    .but("+-+++", "-----"),
    FaultCase::passes("something else in place of the rest", |s| {
        then(s, |s| {
            s.right
                .with_status(200)
                .change_body(|body| body.insert(0, 1))
        })
    })
    .says(&["is cut short", "broke off after", "disconnected"])
    .answers(2)
    .but("+---+", "-----"),
    FaultCase::passes("416", |s| then(s, |_| Answer::status(416))).answers(2),
    FaultCase::fails("one byte more", |s| {
        s.right.change_body(|body| body.push(0))
    }),
    FaultCase::fails("a flipped bit", |s| {
        let place = s.random;
        s.right.change_body(|body| {
            let place = place % body.len().max(1);
            body[place] ^= 1 << (place % 8);
        })
    }),
    FaultCase::fails("nothing", |s| s.right.change_body(Vec::clear)),
    FaultCase::fails("a login page", |s| {
        s.right
            .change_body(|body| *body = b"<html>log in</html>".to_vec())
    }),
    FaultCase::fails("five megabytes", |s| {
        s.right.change_body(|body| body.resize(5 << 20, b' '))
    })
    .says(&["longer than"]),
    FaultCase::passes("chunks that end early", |s| {
        half(s, Fault::Close).length(Length::Chunked)
    }),
    FaultCase::fails("a length that is too small", |s| {
        let length = s.right.body_length();
        s.right.length(Length::Lie(length.saturating_sub(1)))
    }),
    FaultCase::fails("a length that is too large", |s| {
        let length = s.right.body_length();
        s.right.length(Length::Lie(length + 1))
    })
    .says(&["is longer than", "disconnected"])
    .but("+---+", "-----"),
    FaultCase::fails("a coding that it has not", |s| {
        s.right.header("Content-Encoding", "gzip")
    })
    .but("+++++", "+++++"),
    FaultCase::fails("another type", |s| {
        s.right.other_header("Content-Type", "text/html")
    })
    .says(&["was announced as"])
    .but("-++++", "-++++"),
    FaultCase::fails("another digest", |s| {
        s.right
            .header("Docker-Content-Digest", Digest::sha256(b"lie").to_string())
    })
    .but("-++++", "-++++"),
    FaultCase::fails("a redirect to another host", |s| {
        Answer::status(307).header("Location", format!("http://{}/elsewhere", s.other))
    })
    .says(&["answered 404"]),
    FaultCase::fails("a redirect to a file", |_| {
        Answer::status(302).header("Location", "file:///etc/passwd")
    })
    .says(&["is not followed"]),
    FaultCase::fails("a redirect without an end", |s| {
        Answer::status(307).header("Location", s.request.path.clone())
    })
    .but("+++++", "-----")
    .says(&["more than 5 times"]),
    FaultCase::passes("500 that quotes the request", |s| {
        let sent = s.request.header("authorization").unwrap_or_default();
        let decoded = match sent.strip_prefix("Basic ") {
            Some(login) => STANDARD.decode(login).unwrap(),
            None => Vec::new(),
        };
        let decoded = String::from_utf8(decoded).unwrap();
        Answer::status(500).body(format!("{sent}, {decoded}: these do not work"))
    })
    .says(&["do not work"]),
];

fn image() -> TestImage {
    let large: Vec<u8> = (0..266_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ 0x77).to_le_bytes())
        .collect();
    make(&Recipe {
        layers: &[
            (
                Compression::Gzip,
                tar(&[("usr/", b""), ("usr/one", &[b'1'; 300])]),
            ),
            (Compression::Zstd, tar(&[("usr/two", &[b'2'; 300])])),
            (Compression::None, tar(&[("usr/three", &large)])),
        ],
        architecture: &crate::image::host_architecture(),
        version: "1",
    })
}

/// A registry that wants a token, and a password for that.
fn guarded(
    image: &TestImage,
    fault: impl Fn(&Request, Answer) -> Option<Answer> + Send + Sync + 'static,
) -> Faulty {
    Faulty::new(SIGNED.served(image), move |request, server| {
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{PASSWORD}")));
        let sent = request.header("authorization");
        let right = if request.path.starts_with("/token") {
            if sent != Some(&*basic) {
                return Some(Answer::status(401));
            }
            Answer::ok("application/json", json!({"token": TOKEN}).to_string())
        } else if sent != Some(&*format!("Bearer {TOKEN}")) {
            let realm = format!(
                r#"Bearer realm="http://{}/token",service="x""#,
                server.host()
            );
            return Some(Answer::status(401).header("WWW-Authenticate", realm));
        } else {
            let signed = SIGNED.answer(&request.path);
            signed.unwrap_or_else(|| server.answer(request))
        };
        Some(fault(request, right.clone()).unwrap_or(right))
    })
}

fn with_password(dir: &Path, server: &Faulty, seat: Seat) -> PullOptions {
    let path = dir.join(format!("auth-{}.json", server.port()));
    let auth = STANDARD.encode(format!("me:{PASSWORD}"));
    let value = json!({"auths": {server.host(): {"auth": auth}}});
    serde_json::to_writer(File::create(&path).unwrap(), &value).unwrap();
    let mut options = options();
    options.source.auth.explicit = Some(path);
    options.policy = seat.is_of_policy().then(|| SIGNED.policy(dir));
    options.source.retry.pause = Duration::from_millis(1);
    options.source.retry.longest_pause = Duration::from_millis(5);
    let parent = File::open(dir).unwrap();
    options.spool = Some(Spool::create(parent, "spool", dir.join("spool")).unwrap());
    options
}

fn assert_image(local: &LocalStore, pulled: &hull_oci::Pulled, image: &TestImage) {
    assert_eq!(pulled.image.manifest_digest, image.digest());
    let tree = pulled.image.tree(&local.store).unwrap();
    let content = read(&local.store, &tree, "usr/three");
    let layer = &image.blobs[&image.layers[2]];
    assert_eq!(content, layer[512..512 + content.len()]);
    assert_eq!(read(&local.store, &tree, "usr/one"), [b'1'; 300]);
}

/// One fault at one seat, for a while or for ever; then a registry without faults.
fn check(seat: Seat, case: &'static FaultCase, passing: bool, random: usize) {
    let what = format!("{seat:?}, {}, passing: {passing}, seed {SEED}", case.name);
    let image = IMAGE.clone();
    let other = Faulty::with_answer(image.clone(), "/", Answer::status(404));
    let (seen, other_host, about) = (AtomicUsize::new(0), other.host(), image.clone());
    let most = if passing { case.answers } else { usize::MAX };
    let bad = guarded(&image, move |request, right| {
        if !seat.is_asked(request, &about) || seen.fetch_add(1, Ordering::SeqCst) >= most {
            return None;
        }
        Some((case.answer)(Scene {
            request,
            right,
            other: &other_host,
            random,
        }))
    });
    let local = LocalStore::new();
    let dir = local.path("");
    let mut options = with_password(&dir, &bad, seat);
    if case.name.starts_with("silence") || case.name == "drips" {
        options.source.timeouts.idle = Duration::from_millis(600);
    }
    let outcome = local.pull_with(&bad.image("debian:stable"), &options);
    assert_eq!(
        outcome.is_ok(),
        case.works(seat, passing),
        "{what}: {outcome:?}"
    );
    match outcome {
        Ok(pulled) => assert_image(&local, &pulled, &image),
        Err(error) => {
            let told = show(&error);
            assert!(
                !format!("{told} {error:?}").contains("hush"),
                "{what}: {told}"
            );
            check_error(&told, seat, case, &bad);
        }
    }
    for request in other.requests() {
        assert_eq!(request.header("authorization"), None, "{what}");
    }
    assert_sound(&local, &what);

    let good = guarded(&image, |_, _| None);
    let options = with_password(&dir, &good, seat);
    match local.pull_with(&good.image("debian:stable"), &options) {
        Ok(pulled) => assert_image(&local, &pulled, &image),
        Err(error) => panic!("{what}, afterwards: {}", show(&error)),
    }
    assert_sound(&local, &what);
    let plan = gc::plan(&local.store, &[]).unwrap();
    assert!(plan.leftovers.is_empty(), "{what}: {:?}", plan.leftovers);
    let spool = options.spool.unwrap();
    assert_eq!(spool.leftovers().unwrap(), [], "{what}");
}

/// An error names who, what, with which credentials, what came, and what to do.
#[track_caller]
fn check_error(told: &str, seat: Seat, case: &FaultCase, bad: &Faulty) {
    let what = format!("{seat:?}, {}: {told}", case.name);
    if seat.is_of_policy() && told.contains("not trusted by") {
        // It came that there is no signature, or another one.
        assert!(
            told.contains(&bad.host()) && told.contains("policy.json"),
            "{what}"
        );
        return;
    }
    let place = format!("registry {}, repository debian: asked for", bad.host());
    let auth = format!("auth-{}.json", bad.port());
    for part in [&*place, &seat.asked(), &auth, "; "] {
        assert!(told.contains(part), "{what}: {part} is missing");
    }
    let is_token = told.contains("the token service");
    assert_eq!(
        is_token,
        seat == Seat::Token && !case.is_in_token(),
        "{what}"
    );
    assert!(case.says.iter().any(|says| told.contains(says)), "{what}");
}

fn assert_sound(local: &LocalStore, what: &str) {
    let report = fsck::check(&local.store, Depth::Full, &|_| {}).unwrap();
    assert!(report.is_sound(), "{what}");
}

#[test]
fn every_fault_at_every_seat_ends_in_an_error_or_the_image_and_harms_nothing() {
    let mut rows = Vec::new();
    let mut random = SEED;
    for seat in SEATS {
        for case in &FAULTS {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let random = usize::try_from(random >> 33).unwrap();
            rows.push((seat, case, false, random));
            rows.push((seat, case, true, random));
        }
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((seat, case, passing, random)) =
                    rows.get(next.fetch_add(1, Ordering::SeqCst))
                {
                    // All cells are tried, whichever fail.
                    let outcome =
                        std::panic::catch_unwind(|| check(*seat, case, *passing, *random));
                    failed.fetch_add(usize::from(outcome.is_err()), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "cells of {}", rows.len());
}
