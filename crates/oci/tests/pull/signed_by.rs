//! `signedBy`: signatures by GnuPG and by skopeo, in a lookaside directory or on a web
//! server; skopeo as the oracle of what a policy accepts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hull_oci::{Digest, Policy, PullOptions};
use hull_sys::run::Program;
use serde_json::{Value, json};

use crate::docker_registry::DockerRegistry;
use crate::faulty::{Answer, Faulty};
use crate::gpg::Gpg;
use crate::image::{TestImage, three_layers};
use crate::local_store::{LocalStore, options, show};
use crate::signatures::put;

/// Where the image says that it is.
const NAME: &str = "signed.example/debian";

fn payload(reference: &str, digest: &Digest) -> Vec<u8> {
    let value = json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "atomic container signature",
        },
        "optional": {"creator": "somebody", "timestamp": 1_700_000_000},
    });
    serde_json::to_vec(&value).unwrap()
}

fn by_gpg(keys: &Path) -> Value {
    json!({
        "type": "signedBy",
        "keyType": "GPGKeys",
        "keyPath": keys,
        "signedIdentity": {"type": "exactRepository", "dockerRepository": NAME},
    })
}

/// An image in a registry whose signatures are files in a directory.
struct Signed {
    temp: tempfile::TempDir,
    image: TestImage,
    server: Faulty,
}

impl Signed {
    fn new(signatures: &[Vec<u8>]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let image = three_layers("1");
        let signed = Self {
            server: Faulty::new(image.clone(), |_, _| None),
            image,
            temp,
        };
        let dir = format!("file://{}", signed.path("signatures").display());
        signed.look_in(&dir);
        for (number, signature) in signatures.iter().enumerate() {
            signed.add(number + 1, signature);
        }
        signed
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.temp.path().join(inner)
    }

    fn look_in(&self, place: &str) {
        let text = format!("default-docker:\n  lookaside: {place}\n");
        put(&self.path("registries.d/default.yaml"), text);
    }

    fn add(&self, number: usize, signature: &[u8]) {
        let digest = self.image.digest().to_hex();
        let name = format!("signatures/debian@sha256={digest}/signature-{number}");
        put(&self.path(&name), signature);
    }

    fn pull(&self, requirement: &Value) -> Result<(), String> {
        let path = self.path("policy.json");
        put(&path, json!({"default": [requirement]}).to_string());
        let mut options = PullOptions {
            policy: Some(Arc::new(Policy::read(&path).unwrap())),
            ..options()
        };
        options.source.config.system = Some(self.temp.path().to_owned());
        let local = LocalStore::new();
        let result = local.pull_with(&self.server.image("debian:stable"), &options);
        if result.is_err() {
            local.assert_lacks(&self.image.digest());
        }
        result.map(drop).map_err(|error| show(&error))
    }
}

fn right() -> Vec<u8> {
    payload(NAME, &three_layers("1").digest())
}

#[test]
fn signatures_by_every_kind_of_openpgp_key_are_accepted_and_those_by_others_not() {
    let stranger = Gpg::with_key("ed25519");
    let strangers = stranger.export(&[]);
    for algorithm in ["ed25519", "rsa2048", "nistp256", "nistp384"] {
        let gpg = Gpg::with_key(algorithm);
        let signed = Signed::new(&[gpg.sign(&right(), &[])]);
        signed.pull(&by_gpg(&gpg.export(&[]))).unwrap();
        let error = signed.pull(&by_gpg(&strangers)).unwrap_err();
        assert!(error.contains("not by a key of the policy"), "{error}");
    }
}

#[test]
fn keys_come_armoured_or_not_alone_or_with_others_in_files_or_in_the_policy() {
    use base64::Engine as _;
    let (gpg, other) = (Gpg::with_key("ed25519"), Gpg::with_key("nistp256"));
    let signed = Signed::new(&[gpg.sign(&right(), &[])]);
    let (binary, others) = (gpg.export(&[]), other.export(&["--armor"]));
    signed.pull(&by_gpg(&binary)).unwrap();
    let plain = std::fs::read(&binary).unwrap();
    let armoured = std::fs::read(gpg.export(&["--armor"])).unwrap();
    // As vendors ship them: text, one block, text, another block.
    let mut both = b"pub  4096R/X\n\n".to_vec();
    both.extend(std::fs::read(&others).unwrap());
    both.extend(b"\npub  255E/Y\n\n");
    both.extend(&armoured);
    put(&signed.path("both"), &both);
    signed.pull(&by_gpg(&signed.path("both"))).unwrap();
    put(&signed.path("plain"), &plain);
    let base64 = base64::engine::general_purpose::STANDARD.encode(&plain);
    for (field, keys) in [
        ("keyPaths", json!([others, signed.path("plain")])),
        ("keyData", json!(base64)),
    ] {
        let mut requirement = by_gpg(&binary);
        requirement.as_object_mut().unwrap().remove("keyPath");
        requirement[field] = keys;
        signed.pull(&requirement).unwrap();
    }
    for nonsense in [&b"nothing"[..], b"\x99\x01", b""] {
        put(&signed.path("nonsense"), nonsense);
        let error = signed.pull(&by_gpg(&signed.path("nonsense"))).unwrap_err();
        assert!(error.contains("nonsense: "), "{error}");
    }
}

#[test]
fn a_signing_subkey_signs_for_its_certificate() {
    let gpg = Gpg::new();
    gpg.add_key("signer", &["ed25519", "cert", "never"], &[]);
    gpg.add_subkey(&["ed25519", "sign", "never"], &[]);
    let signed = Signed::new(&[gpg.sign(&right(), &[])]);
    signed.pull(&by_gpg(&gpg.export(&[]))).unwrap();
}

#[test]
fn a_key_that_has_expired_or_was_revoked_signs_no_more() {
    // gpg's clock goes on from there: what builds on something happens on a later day.
    let [first, second, third] = ["20200101T000000", "20200102T000000", "20200103T000000"]
        .map(|time| ["--faked-system-time", time]);
    let expired = Gpg::new();
    expired.add_key("signer", &["ed25519", "sign", "1y"], &first);
    let revoked = Gpg::with_key("ed25519");
    let subkey = Gpg::new();
    subkey.add_key("signer", &["ed25519", "cert", "never"], &first);
    subkey.add_subkey(&["ed25519", "sign", "1y"], &second);
    for (gpg, options, reason) in [
        (&expired, &third[..], "its key has expired"),
        (&subkey, &third, "its key has expired"),
        (&revoked, &[], "its key is revoked"),
    ] {
        let signed = Signed::new(&[gpg.sign(&right(), options)]);
        if reason.contains("revoked") {
            signed.pull(&by_gpg(&gpg.export(&[]))).unwrap();
            gpg.revoke();
        }
        let error = signed.pull(&by_gpg(&gpg.export(&[]))).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_signature_that_has_expired_or_has_a_weak_hash_or_another_form_is_refused() {
    let gpg = Gpg::with_key("rsa2048");
    gpg.add_key("second", &["ed25519", "sign", "never"], &[]);
    let expired = ["--default-sig-expire", "seconds=1"];
    let signer = ["--local-user", "signer"];
    let text = right();
    let sign = |options: &[&str]| gpg.sign(&text, &[&signer[..], options].concat());
    let detached = {
        let program = gpg.program().args(signer).arg("--detach-sign");
        program.input(&*text).output().unwrap()
    };
    let twice = |compression| {
        let one = sign(&["--compress-algo", compression]);
        [one.clone(), one].concat()
    };
    let short = sign(&expired);
    std::thread::sleep(std::time::Duration::from_secs(2));
    for (signature, reason) in [
        (short, "it has expired"),
        (
            sign(&["--digest-algo", "SHA1"]),
            "a hash that can be forged",
        ),
        (sign(&["--textmode"]), "no signature over a document"),
        (sign(&["--armor"]), "no OpenPGP message"),
        (sign(&["--local-user", "second"]), "no OpenPGP message"),
        (detached, "no OpenPGP message"),
        (twice("none"), "no OpenPGP message"),
        (twice("zip"), "more behind it"),
        (twice("zlib"), "more behind it"),
        (text.clone(), "no OpenPGP message"),
        (b"\0sigstore-json\n{}".to_vec(), "there is none"),
        (Vec::new(), "no OpenPGP message"),
    ] {
        let signed = Signed::new(&[signature]);
        let error = signed.pull(&by_gpg(&gpg.export(&[]))).expect_err(reason);
        assert!(error.contains(reason), "{reason}: {error}");
    }
    for compression in ["none", "zip", "zlib"] {
        let signed = Signed::new(&[sign(&["--compress-algo", compression])]);
        signed.pull(&by_gpg(&gpg.export(&[]))).unwrap();
    }
}

#[test]
fn a_signature_for_other_content_or_another_name_or_with_a_bit_changed_is_refused() {
    let gpg = Gpg::with_key("ed25519");
    let keys = gpg.export(&[]);
    let digest = three_layers("1").digest();
    let other = payload(NAME, &Digest::sha256(b"other"));
    let cosign = String::from_utf8(right())
        .unwrap()
        .replace("atomic", "cosign");
    let mut flipped = gpg.sign(&right(), &["--compress-algo", "none"]);
    let place = flipped.windows(8).position(|part| part == b"critical");
    flipped[place.unwrap()] ^= 1;
    for (signature, reason) in [
        (gpg.sign(&other, &[]), "it is for the manifest"),
        (
            gpg.sign(&payload("signed.example/other", &digest), &[]),
            "it is for signed.example/other",
        ),
        (gpg.sign(cosign.as_bytes(), &[]), "it signs a"),
        (flipped, "not by a key of the policy"),
    ] {
        let error = Signed::new(&[signature]).pull(&by_gpg(&keys)).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_signature_that_inflates_without_end_or_is_huge_is_not_read() {
    let gpg = Gpg::with_key("ed25519");
    let keys = gpg.export(&[]);
    let zeros = vec![b' '; 64 << 20];
    let bomb = gpg.sign(&zeros, &["--compress-algo", "zlib"]);
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let error = Signed::new(&[bomb]).pull(&by_gpg(&keys)).unwrap_err();
    assert!(error.contains("inflates to more than"), "{error}");
    let huge = gpg.sign(&zeros[..2 << 20], &["--compress-algo", "none"]);
    let error = Signed::new(&[huge]).pull(&by_gpg(&keys)).unwrap_err();
    assert!(error.contains("it is longer than 1048576 bytes"), "{error}");
}

#[test]
fn thousands_of_signatures_are_refused_and_a_good_one_among_bad_ones_counts() {
    let gpg = Gpg::with_key("ed25519");
    let keys = gpg.export(&[]);
    let bad = b"bad".to_vec();
    let mut signatures = vec![bad.clone(); 9];
    signatures.push(gpg.sign(&right(), &[]));
    Signed::new(&signatures).pull(&by_gpg(&keys)).unwrap();
    let bomb = Signed::new(&vec![bad; 2000]);
    let error = bomb.pull(&by_gpg(&keys)).unwrap_err();
    assert!(error.contains("more than 64 signatures"), "{error}");
}

#[test]
fn signatures_come_from_a_web_server_without_credentials() {
    let gpg = Gpg::with_key("ed25519");
    let keys = gpg.export(&[]);
    let signature = gpg.sign(&right(), &[]);
    let web = |status: Option<u16>| {
        let signature = signature.clone();
        Faulty::new(three_layers("2"), move |request, _| {
            Some(match status {
                Some(status) => Answer::status(status),
                None if request.path.ends_with("/signature-1") => {
                    Answer::ok("application/octet-stream", &*signature)
                }
                None => Answer::status(404),
            })
        })
    };
    let signed = Signed::new(&[]);
    for (status, accepted) in [(None, true), (Some(404), false), (Some(403), false)] {
        let server = web(status);
        signed.look_in(&format!("http://{}/sig/", server.host()));
        let result = signed.pull(&by_gpg(&keys));
        assert_eq!(result.is_ok(), accepted, "{status:?} {result:?}");
        if status == Some(403) {
            let error = result.unwrap_err();
            assert!(error.contains("/sig/debian@sha256="), "{error}");
        }
        for request in server.requests() {
            assert!(request.path.starts_with("/sig/debian@sha256="));
            assert_eq!(request.header("authorization"), None);
        }
    }
}

#[test]
fn hull_and_skopeo_agree_about_signatures_that_skopeo_made() {
    let registry = DockerRegistry::start();
    let temp = tempfile::tempdir().unwrap();
    let path = |inner: &str| temp.path().join(inner);
    three_layers("1").write_layout(&path("layout"), "test");
    let host = registry.name("").trim_end_matches('/').to_owned();
    let dir = path("signatures").display().to_string();
    let places = format!("docker:\n  {host}:\n    sigstore: file://{dir}\n");
    put(&path("registries.d/own.yaml"), places);
    let (gpg, stranger) = (Gpg::with_key("rsa2048"), Gpg::with_key("rsa2048"));
    let skopeo = |policy: &Path, arguments: &[&str]| {
        Program::new("skopeo")
            .package("skopeo")
            .env("GNUPGHOME", gpg.home())
            .arg("--policy")
            .arg(policy)
            .arg("--registries.d")
            .arg(path("registries.d"))
            .args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false"])
            .args(arguments)
            .run()
    };
    let anything = path("anything.json");
    put(
        &anything,
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    );
    let (team, fingerprint) = (registry.name("team/debian"), gpg.fingerprint());
    let from = format!("oci:{}:test", path("layout").display());
    let signed = format!("docker://{team}:stable");
    let arguments = [
        "--preserve-digests",
        "--sign-by",
        &fingerprint,
        &from,
        &signed,
    ];
    skopeo(&anything, &arguments).unwrap();
    // The same content under other names has the signature beside it, but for another name.
    for name in ["team/debian:other", "team/other:stable"] {
        registry.push(
            &signed,
            name,
            &["--src-tls-verify=false", "--remove-signatures"],
        );
    }
    let sum = three_layers("1").digest().to_string();
    let copied = format!("{dir}/team/other@{}", sum.replace(':', "="));
    std::fs::create_dir_all(&copied).unwrap();
    let one = format!("{dir}/team/debian@{}/signature-1", sum.replace(':', "="));
    std::fs::copy(one, format!("{copied}/signature-1")).unwrap();

    let (own, strangers) = (gpg.export(&[]), stranger.export(&[]));
    let other = registry.name("team/other");
    let identities = [
        json!(null),
        json!({"type": "matchExact"}),
        json!({"type": "matchRepoDigestOrExact"}),
        json!({"type": "matchRepository"}),
        json!({"type": "exactReference", "dockerReference": format!("{team}:stable")}),
        json!({"type": "exactReference", "dockerReference": format!("{team}:other")}),
        json!({"type": "exactRepository", "dockerRepository": team}),
        json!({"type": "exactRepository", "dockerRepository": other}),
        json!({"type": "remapIdentity", "prefix": host, "signedPrefix": "a.example"}),
        json!({"type": "remapIdentity", "prefix": other, "signedPrefix": team}),
        json!({"type": "remapIdentity", "prefix": "b.example", "signedPrefix": "a.example"}),
    ];
    let images = [
        "team/debian:stable".to_owned(),
        format!("team/debian@{sum}"),
        "team/debian:other".to_owned(),
        "team/other:stable".to_owned(),
        format!("team/other@{sum}"),
    ];
    let (mut accepted, mut refused) = (0, 0);
    for keys in [&own, &strangers] {
        // A stranger's key is a stranger's whatever the name.
        let identities = if keys == &own {
            &identities[..]
        } else {
            &identities[..2]
        };
        for identity in identities {
            let mut requirement = by_gpg(keys);
            requirement["signedIdentity"] = identity.clone();
            if identity.is_null() {
                requirement
                    .as_object_mut()
                    .unwrap()
                    .remove("signedIdentity");
            }
            let policy = path("policy.json");
            put(&policy, json!({"default": [requirement]}).to_string());
            let mut options = options();
            options.policy = Some(Arc::new(Policy::read(&policy).unwrap()));
            options.source.config.system = Some(temp.path().to_owned());
            for image in &images {
                let name = registry.name(image);
                let hull = LocalStore::new().pull_with(&name, &options);
                let to = tempfile::tempdir().unwrap();
                let to = format!("dir:{}", to.path().display());
                let theirs = skopeo(&policy, &[&format!("docker://{name}"), &to]);
                assert_eq!(
                    hull.is_ok(),
                    theirs.is_ok(),
                    "{image} {requirement} {hull:?} {theirs:?}"
                );
                *(if hull.is_ok() {
                    &mut accepted
                } else {
                    &mut refused
                }) += 1;
            }
        }
    }
    assert!(accepted > 10 && refused > 10, "{accepted} {refused}");
}
