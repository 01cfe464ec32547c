//! Tests of policies that need no registry.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Policy, String> {
    file::parse(text.as_bytes(), Path::new("policy.json"))
}

fn check(policy: &str, reference: &str) -> Result<(), String> {
    let reference = Reference::parse(reference).unwrap();
    parse(policy)
        .unwrap()
        .check(&reference, &[], &SourceOptions::default())
        .map_err(|error| error.to_string())
}

#[test]
fn the_most_specific_scope_decides() {
    let policy = r#"{
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {
                "": [{"type": "reject"}],
                "a.example": [{"type": "insecureAcceptAnything"}],
                "a.example/evil": [{"type": "reject"}],
                "a.example/evil/good:1": [{"type": "insecureAcceptAnything"}],
                "*.wild.example": [{"type": "insecureAcceptAnything"}]
            },
            "oci": {"": [{"type": "insecureAcceptAnything"}], "/srv/no": [{"type": "reject"}]},
            "docker-archive": {"": [{"type": "insecureAcceptAnything"}]}
        }
    }"#;
    for (reference, accepted) in [
        ("docker://a.example/x:1", true),
        ("docker://a.example/evil:1", false),
        ("docker://a.example/evil/x:1", false),
        ("docker://a.example/evil/good:1", true),
        ("docker://a.example/evil/good:2", false),
        ("docker://a.example:5000/x", false),
        ("docker://r.wild.example:5000/x", true),
        ("docker://wild.example/x", false),
        ("oci:/srv/yes:x", true),
        ("oci:/srv/no:x", false),
        ("oci:/srv/no/more:x", false),
        ("oci-archive:/srv/yes.tar", false),
        ("docker-archive:/srv/x.tar", true),
    ] {
        let result = check(policy, reference);
        assert_eq!(result.is_ok(), accepted, "{reference}: {result:?}");
    }
}

#[test]
fn a_refusal_names_the_image_the_file_and_the_scope() {
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}],
        "transports": {"docker": {"a.example": [{"type": "reject"}]}}}"#;
    let error = check(policy, "docker://a.example/x:1").unwrap_err();
    assert_eq!(
        error,
        "docker://a.example/x:1: not trusted by policy.json (docker \"a.example\"): the policy rejects it"
    );
}

#[test]
fn every_requirement_of_a_scope_counts() {
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}, {"type": "reject"}]}"#;
    assert!(check(policy, "docker://a.example/x:1").is_err());
}

#[test]
fn what_hull_cannot_check_is_refused_by_its_name() {
    for (requirement, what) in [
        (
            r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/x","oidcIssuer":"i","subjectEmail":"e"},"rekorPublicKeyPath":"/r"}"#,
            "fulcio",
        ),
        (
            r#"{"type":"sigstoreSigned","pki":{"caRootsPath":"/x"}}"#,
            "pki",
        ),
        (
            r#"{"type":"sigstoreSigned","keyPath":"/x","rekorPublicKeyPath":"/r"}"#,
            "rekorPublicKey",
        ),
        (
            r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchRepository"}}"#,
            "signedBaseLayer",
        ),
        (
            r#"{"type":"signedBy","keyType":"X509Certificates","keyPath":"/x"}"#,
            "signedBy",
        ),
    ] {
        let policy = format!(r#"{{"default": [{requirement}]}}"#);
        let error = check(&policy, "docker://a.example/x:1").unwrap_err();
        assert!(
            error.contains(what) && error.contains("cannot check"),
            "{error}"
        );
    }
}

#[test]
fn scopes_that_cannot_be_compared_are_not_passed_over() {
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}],
        "transports": {"containers-storage": {
            "": [{"type": "insecureAcceptAnything"}],
            "[overlay@/x]": [{"type": "reject"}]}}}"#;
    let error = check(policy, "containers-storage:a.example/x:1").unwrap_err();
    assert!(
        error.contains("the scopes of containers-storage"),
        "{error}"
    );
}

#[test]
fn an_image_that_is_not_in_a_registry_has_no_signature() {
    let policy = r#"{"default": [{"type":"sigstoreSigned","keyPath":"/x"}]}"#;
    let error = check(policy, "oci:/srv/x").unwrap_err();
    assert!(error.contains("only an image in a registry"), "{error}");
}

#[test]
fn a_policy_that_is_half_understood_is_none() {
    for text in [
        "{}",
        r#"{"default": []}"#,
        r#"{"default": [{"type": "reject"}], "more": 1}"#,
        r#"{"default": [{"type": "reject", "more": 1}]}"#,
        r#"{"default": [{"type": "reject", "type": "reject"}]}"#,
        r#"{"default": [{"type": "unknown"}]}"#,
        r#"{"default": [{}]}"#,
        r#"{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}"#,
        r#"{"default": [{"type": "reject"}], "transports": {"docker": {"a": []}}}"#,
        r#"{"default": [{"type": "reject"}], "transports": {"docker": {
            "a": [{"type": "reject"}], "a": [{"type": "insecureAcceptAnything"}]}}}"#,
        r#"{"default": [{"type": "reject"}], "transports": {
            "docker": {"a": [{"type": "reject"}]}, "docker": {}}}"#,
        r#"{"default": [{"type": "sigstoreSigned"}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPaths": []}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/x", "keyPaths": ["/y"]}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/x", "fulcio": {}}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyData": "%"}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/x", "keypath": "/x"}]}"#,
        r#"{"default": [{"type": "signedBy", "keyType": "X", "keyPath": "/x"}]}"#,
        r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys"}]}"#,
        r#"{"default": [{"type": "reject"}]} more"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_policy_whose_default_accepts_anything_is_known_for_it() {
    assert!(
        parse(r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)
            .unwrap()
            .accepts_anything()
    );
    assert!(
        !parse(r#"{"default": [{"type": "reject"}]}"#)
            .unwrap()
            .accepts_anything()
    );
}

#[test]
fn the_users_policy_goes_before_the_machines() {
    let temp = tempfile::tempdir().unwrap();
    let mut options = SourceOptions::default();
    assert_eq!(Policy::load(&options).unwrap(), None);
    for (name, kind) in [("system", "reject"), ("user", "insecureAcceptAnything")] {
        let dir = temp.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let text = format!(r#"{{"default": [{{"type": "{kind}"}}]}}"#);
        let mut file = std::fs::File::create(dir.join("policy.json")).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }
    options.config.system = Some(temp.path().join("system"));
    assert!(!Policy::load(&options).unwrap().unwrap().accepts_anything());
    options.config.user = Some(temp.path().join("user"));
    assert!(Policy::load(&options).unwrap().unwrap().accepts_anything());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[{}\\[\\]\":,a-zA-Z ]{0,200}") {
        drop(parse(&text));
    }

    #[test]
    fn a_policy_with_one_byte_changed_never_panics(place: prop::sample::Index, byte: u8) {
        let mut bytes = br#"{"default":[{"type":"sigstoreSigned","keyData":"YQ==","signedIdentity":{"type":"matchExact"}}]}"#.to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        drop(file::parse(&bytes, Path::new("policy.json")));
    }
}
