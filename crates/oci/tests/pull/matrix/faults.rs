//! What a registry can do when it is asked for something, and what becomes of the pull.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hull_oci::Digest;

use super::{IMAGE, SEATS, SIGNED, Seat, guarded};
use crate::certificates::Shown;
use crate::faulty::{Answer, Fault, Faulty, Length, Request};

/// What the fault has to work with.
struct Scene<'a> {
    request: &'a Request,
    /// What should be answered.
    right: Answer,
    /// Another host, which must see no secret; not encrypted.
    other: &'a str,
    /// Where the registry is spoken to over HTTPS: what it shows.
    shown: Option<&'a Shown>,
    /// Whether it never behaves again.
    lasting: bool,
    random: usize,
}

/// A fault, and what becomes of the pull: `+` it works, `-` it fails; at each seat in
/// the order of [`SEATS`], but for those of the policy, which are [like](Seat::like) others.
pub(super) struct FaultCase {
    pub(super) name: &'static str,
    /// After so many such answers the registry behaves.
    pub(super) answers: usize,
    /// What becomes of it then.
    passing: &'static str,
    /// And where it never behaves.
    lasting: &'static str,
    /// What the error may say of it: one of these.
    pub(super) says: &'static [&'static str],
    answer: fn(Scene<'_>) -> Answer,
    /// Whether the registry is spoken to over HTTPS.
    pub(super) encrypted: bool,
}

/// What an error says of a connection that ends.
const BROKEN: &[&str] = &["broke off after", "disconnected", "reset by peer"];
/// What it says of a server that sends too little; on a busy machine, a pause between
/// two drops may be as long as silence.
pub(crate) const IDLE: &[&str] = &["timeout", "fell silent", "next to nothing"];
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

/// What it says of a certificate whose time is over.
const OUTDATED: &[&str] = &["certificate expired"];
const EXPIRES: &str = "a certificate that expires";

/// Another host, whose certificate is good but for its time.
pub(super) static EXPIRED: LazyLock<Faulty> = LazyLock::new(|| {
    let config = Shown::expired().config();
    Faulty::start(IMAGE.clone(), Some(config), |_, _| None)
});

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
            encrypted: false,
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

    /// From a registry that is spoken to over HTTPS, and proves who it is.
    const fn encrypted(self) -> Self {
        Self {
            encrypted: true,
            ..self
        }
    }

    /// Whether it is the registry that fails where a token is asked for: with a token that is
    /// not the right one, or because it has the same certificate.
    pub(super) fn is_of_registry(&self) -> bool {
        matches!(self.name, "a flipped bit" | EXPIRES)
    }

    /// The registry, which does this when the seat is asked, and so often or for ever; with the
    /// count of that.
    pub(super) fn registry(
        &'static self,
        seat: Seat,
        passing: bool,
        other: String,
        random: usize,
    ) -> (Faulty, Arc<AtomicUsize>) {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let most = if passing { self.answers } else { usize::MAX };
        let shown = self.encrypted.then(Shown::good);
        let kept = shown.clone();
        let server = guarded(&IMAGE, shown.as_ref(), move |request, right| {
            if !seat.is_asked(request, &IMAGE, &SIGNED.payload)
                || count.fetch_add(1, Ordering::SeqCst) >= most
            {
                return None;
            }
            Some((self.answer)(Scene {
                request,
                right,
                other: &other,
                shown: kept.as_deref(),
                lasting: !passing,
                random,
            }))
        });
        (server, seen)
    }

    pub(super) fn works(&self, seat: Seat, passing: bool) -> bool {
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

const SILENCE: Fault = Fault::Silence(Duration::from_secs(60));
/// So slow that not even the rest of a small answer comes in the times that are tried.
const DRIP: Fault = Fault::Drip(Duration::from_millis(200));

pub(super) const FAULTS: [FaultCase; 47] = [
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
    FaultCase::passes("a redirect to a host whose certificate has expired", |s| {
        let url = format!("https://{}{}", EXPIRED.host(), s.request.path);
        Answer::status(307).header("Location", url)
    })
    .says(OUTDATED)
    .encrypted(),
    // The connection ends, and for the next one the certificate is out of date.
    FaultCase::passes(EXPIRES, |s| {
        let connections = if s.lasting { usize::MAX } else { 1 };
        s.shown.unwrap().expire_for(connections);
        s.right.cut(0, Fault::Close)
    })
    .says(OUTDATED)
    .encrypted(),
    FaultCase::fails("a redirect out of HTTPS", |s| {
        let url = format!("http://{}{}", s.other, s.request.path);
        Answer::status(307).header("Location", url)
    })
    .says(&["which is not encrypted"])
    .encrypted(),
];
