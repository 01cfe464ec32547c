//! References, as people and other tools write them.

use proptest::prelude::*;

use super::*;

const SHA: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn registry(text: &str) -> RegistryReference {
    match Reference::parse(text).unwrap() {
        Reference::Registry(reference) => reference,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bare_name_is_a_registry_name() {
    let reference = registry("quay.io/fedora/bootc:42");
    assert_eq!(reference.host(), "quay.io");
    assert_eq!(reference.repository(), "fedora/bootc");
    assert_eq!(reference.tag(), Some("42"));
    assert_eq!(reference, registry("docker://quay.io/fedora/bootc:42"));
}

#[test]
fn a_port_is_not_taken_for_a_tag() {
    let reference = registry("localhost:5000/x");
    assert_eq!(
        (reference.host(), reference.tag()),
        ("localhost:5000", None)
    );
    assert_eq!(reference.selector(), "latest");
    assert_eq!(registry("[::1]:5000/x:y").host(), "[::1]:5000");
}

#[test]
fn the_transport_registry_of_rpm_ostree_is_docker() {
    for name in ["quay.io/a/b:1", "localhost:5000/x:tag", "[::1]:5000/x"] {
        let reference = registry(&format!("docker://{name}"));
        let written = format!("registry:{name}");
        assert_eq!(registry(&written), reference);
        assert!(Reference::names_transport(&written), "{written}");
        let by_word = Reference::from_transport("registry", &written).unwrap();
        assert_eq!(by_word, Reference::Registry(reference));
    }
    assert!(Reference::parse("registry:team/image").is_err());
}

#[test]
fn a_host_and_an_image_may_be_called_registry() {
    let reference = registry("registry:5000/x:1");
    assert_eq!(reference.host(), "registry:5000");
    assert_eq!(registry(&reference.to_string()), reference);
    // A short name, of which registries.conf may make something.
    let short = Reference::parse("registry:2").unwrap_err();
    assert!(matches!(short, ReferenceError::ShortName(_)), "{short}");
    for text in ["registry:5000/x:1", "registry:2", "registry", "quay.io/a"] {
        assert!(!Reference::names_transport(text), "{text}");
    }
}

#[test]
fn a_digest_decides_where_a_tag_is_given_too() {
    let reference = registry(&format!("docker://10.0.2.2:5000/debian:stable@{SHA}"));
    assert_eq!(reference.tag(), Some("stable"));
    assert_eq!(reference.selector(), SHA);
}

#[test]
fn official_images_of_docker_hub_get_their_whole_name() {
    assert_eq!(
        Reference::parse("docker.io/debian").unwrap().to_string(),
        "docker://docker.io/library/debian"
    );
}

#[test]
fn short_names_are_refused_with_advice() {
    for text in ["debian", "debian:12", "library/debian", "docker://debian"] {
        let error = Reference::parse(text).unwrap_err();
        assert!(matches!(error, ReferenceError::ShortName(_)), "{text}");
        assert!(error.to_string().contains("docker.io/library/debian"));
    }
}

#[test]
fn layouts_take_a_name_or_a_digest() {
    let Reference::Layout(reference) = Reference::parse("oci:/a/b:quay.io/x/y:1").unwrap() else {
        panic!("a layout is expected");
    };
    assert_eq!(reference.path(), Path::new("/a/b"));
    assert_eq!(reference.name(), Some("quay.io/x/y:1"));
    let Reference::Layout(reference) = Reference::parse(&format!("oci:a@b@{SHA}")).unwrap() else {
        panic!("a layout is expected");
    };
    assert_eq!(reference.path(), Path::new("a@b"));
    assert_eq!(reference.digest().unwrap().to_string(), SHA);
    let archive = Reference::parse("oci-archive:x.tar:stable").unwrap();
    assert_eq!(archive.transport(), "oci-archive");
    assert_eq!(archive.image(), "x.tar:stable");
}

#[test]
fn a_store_of_podman_is_named_as_skopeo_does() {
    let parse = |text: &str| match Reference::parse(text).unwrap() {
        Reference::Storage(reference) => reference,
        other => panic!("{other:?}"),
    };
    let reference = parse(
        "containers-storage:[overlay@/var/x+/run/x:overlay.imagestore=/srv/i,a=b]localhost:5000/os:1",
    );
    let store = reference.store().unwrap();
    assert_eq!(store.driver.as_deref(), Some("overlay"));
    assert_eq!(store.graphroot, "/var/x");
    assert_eq!(store.runroot.as_deref(), Some("/run/x"));
    assert_eq!(
        store.options[0],
        ("overlay.imagestore".into(), "/srv/i".into())
    );
    let name = ImageSelector::Name("localhost:5000/os:1".into());
    assert_eq!(reference.selector(), &name);
    let alone = parse("containers-storage:[/srv]os");
    assert_eq!(alone.store().unwrap().graphroot, "/srv");
    assert_eq!(parse("containers-storage:os").store(), None);
    let id = ImageSelector::Id("0123456789ab".into());
    assert_eq!(parse("containers-storage:@0123456789ab").selector(), &id);
    assert_eq!(parse("containers-storage:os@0123456789ab").selector(), &id);
    let pinned = parse(&format!("containers-storage:@{SHA}"));
    assert_eq!(pinned.selector(), &ImageSelector::AnyName);
    assert_eq!(pinned.digest().unwrap().to_string(), SHA);
}

#[test]
fn what_names_no_image_is_refused() {
    for text in [
        "",
        "docker://",
        "oci:",
        "oci-archive:",
        "oci::tag",
        "quay.io/",
        "quay.io//x",
        "quay.io/x/",
        "quay.io/X",
        "quay.io/a/../b",
        "quay.io/a___b",
        "quay.io/-a",
        "quay.io/a:",
        "quay.io/a:-b",
        "quay.io/a@sha256:00",
        "quay.io/a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "user@quay.io/a",
        "quay.io:0/a",
        "quay.io:99999/a",
        "quay..io/a",
        "[::1/a",
        "[zz]/a.b",
        "https://quay.io/a/b",
        "containers-storage:",
        "containers-storage:[/x",
        "containers-storage:[relative]x",
        "containers-storage:[@/x]x",
        "containers-storage:[/x:option]x",
        "containers-storage:X",
        "containers-storage:x@zz",
        "docker-archive:",
        "quay.io/a b",
        "oci:dir:",
        "oci:dir:a b",
    ] {
        assert!(Reference::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn bootc_transport_words_give_the_same_references() {
    let reference = Reference::from_transport("registry", "quay.io/a/b:1").unwrap();
    assert_eq!(reference, Reference::parse("quay.io/a/b:1").unwrap());
    assert!(Reference::from_transport("dir", "/x").is_err());
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_and_display_round_trips(text in "\\PC{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }
    }

    #[test]
    fn references_round_trip_through_text_and_through_status(
        text in "(docker://)?([a-z]{1,5}\\.[a-z]{2}|localhost)(:[1-9][0-9]{0,3})?(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3})?){1,3}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?|(oci|oci-archive|docker-archive):[a-z@/. ]{1,9}(:[a-z:@/+]{1,9})?|containers-storage:(\\[(overlay@)?/[a-z/]{0,9}(\\+/run)?(:a=b(,c\\.d=/e)?)?\\])?([a-z0-9]{1,5}(:5000)?/)?[a-z]{1,5}(:[a-z0-9]{1,4})?|containers-storage:x?@[0-9a-f]{12}",
        pin: bool,
    ) {
        let mut reference = Reference::parse(&text).unwrap();
        if pin {
            reference = reference.with_digest(SHA.parse().unwrap());
        }
        prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
        let again = Reference::from_transport(reference.transport(), &reference.image());
        prop_assert_eq!(again.unwrap(), reference);
    }
}
