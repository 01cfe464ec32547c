//! Policies, with signatures by openssl in the forms of cosign. Debian 12's skopeo has
//! sigstore's switched off, so with it only the scopes and the rest are compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hull_oci::push::CopyOptions;
use hull_oci::{Digest, Policy, PullOptions};
use hull_sys::run::Program;
use serde_json::{Value, json};

use crate::docker_registry::DockerRegistry;
use crate::faulty::{Answer, Faulty};
use crate::image::{OCI_INDEX, OCI_MANIFEST, TestImage, three_layers};
use crate::local_store::{LocalStore, options, show};
use crate::push::{copy_options, copy_with};

pub(crate) fn put(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path)
        .unwrap()
        .write_all(content.as_ref())
        .unwrap();
}

/// A policy that wants `requirement` of every image, and options that follow it.
fn demanding(dir: &Path, requirement: &Value) -> PullOptions {
    let path = dir.join("policy.json");
    put(&path, json!({"default": [requirement]}).to_string());
    PullOptions {
        policy: Some(Arc::new(Policy::read(&path).unwrap())),
        ..options()
    }
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let program = Program::new("openssl").package("openssl");
    program.args(arguments).output().unwrap()
}

/// A key pair in a directory of its own.
struct Key {
    temp: tempfile::TempDir,
    kind: &'static str,
}

impl Key {
    fn new(kind: &'static str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let key = Self { temp, kind };
        let private = key.private();
        let algorithm: &[&str] = match kind {
            "P-256" => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "P-384" => &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            "P-521" => &["EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "RSA" => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            other => &[other],
        };
        openssl(&[&["genpkey", "-out", &private, "-algorithm"], algorithm].concat());
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &key.public()]);
        key
    }

    /// The same in a directory of its own.
    fn copied(pair: &KeyPair) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let key = Self {
            temp,
            kind: pair.kind,
        };
        put(Path::new(&key.private()), &pair.private);
        put(Path::new(&key.public()), &pair.public);
        key
    }

    fn pair(&self) -> KeyPair {
        KeyPair {
            private: std::fs::read(self.private()).unwrap(),
            public: std::fs::read(self.public()).unwrap(),
            kind: self.kind,
        }
    }

    fn private(&self) -> String {
        self.temp.path().join("private.pem").display().to_string()
    }

    fn public(&self) -> String {
        self.temp.path().join("public.pem").display().to_string()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let path = self.temp.path().join("message");
        put(&path, message);
        let path = path.display().to_string();
        if self.kind == "ED25519" {
            return openssl(&[
                "pkeyutl",
                "-sign",
                "-rawin",
                "-inkey",
                &self.private(),
                "-in",
                &path,
            ]);
        }
        openssl(&["dgst", "-sha256", "-sign", &self.private(), &path])
    }
}

/// A key pair in memory: what lives as long as the process leaves no directory behind.
struct KeyPair {
    private: Vec<u8>,
    public: Vec<u8>,
    kind: &'static str,
}

/// What a registry serves beside the image: manifests by tag, blobs, referrers.
#[derive(Default)]
struct Attached {
    paths: BTreeMap<String, Answer>,
}

impl Attached {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::sha256(bytes);
        for kind in ["blobs", "manifests"] {
            let path = format!("/{kind}/{digest}");
            self.paths.insert(path, Answer::ok(media_type, bytes));
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// The manifest of signatures at the tag of a digest, as cosign pushes it.
    fn signatures(&mut self, of: &Digest, signatures: &[(Vec<u8>, Vec<u8>)]) {
        let mut layers = Vec::new();
        for (payload, signature) in signatures {
            let mut layer = self.blob("application/vnd.dev.cosign.simplesigning.v1+json", payload);
            layer["annotations"] =
                json!({"dev.cosignproject.cosign/signature": STANDARD.encode(signature)});
            layers.push(layer);
        }
        let config = self.blob("application/vnd.oci.image.config.v1+json", b"{}");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
        });
        let path = format!("/manifests/sha256-{}.sig", of.to_hex());
        self.paths
            .insert(path, Answer::ok(OCI_MANIFEST, manifest.to_string()));
    }

    /// A bundle that refers to a digest, in the list of which `path` is asked for.
    fn bundle(&mut self, path: &str, bundle: &Value) {
        let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let layer = self.blob(kind, bundle.to_string().as_bytes());
        let config = self.blob("application/vnd.oci.empty.v1+json", b"{}");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
            "config": config, "layers": [layer],
        });
        let mut entry = self.blob(OCI_MANIFEST, manifest.to_string().as_bytes());
        entry["artifactType"] = json!(kind);
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        self.paths
            .insert(path.to_owned(), Answer::ok(OCI_INDEX, index.to_string()));
    }

    fn serve(self, image: TestImage) -> Faulty {
        Faulty::new(image, move |request, _| {
            let path = request.path.strip_prefix("/v2/debian")?;
            let attached = path.starts_with("/referrers/") || path.contains("/manifests/sha256-");
            match self.paths.get(path) {
                Some(answer) => Some(answer.clone()),
                None => attached.then(|| Answer::status(404)),
            }
        })
    }
}

fn payload(reference: &str, digest: &Digest) -> Vec<u8> {
    let value = json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    serde_json::to_vec(&value).unwrap()
}

/// A registry whose image has one signature by `key`, of this payload.
fn signed(image: &TestImage, key: &Key, payload: Vec<u8>) -> Faulty {
    let mut attached = Attached::default();
    let signature = key.sign(&payload);
    attached.signatures(&image.digest(), &[(payload, signature)]);
    attached.serve(image.clone())
}

/// As cosign signs: for the repository, whose name here has a port of its own, so
/// that the policy says which name is wanted.
fn by_cosign(key: &Key) -> Value {
    by_the_key_in(Path::new(&key.public()))
}

fn by_the_key_in(public: &Path) -> Value {
    json!({
        "type": "sigstoreSigned",
        "keyPath": public,
        "signedIdentity": {"type": "exactRepository", "dockerRepository": "signed.example/debian"},
    })
}

/// The signature of an image as a registry serves it, for other tests.
pub(crate) struct Signed {
    key: KeyPair,
    attached: Attached,
    bytes: Vec<u8>,
    /// The blob that is signed.
    pub(crate) payload: Digest,
}

impl Signed {
    pub(crate) fn new(image: &TestImage) -> Self {
        Self::by(&Key::new("P-256"), image)
    }

    /// That of another image, by the same key.
    pub(crate) fn beside(&self, image: &TestImage) -> Self {
        Self::by(&Key::copied(&self.key), image)
    }

    fn by(key: &Key, image: &TestImage) -> Self {
        let payload = payload("signed.example/debian", &image.digest());
        let mut attached = Attached::default();
        let signature = key.sign(&payload);
        let digest = Digest::sha256(&payload);
        attached.signatures(&image.digest(), &[(payload.clone(), signature)]);
        Self {
            bytes: payload,
            key: key.pair(),
            attached,
            payload: digest,
        }
    }

    /// The image with the blob that is signed beside its own.
    pub(crate) fn served(&self, image: &TestImage) -> TestImage {
        let mut image = image.clone();
        image.blobs.insert(self.payload, self.bytes.clone());
        image
    }

    /// What a registry answers, if this is about signatures.
    pub(crate) fn answer(&self, path: &str) -> Option<Answer> {
        let path = path.strip_prefix("/v2/debian")?;
        let is_about = path.starts_with("/referrers/") || path.contains("/manifests/sha256-");
        let answer = || self.attached.paths.get(path).cloned();
        is_about.then(|| answer().unwrap_or_else(|| Answer::status(404)))
    }

    /// A policy in this directory that wants that signature.
    pub(crate) fn policy(&self, dir: &Path) -> Arc<Policy> {
        let public = dir.join("public.pem");
        put(&public, &self.key.public);
        demanding(dir, &by_the_key_in(&public)).policy.unwrap()
    }
}

#[test]
fn signatures_by_every_kind_of_key_are_accepted_and_those_by_others_not() {
    let image = three_layers("1");
    let stranger = Key::new("P-256");
    for kind in ["P-256", "P-384", "ED25519", "RSA"] {
        let key = Key::new(kind);
        let server = signed(
            &image,
            &key,
            payload("signed.example/debian", &image.digest()),
        );
        let temp = tempfile::tempdir().unwrap();
        let name = server.image("debian:stable");
        LocalStore::new()
            .pull_with(&name, &demanding(temp.path(), &by_cosign(&key)))
            .unwrap();
        let local = LocalStore::new();
        let error = local.pull_with(&name, &demanding(temp.path(), &by_cosign(&stranger)));
        let error = show(&error.unwrap_err());
        assert!(
            error.contains("not by a key of the policy"),
            "{kind}: {error}"
        );
        local.assert_lacks(&image.digest());
    }
}

#[test]
fn several_keys_in_files_or_in_the_policy_are_tried() {
    let image = three_layers("1");
    let (key, other) = (Key::new("P-256"), Key::new("ED25519"));
    let server = signed(
        &image,
        &key,
        payload("signed.example/debian", &image.digest()),
    );
    let data = |key: &Key| STANDARD.encode(std::fs::read(key.public()).unwrap());
    for (field, keys) in [
        ("keyPaths", json!([other.public(), key.public()])),
        ("keyDatas", json!([data(&other), data(&key)])),
        ("keyData", json!(data(&key))),
    ] {
        let mut requirement = by_cosign(&key);
        requirement.as_object_mut().unwrap().remove("keyPath");
        requirement[field] = keys;
        let temp = tempfile::tempdir().unwrap();
        LocalStore::new()
            .pull_with(
                &server.image("debian:stable"),
                &demanding(temp.path(), &requirement),
            )
            .unwrap();
    }
}

#[test]
fn a_signature_for_other_content_another_name_or_with_a_bit_changed_is_refused() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let right = payload("signed.example/debian", &image.digest());
    let other_content = payload("signed.example/debian", &Digest::sha256(b"other"));
    let other_name = payload("signed.example/other", &image.digest());
    let mut flipped = key.sign(&right);
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for (payload, signature, expected) in [
        (
            &other_content,
            key.sign(&other_content),
            "it is for the manifest",
        ),
        (
            &other_name,
            key.sign(&other_name),
            "it is for signed.example/other",
        ),
        (&right, flipped, "not by a key"),
        (&right, key.sign(&other_name), "not by a key"),
        (&right, Vec::new(), "not by a key"),
    ] {
        let mut attached = Attached::default();
        attached.signatures(&image.digest(), &[(payload.clone(), signature)]);
        let server = attached.serve(image.clone());
        let temp = tempfile::tempdir().unwrap();
        let local = LocalStore::new();
        let options = demanding(temp.path(), &by_cosign(&key));
        let error = show(
            &local
                .pull_with(&server.image("debian:stable"), &options)
                .unwrap_err(),
        );
        assert!(error.contains(expected), "{error}");
        local.assert_lacks(&image.digest());
        let fetched = |digest: &Digest| {
            let requests = server.requests();
            requests
                .iter()
                .any(|request| request.path.ends_with(&digest.to_string()))
        };
        assert!(!image.layers.iter().any(fetched), "no layer is asked for");
    }
}

#[test]
fn a_good_signature_among_bad_ones_counts_and_too_many_are_refused() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let good = payload("signed.example/debian", &image.digest());
    let bad = |number: usize| (format!("{{\"bad\":{number}}}").into_bytes(), vec![1, 2, 3]);
    for (count, accepted) in [(10, true), (64, false)] {
        let mut signatures: Vec<_> = (0..count).map(bad).collect();
        signatures.push((good.clone(), key.sign(&good)));
        let mut attached = Attached::default();
        attached.signatures(&image.digest(), &signatures);
        let server = attached.serve(image.clone());
        let temp = tempfile::tempdir().unwrap();
        let options = demanding(temp.path(), &by_cosign(&key));
        let result = LocalStore::new().pull_with(&server.image("debian:stable"), &options);
        assert_eq!(result.is_ok(), accepted, "{count}");
    }
}

#[test]
fn an_image_with_thousands_of_signatures_is_refused_after_few_requests() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let mut attached = Attached::default();
    let layer = attached.blob("application/vnd.dev.cosign.simplesigning.v1+json", b"{}");
    let mut layer = layer.clone();
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "AAAA"});
    let config = attached.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config,
        "layers": vec![layer; 5000],
    });
    let path = format!("/manifests/sha256-{}.sig", image.digest().to_hex());
    let answer = Answer::ok(OCI_MANIFEST, manifest.to_string());
    attached.paths.insert(path, answer);
    let server = attached.serve(image);
    let temp = tempfile::tempdir().unwrap();
    let options = demanding(temp.path(), &by_cosign(&key));
    let error = LocalStore::new().pull_with(&server.image("debian:stable"), &options);
    let error = show(&error.unwrap_err());
    assert!(error.contains("more than 64 signatures"), "{error}");
    assert!(server.requests().len() < 100);
}

#[test]
fn a_list_of_signatures_without_end_is_not_read() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let mut attached = Attached::default();
    let path = format!("/manifests/sha256-{}.sig", image.digest().to_hex());
    let answer = Answer::ok(OCI_MANIFEST, vec![b' '; 5 << 20]);
    attached.paths.insert(path, answer);
    let server = attached.serve(image);
    let temp = tempfile::tempdir().unwrap();
    let options = demanding(temp.path(), &by_cosign(&key));
    let error = LocalStore::new().pull_with(&server.image("debian:stable"), &options);
    let error = show(&error.unwrap_err());
    assert!(error.contains("4194304"), "{error}");
}

#[test]
fn a_copy_obeys_the_policy_too() {
    let image = three_layers("1");
    let (key, stranger) = (Key::new("P-256"), Key::new("P-256"));
    let claim = payload("signed.example/debian", &image.digest());
    let server = signed(&image, &key, claim);
    for (key, accepted) in [(&key, true), (&stranger, false)] {
        let temp = tempfile::tempdir().unwrap();
        let options = CopyOptions {
            policy: demanding(temp.path(), &by_cosign(key)).policy,
            ..copy_options()
        };
        let to = temp.path().join("layout");
        let to_text = format!("oci:{}:x", to.display());
        let from = server.image("debian:stable");
        let result = copy_with(&from, &to_text, &options);
        assert_eq!(result.is_ok(), accepted, "{result:?}");
        assert_eq!(to.join("index.json").exists(), accepted);
    }
}

#[test]
fn a_huge_signature_is_not_read() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let mut attached = Attached::default();
    attached.signatures(&image.digest(), &[(vec![b' '; 2 << 20], vec![1])]);
    let server = attached.serve(image);
    let temp = tempfile::tempdir().unwrap();
    let options = demanding(temp.path(), &by_cosign(&key));
    let error = LocalStore::new().pull_with(&server.image("debian:stable"), &options);
    let error = show(&error.unwrap_err());
    assert!(
        error.contains("a signature is 2097152 bytes long"),
        "{error}"
    );
}

#[test]
fn an_image_without_signature_is_refused_also_when_the_store_has_it() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let server = Attached::default().serve(image.clone());
    let local = LocalStore::new();
    let name = server.image("debian:stable");
    local.pull(&name).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let options = demanding(temp.path(), &by_cosign(&key));
    for name in [name, server.image(&format!("debian@{}", image.digest()))] {
        let error = show(&local.pull_with(&name, &options).unwrap_err());
        assert!(error.contains("there is none"), "{error}");
    }
}

#[test]
fn the_index_or_the_image_that_it_leads_to_may_be_signed() {
    let (image, other) = (three_layers("1"), three_layers("2"));
    let index = TestImage::index(&[&image]);
    let key = Key::new("P-256");
    for (digest, accepted) in [
        (index.digest(), true),
        (image.digest(), true),
        (other.digest(), false),
    ] {
        let payload = payload("signed.example/debian", &digest);
        let mut attached = Attached::default();
        let signature = key.sign(&payload);
        attached.signatures(&digest, &[(payload, signature)]);
        let server = attached.serve(index.clone());
        let temp = tempfile::tempdir().unwrap();
        let options = demanding(temp.path(), &by_cosign(&key));
        let result = LocalStore::new().pull_with(&server.image("debian:stable"), &options);
        assert_eq!(result.is_ok(), accepted);
    }
}

/// A bundle as cosign makes it with a key.
fn bundle(key: &Key, digest: &Digest, predicate: &str) -> Value {
    let kind = "application/vnd.in-toto+json";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.to_hex()}}],
        "predicateType": predicate,
        "predicate": {},
    })
    .to_string();
    let signed = format!(
        "DSSEv1 {} {kind} {} {statement}",
        kind.len(),
        statement.len()
    );
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement),
            "payloadType": kind,
            "signatures": [{"sig": STANDARD.encode(key.sign(signed.as_bytes()))}],
        },
    })
}

#[test]
fn a_bundle_vouches_for_an_image_that_is_named_by_its_digest() {
    const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
    let image = three_layers("1");
    let digest = image.digest();
    let (key, stranger) = (Key::new("P-256"), Key::new("P-256"));
    let listed = format!("/referrers/{digest}");
    let tagged = format!("/manifests/sha256-{}", digest.to_hex());
    let pinned = format!("debian@{digest}");
    let other = Digest::sha256(b"other");
    for (place, bundle, name, accepted) in [
        (&listed, bundle(&key, &digest, SIGNED), &*pinned, true),
        (&tagged, bundle(&key, &digest, SIGNED), &*pinned, true),
        (
            &listed,
            bundle(&key, &digest, SIGNED),
            "debian:stable",
            false,
        ),
        (&listed, bundle(&stranger, &digest, SIGNED), &*pinned, false),
        (&listed, bundle(&key, &other, SIGNED), &*pinned, false),
        (
            &listed,
            bundle(&key, &digest, "https://slsa.dev/provenance/v1"),
            &*pinned,
            false,
        ),
    ] {
        let mut attached = Attached::default();
        attached.bundle(place, &bundle);
        let server = attached.serve(image.clone());
        let temp = tempfile::tempdir().unwrap();
        let options = demanding(temp.path(), &by_cosign(&key));
        let result = LocalStore::new().pull_with(&server.image(name), &options);
        assert_eq!(result.is_ok(), accepted, "{place} {name} {result:?}");
    }
}

#[test]
fn keys_that_hull_cannot_use_are_refused_by_the_name_of_the_file() {
    let image = three_layers("1");
    let large = Key::new("P-521");
    let server = Attached::default().serve(image);
    let temp = tempfile::tempdir().unwrap();
    let error = LocalStore::new()
        .pull_with(
            &server.image("debian"),
            &demanding(temp.path(), &by_cosign(&large)),
        )
        .unwrap_err();
    let error = show(&error);
    assert!(error.contains("public.pem: the key is none of"), "{error}");
    std::fs::remove_file(large.public()).unwrap();
    let error = LocalStore::new()
        .pull_with(
            &server.image("debian"),
            &demanding(temp.path(), &by_cosign(&large)),
        )
        .unwrap_err();
    assert!(show(&error).contains("public.pem: No such file"));
}

#[test]
fn a_rejected_image_is_not_even_asked_for() {
    let server = Attached::default().serve(three_layers("1"));
    let temp = tempfile::tempdir().unwrap();
    let options = demanding(temp.path(), &json!({"type": "reject"}));
    let error = LocalStore::new().pull_with(&server.image("debian"), &options);
    assert!(show(&error.unwrap_err()).contains("the policy rejects it"));
    assert!(server.requests().is_empty());
}

#[test]
fn hull_and_skopeo_agree_about_policies() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    three_layers("1").write_layout(&temp.path().join("layout"), "test");
    let from = format!("oci:{}/layout:test", temp.path().display());
    registry.push(&from, "team/debian:stable", &[]);
    let host = registry.name("");
    let host = host.trim_end_matches('/');
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let reject = json!([{"type": "reject"}]);
    let docker = |scopes: Value| json!({"default": reject, "transports": {"docker": scopes}});
    for (policy, expected) in [
        (json!({"default": accept}), true),
        (json!({"default": reject}), false),
        (json!({"default": accept, "more": 1}), false),
        (json!({"default": []}), false),
        (docker(json!({host: accept})), true),
        (
            docker(json!({host: accept, format!("{host}/team"): reject})),
            false,
        ),
        (
            docker(json!({host: reject, format!("{host}/team/debian"): accept})),
            true,
        ),
        (
            docker(json!({format!("{host}/team/debian:stable"): accept})),
            true,
        ),
        (
            docker(json!({format!("{host}/team/debian:other"): accept})),
            false,
        ),
        (docker(json!({format!("{host}/tea"): accept})), false),
        (docker(json!({"*.0.0.1": accept})), true),
        (docker(json!({"": accept})), true),
    ] {
        let path = temp.path().join("policy.json");
        put(&path, policy.to_string());
        let name = registry.name("team/debian:stable");
        let hull = Policy::read(&path).is_ok_and(|policy| {
            let policy = Some(Arc::new(policy));
            let options = PullOptions {
                policy,
                ..options()
            };
            LocalStore::new().pull_with(&name, &options).is_ok()
        });
        let to = tempfile::tempdir().unwrap();
        let skopeo = Program::new("skopeo")
            .package("skopeo")
            .arg("--policy")
            .arg(&path)
            .args(["copy", "--src-tls-verify=false"])
            .arg(format!("docker://{name}"))
            .arg(format!("dir:{}", to.path().display()))
            .run();
        assert_eq!(
            (hull, skopeo.is_ok()),
            (expected, expected),
            "{policy} {skopeo:?}"
        );
    }
}

#[test]
fn attachments_that_registries_d_switches_off_do_not_count() {
    let image = three_layers("1");
    let key = Key::new("P-256");
    let server = signed(
        &image,
        &key,
        payload("signed.example/debian", &image.digest()),
    );
    let temp = tempfile::tempdir().unwrap();
    put(
        &temp.path().join("registries.d/default.yaml"),
        "default-docker:\n  use-sigstore-attachments: false\n",
    );
    let mut options = demanding(temp.path(), &by_cosign(&key));
    options.source.config.system = Some(temp.path().to_owned());
    let error = LocalStore::new().pull_with(&server.image("debian:stable"), &options);
    let error = show(&error.unwrap_err());
    assert!(
        error.contains("use-sigstore-attachments is false"),
        "{error}"
    );
}
