//! The document against what its readers expect of it.

use serde_json::{Map, Value};

use super::{convert, fixtures, host};
use crate::golden;
use crate::render::{self, Style};
use crate::yaml;

fn document(seen: &super::Observation) -> Value {
    serde_json::to_value(host(seen)).unwrap()
}

#[test]
fn status_looks_as_it_did() {
    for (name, seen) in fixtures::all() {
        let host = host(&seen);
        let text = render::status::render(&host, false, Style::default());
        golden::check(&format!("status-{name}.txt"), &text);
    }
}

#[test]
fn verbose_and_coloured_status_look_as_they_did() {
    let all = fixtures::all();
    let host = host(&all[1].1);
    let text = render::status::render(&host, true, Style::new(true));
    golden::check("status-verbose-coloured.txt", &text);
}

#[test]
fn json_and_yaml_look_as_they_did() {
    for (name, seen) in fixtures::all() {
        let document = document(&seen);
        let json = serde_json::to_string_pretty(&document).unwrap();
        golden::check(&format!("status-{name}.json"), &format!("{json}\n"));
        golden::check(&format!("status-{name}.yaml"), &yaml::to_string(&document));
    }
}

/// The types of bootc's `host-v1.schema.json`, fields with their types: `!`
/// must be there, `?` may be null, `[]` is a list.
const SCHEMA: &[(&str, &str)] = &[
    (
        "Host",
        "apiVersion:string! kind:string! metadata:ObjectMeta spec:HostSpec status:HostStatus",
    ),
    ("ObjectMeta", "name:string?"),
    (
        "HostSpec",
        "image:ImageReference? bootOrder:default|rollback",
    ),
    (
        "HostStatus",
        "staged:BootEntry? booted:BootEntry? rollback:BootEntry? otherDeployments:BootEntry[] \
         rollbackQueued:bool type:bootcHost? usrOverlay:null readOnly:bool hull:any",
    ),
    (
        "BootEntry",
        "image:ImageStatus? cachedUpdate:ImageStatus? incompatible:bool! pinned:bool! \
         softRebootCapable:bool downloadOnly:bool store:ostreeContainer? ostree:null \
         composefs:BootEntryComposefs? hull:any",
    ),
    (
        "BootEntryComposefs",
        "verity:string! bootType:Bls|Uki! bootloader:grub|grub-cc|systemd|none! \
         bootDigest:string? missingVerityAllowed:bool!",
    ),
    (
        "ImageStatus",
        "image:ImageReference! version:string? timestamp:date? imageDigest:string! \
         architecture:string!",
    ),
    (
        "ImageReference",
        "image:string! transport:string! signature:containerPolicy?",
    ),
];

fn check_type(value: &Value, expected: &str, path: &str) {
    let is = match expected.trim_end_matches(['!', '?']) {
        _ if expected.ends_with('?') && value.is_null() => true,
        "any" => true,
        "null" => value.is_null(),
        "string" => value.is_string(),
        "bool" => value.is_boolean(),
        "date" => value.as_str().is_some_and(|text| text.contains('T')),
        list if list.ends_with("[]") => {
            let items = value
                .as_array()
                .unwrap_or_else(|| panic!("{path} is no list"));
            for item in items {
                check_type(item, &list[..list.len() - 2], path);
            }
            true
        }
        name => match SCHEMA.iter().find(|(found, _)| *found == name) {
            Some((_, fields)) => {
                let object = value
                    .as_object()
                    .unwrap_or_else(|| panic!("{path} is no object"));
                check_object(object, fields, path);
                true
            }
            None => value
                .as_str()
                .is_some_and(|text| name.split('|').any(|word| word == text)),
        },
    };
    assert!(is, "{path}: {value} is no {expected}");
}

fn check_object(object: &Map<String, Value>, fields: &str, path: &str) {
    let fields: Vec<_> = fields
        .split_whitespace()
        .map(|f| f.split_once(':').unwrap())
        .collect();
    for (name, value) in object {
        let Some((_, expected)) = fields.iter().find(|(found, _)| found == name) else {
            panic!("{path}.{name} is not in the schema");
        };
        check_type(value, expected, &format!("{path}.{name}"));
    }
    for (name, expected) in fields {
        let required = expected.ends_with('!');
        assert!(
            !required || object.contains_key(name),
            "{path}.{name} is missing"
        );
    }
}

#[test]
fn every_document_fits_the_schema_of_bootc() {
    for (name, seen) in fixtures::all() {
        check_type(&document(&seen), "Host", name);
    }
}

#[test]
fn an_enforced_policy_is_in_the_document_of_bootc_and_shown_to_people() {
    let mut seen = fixtures::all().remove(0).1;
    let policy = |seen: &super::Observation| {
        let text = render::status::render(&host(seen), false, Style::default());
        let document = document(seen);
        check_type(&document, "Host", "policy");
        (
            document["spec"]["image"].get("signature").cloned(),
            text.contains("Signature: containerPolicy"),
        )
    };
    assert_eq!(policy(&seen), (None, false));
    for deployment in &mut seen.state.deployments {
        deployment.record.image.enforce_policy = true;
    }
    assert_eq!(policy(&seen), (Some("containerPolicy".into()), true));
}

#[test]
fn booted_alone_is_what_the_option_leaves() {
    let all = fixtures::all();
    let (_, pinned) = all.iter().find(|(name, _)| *name == "pinned").unwrap();
    let mut host = host(pinned);
    assert!(!host.status.other_deployments.is_empty());
    host.status.only_booted();
    let document = serde_json::to_value(&host).unwrap();
    assert!(document["status"]["booted"].is_object());
    assert!(document["status"]["rollback"].is_null());
    assert_eq!(document["status"].get("otherDeployments"), None);
}

#[test]
fn references_have_their_transport_apart() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let both = format!("docker://registry.example/os:stable@{digest}");
    let canonical = format!("registry.example/os@{digest}");
    for (text, transport, image) in [
        (
            "docker://registry.example/os:stable",
            "registry",
            "registry.example/os:stable",
        ),
        (&both, "registry", &canonical),
        ("oci:/srv/image:stable", "oci", "/srv/image:stable"),
        (
            "oci-archive:/srv/image.tar",
            "oci-archive",
            "/srv/image.tar",
        ),
        (
            "10.0.2.2:5000/os:stable",
            "registry",
            "10.0.2.2:5000/os:stable",
        ),
    ] {
        let reference = convert::image_reference(text);
        assert_eq!(
            (&*reference.transport, &*reference.image),
            (transport, image)
        );
    }
}
