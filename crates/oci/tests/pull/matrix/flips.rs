//! A tag that leads to another image from the moment on that a seat is asked.
//!
//! Whatever becomes of the old image meanwhile, a pull gives one of the two whole, or fails; the
//! next one gives the new image.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use hull_store::gc;
use serde_json::Value;

use super::*;
use crate::image::{OCI_INDEX, OCI_MANIFEST};
use crate::local_store::{LocalStore, show};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a tag may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Oci,
    OciIndex,
    Docker,
    DockerList,
}

/// The tag's forms before and after.
const FORMS: [(Form, Form); 7] = [
    (Form::Oci, Form::Oci),
    (Form::Oci, Form::OciIndex),
    (Form::OciIndex, Form::Oci),
    (Form::OciIndex, Form::OciIndex),
    (Form::Oci, Form::Docker),
    (Form::Docker, Form::OciIndex),
    (Form::DockerList, Form::Oci),
];

/// One of the two images.
struct Version {
    /// The image of this platform.
    image: TestImage,
    /// What the tag leads to.
    served: TestImage,
    signed: Signed,
}

static OLD: LazyLock<[Version; 4]> = LazyLock::new(|| versions(b'1'));
static NEW: LazyLock<[Version; 4]> = LazyLock::new(|| versions(b'2'));

fn versions(version: u8) -> [Version; 4] {
    let image = image(version);
    let forms = [Form::Oci, Form::OciIndex, Form::Docker, Form::DockerList];
    forms.map(|form| Version::new(&image, form))
}

impl Version {
    fn new(image: &TestImage, form: Form) -> Self {
        let image = match form {
            Form::Oci | Form::OciIndex => image.clone(),
            Form::Docker | Form::DockerList => in_types_of_docker(image),
        };
        let signed = SIGNED.beside(&image);
        let tagged = match form {
            Form::Oci | Form::Docker => image.clone(),
            Form::OciIndex => TestImage::index(&[&image]),
            Form::DockerList => of_type(&TestImage::index(&[&image]), DOCKER_LIST),
        };
        Self {
            image,
            served: signed.served(&tagged),
            signed,
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let signed = self.signed.answer(&request.path);
        signed.unwrap_or_else(|| self.served.answer(request))
    }

    /// All digests that it consists of, in an order that is the same for each.
    fn digests(&self) -> Vec<Digest> {
        let mut digests = vec![self.served.digest(), self.image.digest()];
        digests.extend([self.image.config, self.signed.payload]);
        digests.extend(&self.image.layers);
        digests
    }
}

fn of_type(image: &TestImage, media_type: &str) -> TestImage {
    let mut changed = image.with_manifest(|document| document["mediaType"] = json!(media_type));
    changed.root["mediaType"] = json!(media_type);
    changed
}

fn in_types_of_docker(image: &TestImage) -> TestImage {
    let translate = |descriptor: &mut Value| {
        let name = descriptor["mediaType"].as_str().unwrap();
        let name = match name.rsplit('.').next().unwrap() {
            "v1+json" => "application/vnd.docker.container.image.v1+json".to_owned(),
            tar => format!(
                "application/vnd.docker.image.rootfs.diff.{}",
                tar.replace('+', ".")
            ),
        };
        descriptor["mediaType"] = json!(name);
    };
    let image = image.with_manifest(|manifest| {
        translate(&mut manifest["config"]);
        let layers = manifest["layers"].as_array_mut().unwrap();
        layers.iter_mut().for_each(translate);
    });
    of_type(&image, DOCKER_MANIFEST)
}

/// When the tag moves: it is at once with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Seat(Seat),
    /// The manifest that an index leads to.
    Inner,
}

/// When, as to the answer to that request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    /// The connection ends in the middle of it.
    Within,
    After,
}

/// What becomes of the old image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Kept,
    /// What the new image has not is not found any more.
    Gone,
    /// What is asked for by a digest of the old image is answered with that of the new one.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Old,
    New,
    Error,
    /// What is asked for at the same time may have come before.
    OldOrError,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Flip {
    forms: (Form, Form),
    place: Place,
    moment: Moment,
    rest: Rest,
}

impl Flip {
    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        let mut flips = Vec::new();
        for forms in FORMS {
            let mut places: Vec<_> = SEATS.into_iter().map(Place::Seat).collect();
            if matches!(forms.0, Form::OciIndex | Form::DockerList) {
                places.push(Place::Inner);
            }
            for place in places {
                for moment in [Moment::Before, Moment::Within, Moment::After] {
                    for rest in [Rest::Kept, Rest::Gone, Rest::Mixed] {
                        flips.push(Self {
                            forms,
                            place,
                            moment,
                            rest,
                        });
                    }
                }
            }
        }
        flips
    }

    /// Whether it is not the form of the tag that changes.
    pub(super) fn keeps_form(&self) -> bool {
        self.forms.0 == self.forms.1
    }

    fn old_version(&self) -> &'static Version {
        &OLD[self.forms.0 as usize]
    }

    fn new_version(&self) -> &'static Version {
        &NEW[self.forms.1 as usize]
    }

    fn is_asked(&self, request: &Request) -> bool {
        let old = self.old_version();
        match self.place {
            Place::Seat(seat) => seat.is_asked(request, &old.image, &old.signed.payload),
            Place::Inner => {
                let name = format!("/manifests/{}", old.image.digest());
                request.path.ends_with(&name)
            }
        }
    }

    /// What the registry has afterwards.
    fn answer_afterwards(&self, request: &Request) -> Answer {
        match self.rest {
            Rest::Gone => self.new_version().answer(request),
            Rest::Kept => {
                let answer = self.new_version().answer(request);
                if answer.is_not_found() {
                    return self.old_version().answer(request);
                }
                answer
            }
            Rest::Mixed => {
                let mut request = request.clone();
                let names = self
                    .old_version()
                    .digests()
                    .into_iter()
                    .zip(self.new_version().digests());
                for (old, new) in names {
                    request.path = request.path.replace(&old.to_hex(), &new.to_hex());
                }
                self.new_version().answer(&request)
            }
        }
    }

    /// The registry, and whether the tag has moved.
    pub(super) fn registry(self) -> (Faulty, Arc<AtomicBool>) {
        let moved = Arc::new(AtomicBool::new(false));
        let (for_content, for_fault) = (moved.clone(), moved.clone());
        let right = move |request: &Request| {
            if self.moment == Moment::Before && self.is_asked(request) {
                for_content.store(true, Ordering::SeqCst);
            }
            match for_content.load(Ordering::SeqCst) {
                true => self.answer_afterwards(request),
                false => self.old_version().answer(request),
            }
        };
        let fault = move |request: &Request, right: Answer| {
            let is_first = self.is_asked(request) && !for_fault.swap(true, Ordering::SeqCst);
            let middle = right.body_length() / 2;
            (is_first && self.moment == Moment::Within).then(|| right.cut(middle, Fault::Close))
        };
        (guarding(right, None, fault), moved)
    }

    fn expected(&self) -> Expected {
        match (self.place, self.moment, self.rest) {
            (Place::Seat(Seat::Token), ..) => Expected::New,
            (Place::Seat(Seat::Manifest), Moment::Before | Moment::Within, _) => Expected::New,
            (.., Rest::Kept) => Expected::Old,
            (Place::Seat(Seat::SmallBlob | Seat::LargeBlob), Moment::After, _) => {
                Expected::OldOrError
            }
            _ => Expected::Error,
        }
    }

    /// Asserts that this is the new image, whole.
    pub(super) fn assert_new(&self, local: &LocalStore, pulled: &Pulled) {
        assert_eq!(pulled.resolved_digest, self.new_version().served.digest());
        assert_image(&local.store, pulled, &self.new_version().image);
    }

    fn assert_old(&self, local: &LocalStore, pulled: &Pulled) {
        assert_eq!(pulled.resolved_digest, self.old_version().served.digest());
        assert_image(&local.store, pulled, &self.old_version().image);
    }

    /// Nothing is left but what had come of the old image's large layer.
    pub(super) fn assert_tidy(&self, spool: &Spool, what: &str) {
        let part = format!("sha256-{}", self.old_version().image.layers[2].to_hex());
        let left = spool.leftovers().unwrap();
        assert!(
            left.iter().all(|left| left.name == part),
            "{what}: {left:?}"
        );
    }
}

fn check(flip: &Flip, random: usize) {
    let what = format!("{flip:?}, seed {SEED}");
    let (server, moved) = flip.registry();
    let local = LocalStore::new();
    let dir = local.path("");
    introduce(&dir, &server, Seat::Signature);
    let mut options = options_in(&dir, server.port());
    options.parallel = NonZeroUsize::new(1 + random % 4);
    let name = server.image("debian:stable");
    let outcome = local.pull_with(&name, &options);
    assert!(moved.load(Ordering::SeqCst), "{what}: it was never asked");
    match (flip.expected(), outcome) {
        (Expected::Old | Expected::OldOrError, Ok(pulled)) => flip.assert_old(&local, &pulled),
        (Expected::New, Ok(pulled)) => flip.assert_new(&local, &pulled),
        (Expected::Error | Expected::OldOrError, Err(error)) => {
            let told = show(&error);
            assert!(told.contains(&server.host()), "{what}: {told}");
            assert!(!told.contains("hush"), "{what}: {told}");
            local.assert_lacks(&flip.old_version().image.digest());
            local.assert_lacks(&flip.new_version().image.digest());
        }
        (_, Ok(pulled)) => panic!("{what}: {:?}", pulled.image.config.version()),
        (_, Err(error)) => panic!("{what}: {}", show(&error)),
    }
    assert_sound(&local.store, &what);

    match local.pull_with(&name, &options) {
        Ok(pulled) => flip.assert_new(&local, &pulled),
        Err(error) => panic!("{what}, afterwards: {}", show(&error)),
    }
    assert_sound(&local.store, &what);
    let plan = gc::plan(&local.store, &[]).unwrap();
    assert!(plan.leftovers.is_empty(), "{what}: {:?}", plan.leftovers);
    flip.assert_tidy(&options.spool.unwrap(), &what);
}

#[test]
fn a_tag_that_moves_at_any_seat_gives_one_image_or_an_error_and_then_the_new_one() {
    let mut random = Random(SEED);
    let flips: Vec<_> = Flip::all()
        .into_iter()
        .map(|flip| (flip, random.next()))
        .collect();
    check_all(&flips, |(flip, random)| check(flip, *random));
}

#[test]
fn the_forms_of_an_image_are_what_they_are_called() {
    let types: Vec<_> = OLD
        .iter()
        .map(|version| version.served.media_type())
        .collect();
    assert_eq!(
        types,
        [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]
    );
    let docker = &OLD[Form::Docker as usize].image;
    let manifest = String::from_utf8(docker.manifest().to_vec()).unwrap();
    assert!(!manifest.contains("vnd.oci"), "{manifest}");
}
