//! Tests of the configuration of registries.

use std::fs::File;

use proptest::prelude::*;

use super::*;
use crate::reference::Reference;

fn image(text: &str) -> RegistryReference {
    match Reference::parse(text).unwrap() {
        Reference::Registry(reference) => reference,
        other => panic!("{other}"),
    }
}

fn conf(text: &str) -> RegistriesConf {
    let mut conf = RegistriesConf::default();
    conf.add(text, Path::new("registries.conf")).unwrap();
    conf
}

fn resolve(conf: &RegistriesConf, text: &str) -> (String, bool) {
    let mut endpoints = conf.endpoints(&image(text)).unwrap();
    let endpoint = endpoints.pop().unwrap();
    assert!(!endpoint.mirror);
    (endpoint.reference.to_string(), endpoint.insecure)
}

#[test]
fn the_longest_prefix_decides() {
    let conf = conf(
        r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "a.example"
        insecure = true
        [[registry]]
        prefix = "a.example/team/x"
        location = "b.example:5000/y"
        [[registry.mirror]]
        location = "mirror.example/x"
    "#,
    );
    let check = |text: &str, to: &str, insecure| {
        assert_eq!(resolve(&conf, text), (to.to_owned(), insecure));
    };
    check("a.example/z:1", "a.example/z:1", true);
    check("a.example/team/x:1", "b.example:5000/y:1", false);
    check("a.example/team/x/q:1", "b.example:5000/y/q:1", false);
    check("a.example/team/xx", "a.example/team/xx", true);
    check("c.example/z", "c.example/z", false);
    check("a.example.evil/z", "a.example.evil/z", false);
}

#[test]
fn a_wildcard_matches_hosts_below_the_domain() {
    let conf = conf(
        r#"
        [[registry]]
        prefix = "*.corp.example"
        insecure = true
    "#,
    );
    assert!(resolve(&conf, "a.corp.example/x").1);
    assert!(resolve(&conf, "a.b.corp.example/x").1);
    assert!(!resolve(&conf, "corp.example/x").1);
    assert!(!resolve(&conf, "acorp.example/x").1);
}

#[test]
fn a_blocked_registry_is_refused_by_the_name_of_the_file() {
    let conf = conf("[[registry]]\nlocation = 'a.example'\nblocked = true\n");
    let error = conf.endpoints(&image("a.example/x")).unwrap_err();
    assert!(error.to_string().contains("blocked by registries.conf"));
}

/// Writes a file that sets whether `a.example` is insecure.
fn put(dir: &Path, name: &str, insecure: bool) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = format!("[[registry]]\nlocation = 'a.example'\ninsecure = {insecure}\n");
    hull_sys::durable::write_new(File::open(dir).unwrap(), name, 0o644, text.as_bytes()).unwrap();
}

#[test]
fn drop_ins_replace_tables_of_the_same_prefix_in_the_order_of_names() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    put(dir, "registries.conf", false);
    put(dir, "registries.conf.d/20-b.conf", true);
    put(dir, "registries.conf.d/10-a.conf", false);
    put(dir, "registries.conf.d/99-no", false);
    let mut dirs = ConfigDirs {
        system: Some(dir.to_owned()),
        ..ConfigDirs::default()
    };
    let conf = RegistriesConf::load(&dirs).unwrap();
    assert!(resolve(&conf, "a.example/x").1);
    dirs.system = Some(dir.join("nowhere"));
    assert_eq!(
        RegistriesConf::load(&dirs).unwrap(),
        RegistriesConf::default()
    );
}

#[test]
fn the_users_file_replaces_the_systems_and_drop_ins_of_all_places_add_up() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    let dir = |name: &str| Some(root.join(name));
    let mut dirs = ConfigDirs {
        vendor: dir("vendor"),
        system: dir("system"),
        user: dir("user"),
        registries_conf: None,
    };
    let is_insecure = |dirs: &ConfigDirs| {
        let conf = RegistriesConf::load(dirs).unwrap();
        resolve(&conf, "a.example/x").1
    };
    // Each of these goes over those before it.
    for (name, insecure) in [
        ("vendor/registries.conf", true),
        ("system/registries.conf", false),
        ("user/registries.conf", true),
        ("vendor/registries.conf.d/99.conf", false),
        ("system/registries.conf.d/50.conf", true),
        ("user/registries.conf.d/10.conf", false),
    ] {
        put(root, name, insecure);
        assert_eq!(is_insecure(&dirs), insecure, "{name}");
    }
    // The one that the environment names stands for registries.conf, drop-ins stay.
    put(root, "named.conf", true);
    dirs.registries_conf = dir("named.conf");
    assert!(!is_insecure(&dirs));
    dirs = ConfigDirs {
        registries_conf: dir("named.conf"),
        ..ConfigDirs::default()
    };
    assert!(is_insecure(&dirs));
    dirs.registries_conf = dir("missing.conf");
    assert!(RegistriesConf::load(&dirs).is_err());
}

fn show(conf: &RegistriesConf, text: &str) -> Vec<String> {
    let endpoints = conf.endpoints(&image(text)).unwrap();
    endpoints
        .iter()
        .map(|endpoint| {
            let insecure = if endpoint.insecure { " insecure" } else { "" };
            format!("{}{insecure}", endpoint.reference)
        })
        .collect()
}

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn mirrors_come_in_their_order_before_the_registry() {
    let conf = conf(
        r#"
        [[registry]]
        prefix = "a.example/team"
        location = "b.example/team"
        [[registry.mirror]]
        location = "one.example/cache"
        insecure = true
        [[registry.mirror]]
        location = "two.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "three.example:5000"
        pull-from-mirror = "tag-only"
    "#,
    );
    assert_eq!(
        show(&conf, "a.example/team/x:1"),
        [
            "one.example/cache/x:1 insecure",
            "three.example:5000/x:1",
            "b.example/team/x:1"
        ]
    );
    assert_eq!(
        show(&conf, &format!("a.example/team/x@{DIGEST}")),
        [
            format!("one.example/cache/x@{DIGEST} insecure"),
            format!("two.example/x@{DIGEST}"),
            format!("b.example/team/x@{DIGEST}")
        ]
    );
    assert_eq!(show(&conf, "a.example/other/x"), ["a.example/other/x"]);
}

#[test]
fn mirrors_for_digests_only_are_not_asked_for_tags() {
    let conf = conf(
        r#"
        [[registry]]
        prefix = "*.corp.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "cache.example"
    "#,
    );
    assert_eq!(show(&conf, "r.corp.example/x:1"), ["r.corp.example/x:1"]);
    assert_eq!(
        show(&conf, &format!("r.corp.example/x@{DIGEST}")),
        [
            format!("cache.example/x@{DIGEST}"),
            format!("r.corp.example/x@{DIGEST}")
        ]
    );
}

#[test]
fn a_prefix_may_be_one_tag_of_one_repository() {
    let conf = conf("[[registry]]\nprefix = 'a.example/x:old'\nlocation = 'museum.example/x:1'\n");
    assert_eq!(show(&conf, "a.example/x:old"), ["museum.example/x:1"]);
    assert_eq!(show(&conf, "a.example/x:older"), ["a.example/x:older"]);
}

#[test]
fn keys_that_hull_does_not_know_change_nothing() {
    let conf = conf("future = 1\n[[registry]]\nlocation = 'a.example'\nfuture = 'x'\n");
    assert_eq!(show(&conf, "a.example/x"), ["a.example/x"]);
}

#[test]
fn what_debian_ships_is_read() {
    let dirs = ConfigDirs {
        system: Some("/etc/containers".into()),
        ..ConfigDirs::default()
    };
    let conf = RegistriesConf::load(&dirs).unwrap();
    let debian = conf.resolve_short_name("debian:13").unwrap();
    assert_eq!(debian.to_string(), "docker.io/library/debian:13");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        drop(RegistriesConf::default().add(&text, Path::new("some.conf")));
    }

    #[test]
    fn any_prefix_and_location_give_valid_names_or_an_error(
        prefix in "[a-z.*/:@]{0,20}", location in "[a-z.*/:@]{0,20}"
    ) {
        let text = format!("[[registry]]\nprefix = '{prefix}'\nlocation = '{location}'\n");
        let mut conf = RegistriesConf::default();
        if conf.add(&text, Path::new("some.conf")).is_ok() {
            drop(conf.endpoints(&image("a.b/c/d:e")));
        }
    }
}

#[test]
fn what_cannot_be_followed_is_refused_with_the_name_of_the_file() {
    for text in [
        "[registries.search]\nregistries = ['docker.io']\n",
        "[[registry]]\ninsecure = true\n",
        "[[registry]]\nprefix = 'a.*.example'\n",
        "[[registry]]\nprefix = 'a.example'\n",
        "[[registry]]\nlocation = 'https://a.example'\n",
        "[[registry]]\nlocation = 5\n",
        "[[registry]]\nlocation = 'a.example'\npull-from-mirror = 'all'\n",
        "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\ninsecure = true\n",
        "[[registry]]\nlocation = 'a.example'\n[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'some'\n",
        "[[registry]]\nlocation = 'a.example'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'b'\npull-from-mirror = 'all'\n",
        "nonsense",
    ] {
        let mut conf = RegistriesConf::default();
        let error = conf.add(text, Path::new("some.conf")).unwrap_err();
        assert!(error.to_string().starts_with("some.conf: "), "{text}");
    }
    let conf = conf("[[registry]]\nprefix = 'a.example'\nlocation = 'B'\n");
    let error = conf.endpoints(&image("a.example/x")).unwrap_err();
    assert!(matches!(error, RegistriesError::Location { .. }));
}
