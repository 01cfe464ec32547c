//! What an image says of how it is run, from another image, an OCI configuration, or what `podman inspect` prints.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What `podman inspect` calls `Config`, as far as an OCI configuration has it too
/// (OCI image specification, config.md, "Properties").
const KNOWN: [&str; 12] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];
/// Labels that speak of an ostree commit: what comes out is none.
const OF_OSTREE: [&str; 2] = ["ostree.", "rpmostree."];

/// How an image is run, and what else it says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The object `config` of an OCI configuration, without its labels.
    pub run: Map<String, Value>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Who made the image, in their own words.
    pub author: Option<String>,
    /// When the image was made, in seconds since the epoch.
    pub created: Option<i64>,
}

/// Settings that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is not JSON.
    #[error("the configuration is not JSON")]
    Json(#[from] serde_json::Error),
    /// It is JSON, and nothing that is known.
    #[error(
        "the configuration is neither that of an OCI image nor what podman inspect prints: {0}"
    )]
    Form(&'static str),
    /// A label is no text.
    #[error("the label {0:?} of the configuration is no text")]
    Label(String),
}

impl Settings {
    /// Reads an OCI configuration, or what `podman inspect` or `docker inspect` prints of an image.
    pub fn parse(text: &[u8]) -> Result<Self, SettingsError> {
        let mut value: Value = serde_json::from_slice(text)?;
        if let Value::Array(mut images) = value {
            value = match (images.pop(), images.pop()) {
                (Some(image), None) => image,
                _ => return Err(SettingsError::Form("it has to be about one image")),
            };
        }
        let Value::Object(object) = value else {
            return Err(SettingsError::Form("it is no object"));
        };
        let inspected = object.contains_key("Config") || object.contains_key("Id");
        let (run, created, author) = match inspected {
            true => ("Config", "Created", "Author"),
            false => ("config", "created", "author"),
        };
        let mut run = match object.get(run) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(run)) => run.clone(),
            Some(_) => return Err(SettingsError::Form("its config is no object")),
        };
        if inspected {
            run.retain(|key, value| KNOWN.contains(&key.as_str()) && !value.is_null());
        }
        let labels = texts(run.remove("Labels"))?;
        let created = object.get(created).and_then(Value::as_str);
        let created = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let author = object.get(author).and_then(Value::as_str);
        let author = author.filter(|author| !author.is_empty());
        Ok(Self {
            run,
            labels: without_ostree(labels),
            annotations: without_ostree(texts(object.get("Annotations").cloned())?),
            author: author.map(str::to_owned),
            created: created.map(jiff::Timestamp::as_second),
        })
    }
}

fn texts(value: Option<Value>) -> Result<BTreeMap<String, String>, SettingsError> {
    let Some(Value::Object(map)) = value else {
        return Ok(BTreeMap::new());
    };
    map.into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            _ => Err(SettingsError::Label(key)),
        })
        .collect()
}

fn without_ostree(mut texts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    texts.retain(|key, _| !OF_OSTREE.iter().any(|start| key.starts_with(start)));
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_in_both_forms() {
        let oci = br#"{"created":"2026-01-02T03:04:05Z","architecture":"amd64","os":"linux",
            "author":"A","config":{"Cmd":["/sbin/init"],"X":1,"Labels":{"a":"b","ostree.commit":"x"}},"rootfs":{}}"#;
        let inspected =
            br#"[{"Id":"1","Created":"2026-01-02T03:04:05.5Z","Author":"","Annotations":{"n":"m"},
            "Config":{"Cmd":["/sbin/init"],"Hostname":"h","Env":null,"Labels":{"a":"b"}}}]"#;
        let (oci, inspected) = (
            Settings::parse(oci).unwrap(),
            Settings::parse(inspected).unwrap(),
        );
        assert_eq!(oci.labels, BTreeMap::from([("a".into(), "b".into())]));
        assert_eq!(oci.labels, inspected.labels);
        assert_eq!(oci.created, Some(1_767_323_045));
        assert_eq!(oci.created, inspected.created);
        assert_eq!(oci.author.as_deref(), Some("A"));
        // Podman prints an empty one where there is none.
        assert_eq!(inspected.author, None);
        let keys = |settings: &Settings| settings.run.keys().cloned().collect::<Vec<_>>();
        // Of a configuration all is kept; of what a program printed only what belongs into one.
        assert_eq!(keys(&oci), ["Cmd", "X"]);
        assert_eq!(keys(&inspected), ["Cmd"]);
        assert_eq!(
            inspected.annotations,
            BTreeMap::from([("n".into(), "m".into())])
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for wrong in [
            "",
            "1",
            "[]",
            "[{},{}]",
            r#"{"config":1}"#,
            r#"{"config":{"Labels":{"a":1}}}"#,
        ] {
            assert!(Settings::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
