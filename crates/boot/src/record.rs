//! The record of a deployment, `deployment.json`, and the name of its directory.

use std::fmt;
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::str::FromStr;

use hull_erofs::fsverity::ObjectId;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// The file name of the record in its deployment's directory.
pub const FILE_NAME: &str = "deployment.json";

/// The format that [`Record::to_json`] writes.
pub const FORMAT: u32 = 1;

/// The formats that [`read`] understands; `/usr/lib/hull/setup-root.version`
/// says the same to other versions of hull.
pub const FORMATS: RangeInclusive<u32> = 1..=FORMAT;

/// A record is never larger: what is, is not read.
const MAX_BYTES: u64 = 1 << 20;

/// The name of a deployment's directory below `/state/deploy`:
/// the digest of its image, a dot, and its generation in decimal.
///
/// The generation only grows on a machine, so that a deployment of an image
/// that was deployed before is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentName {
    /// The composefs image.
    pub digest: ObjectId,
    /// Which deployment of this machine it is, counted from 1.
    pub generation: u64,
}

impl fmt::Display for DeploymentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.generation)
    }
}

/// A text that names no deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no deployment: 128 lower-case hexadecimal digits, a dot and a number are expected"
)]
pub struct InvalidDeploymentName(String);

impl FromStr for DeploymentName {
    type Err = InvalidDeploymentName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_name(text).ok_or_else(|| InvalidDeploymentName(text.chars().take(200).collect()))
    }
}

fn parse_name(text: &str) -> Option<DeploymentName> {
    let (digest, generation) = text.split_once('.')?;
    let decimal = generation.bytes().all(|b| b.is_ascii_digit());
    if !decimal || (generation.starts_with('0') && generation != "0") {
        return None;
    }
    Some(DeploymentName {
        digest: digest.parse().ok()?,
        generation: generation.parse().ok()?,
    })
}

impl Serialize for DeploymentName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeploymentName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What is known of a deployment: written once when it is staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The container image it came from.
    pub image: ImageRecord,
    /// The composefs image it boots.
    pub composefs: ComposefsRecord,
    /// The kernel arguments of the boot entry that are not hull's own.
    pub kernel_arguments: Vec<String>,
    /// Kernel and initrd on the ESP.
    pub boot_files: BootFiles,
    /// Container images that came along with the system's image.
    #[serde(default)]
    pub bound_images: Vec<BoundImage>,
    /// The deployment that was booted when this one was staged; its `/etc`
    /// is merged into this one's.
    pub previous: Option<DeploymentName>,
    /// What made it.
    pub operation: Operation,
    /// When it was staged, RFC 3339.
    pub created: String,
}

/// Which container image a deployment came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The reference that upgrades follow, with its transport.
    pub reference: String,
    /// The digest of the manifest, `sha256:…`.
    pub manifest_digest: String,
    /// The label `org.opencontainers.image.version`.
    #[serde(default)]
    pub version: Option<String>,
    /// When the image was made, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// The image's architecture in OCI's spelling (`amd64`).
    pub architecture: String,
    /// Upgrades must obey a signature policy that does not accept just anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enforce_policy: bool,
}

/// Which composefs image a deployment boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComposefsRecord {
    /// The name of the EROFS image in the store.
    #[serde(with = "object_id")]
    pub digest: ObjectId,
    /// Whether every object of the image has fs-verity enabled.
    pub verity: bool,
}

/// Where a deployment's kernel and initrds are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFiles {
    /// The directory below `/EFI/hull` of the ESP.
    pub directory: String,
    /// The files in it: the kernel first, then the initrds in their order.
    pub files: Vec<BootFile>,
}

/// A file for the boot loader: its name in the directory and what it contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFile {
    /// The name on the ESP, without a directory.
    pub name: String,
    /// fs-verity digest of the content.
    #[serde(with = "object_id")]
    pub digest: ObjectId,
    /// Length in bytes.
    pub size: u64,
}

/// A container image that belongs to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundImage {
    /// The reference as the image's unit file has it.
    pub reference: String,
    /// The digest of the manifest that was pulled, `sha256:…`.
    pub manifest_digest: String,
}

/// What made a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The installation of the machine.
    Install,
    /// A newer image of the same reference.
    Upgrade,
    /// An image of another reference, or other kernel arguments.
    Switch,
    /// Going back to an earlier deployment.
    Rollback,
}

/// Why a record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file can't be read.
    #[error("cannot read deployment.json: {0}")]
    Read(#[source] std::io::Error),
    /// The file is larger than any record is.
    #[error("deployment.json has more than {MAX_BYTES} bytes: it is no record of hull's")]
    TooLarge,
    /// It was written by another version of hull.
    #[error(
        "deployment.json has format {found}, this hull reads {} to {}: {}",
        FORMATS.start(),
        FORMATS.end(),
        needed(*.found)
    )]
    Format {
        /// The format number of the file.
        found: u32,
    },
    /// The file is not what its format says.
    #[error("deployment.json is not a record of hull's: {0}")]
    Syntax(#[source] serde_json::Error),
}

fn needed(found: u32) -> String {
    if found > FORMAT {
        format!(
            "a newer hull wrote it. Use a hull (and an image whose \
             /usr/lib/hull/setup-root.version covers {found}) of at least that version"
        )
    } else {
        "it is damaged; boot another deployment and upgrade again".to_owned()
    }
}

#[derive(Deserialize)]
struct FormatProbe {
    format: u32,
}

#[derive(Serialize)]
struct Formatted<'a> {
    format: u32,
    #[serde(flatten)]
    record: &'a Record,
}

/// Reads the record in the deployment directory `dir`.
pub fn read(dir: impl AsFd) -> Result<Record, RecordError> {
    let fd = rustix::fs::openat(
        dir,
        FILE_NAME,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        Mode::empty(),
    )
    .map_err(|e| RecordError::Read(e.into()))?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(RecordError::Read)?;
    Record::from_json(&bytes)
}

impl Record {
    /// Parses the bytes of a record.
    ///
    /// Fields that this version does not know are ignored; another format
    /// number is refused before anything else is looked at.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(RecordError::TooLarge);
        }
        let probe: FormatProbe = serde_json::from_slice(bytes).map_err(RecordError::Syntax)?;
        if !FORMATS.contains(&probe.format) {
            return Err(RecordError::Format {
                found: probe.format,
            });
        }
        serde_json::from_slice(bytes).map_err(RecordError::Syntax)
    }

    /// The bytes of the file, in format [`FORMAT`], ending with a newline.
    pub fn to_json(&self) -> Vec<u8> {
        let formatted = Formatted {
            format: FORMAT,
            record: self,
        };
        let mut json =
            serde_json::to_vec_pretty(&formatted).expect("a record has string keys only");
        json.push(b'\n');
        json
    }
}

/// [`ObjectId`] as a string of hexadecimal digits.
mod object_id {
    use super::ObjectId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        id: &ObjectId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ObjectId, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; ObjectId::LEN])
    }

    fn record() -> Record {
        Record {
            image: ImageRecord {
                reference: "docker://10.0.2.2:5000/debian:stable".into(),
                manifest_digest: format!("sha256:{}", "1".repeat(64)),
                version: Some("1".into()),
                created: None,
                architecture: "amd64".into(),
                enforce_policy: false,
            },
            composefs: ComposefsRecord {
                digest: digest(0xab),
                verity: false,
            },
            kernel_arguments: vec!["console=ttyS0".into()],
            boot_files: BootFiles {
                directory: "2".repeat(64),
                files: vec![BootFile {
                    name: "linux".into(),
                    digest: ObjectId::from_bytes([3; ObjectId::LEN]),
                    size: 12,
                }],
            },
            bound_images: Vec::new(),
            previous: Some(DeploymentName {
                digest: digest(0xcd),
                generation: 2,
            }),
            operation: Operation::Upgrade,
            created: "2026-01-02T03:04:05Z".into(),
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let json = record().to_json();
        assert_eq!(Record::from_json(&json).unwrap(), record());
        let text = String::from_utf8(json).unwrap();
        assert!(text.starts_with("{\n  \"format\": 1,\n"), "{text}");
        assert!(text.contains("\"operation\": \"upgrade\""), "{text}");
    }

    #[test]
    fn a_record_is_read_from_its_directory() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(temp.path()).unwrap();
        hull_sys::durable::write_new(&dir, FILE_NAME, 0o644, &record().to_json()).unwrap();
        assert_eq!(read(&dir).unwrap(), record());
    }

    #[test]
    fn a_missing_record_is_an_error_that_names_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let error = read(std::fs::File::open(temp.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("deployment.json"), "{error}");
    }

    #[test]
    fn unknown_fields_of_the_same_format_are_ignored() {
        let json = String::from_utf8(record().to_json()).unwrap();
        let json = json.replacen("\"image\"", "\"colour\": \"blue\", \"image\"", 1);
        assert_eq!(Record::from_json(json.as_bytes()).unwrap(), record());
    }

    #[test]
    fn a_newer_format_is_refused_with_the_version_that_is_needed() {
        let error = Record::from_json(br#"{"format": 2, "image": 7}"#).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("format 2"), "{text}");
        assert!(text.contains("reads 1 to 1"), "{text}");
        assert!(text.contains("a newer hull wrote it"), "{text}");
    }

    #[test]
    fn the_version_file_of_the_image_says_which_formats_are_read() {
        let text = include_str!("../../../dist/usr/lib/hull/setup-root.version");
        let range = format!("formats={}-{}\n", FORMATS.start(), FORMATS.end());
        assert_eq!(text, range);
    }

    #[test]
    fn a_deployment_name_is_read_back_as_it_was_written() {
        let name = DeploymentName {
            digest: digest(1),
            generation: 12,
        };
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn texts_that_are_no_deployment_names_are_refused() {
        let hex = "a".repeat(128);
        for text in [
            String::new(),
            hex.clone(),
            format!("{hex}."),
            format!("{hex}.+1"),
            format!("{hex}.01"),
            format!("{hex}.-1"),
            format!("{hex}.1.2"),
            format!("{hex}.99999999999999999999"),
            format!("../{hex}.1"),
            format!("{}.1", "A".repeat(128)),
            format!("{}.1", "a".repeat(127)),
        ] {
            assert!(text.parse::<DeploymentName>().is_err(), "{text}");
        }
    }
}
