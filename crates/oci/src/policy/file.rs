//! The file itself. Whatever hull does not know in it makes the whole invalid:
//! a policy that is half understood is none.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::identity::{Identity, RawIdentity};
use super::key::Keys;
use super::{Policy, PolicyError, Requirement};

const MAX_FILE: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<Policy, PolicyError> {
    let bytes = File::open(path)
        .and_then(|file| hull_sys::dir::read_at_most(file, MAX_FILE))
        .map_err(|source| PolicyError::Read {
            path: path.to_owned(),
            source,
        })?;
    parse(&bytes, path).map_err(|reason| PolicyError::Malformed {
        path: path.to_owned(),
        reason,
    })
}

pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Policy, String> {
    let raw: RawPolicy = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut transports = BTreeMap::new();
    for (transport, scopes) in raw.transports.0 {
        let mut checked = BTreeMap::new();
        for (scope, requirements) in scopes.0 {
            let place = format!("the scope {scope:?} of {transport}");
            checked.insert(scope, check(requirements, &place)?);
        }
        transports.insert(transport, checked);
    }
    Ok(Policy {
        path: path.to_owned(),
        default: check(raw.default, "default")?,
        transports,
    })
}

fn check(raw: Vec<RawRequirement>, place: &str) -> Result<Vec<Requirement>, String> {
    if raw.is_empty() {
        return Err(format!("{place}: there is no requirement"));
    }
    raw.into_iter()
        .map(|requirement| requirement.check())
        .collect::<Result<_, _>>()
        .map_err(|reason: String| format!("{place}: {reason}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Vec<RawRequirement>,
    #[serde(default)]
    transports: Unique<Unique<Vec<RawRequirement>>>,
}

/// An object that names nothing twice: the later would hide the earlier.
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format!("{key:?} is there twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum RawRequirement {
    #[serde(rename = "insecureAcceptAnything")]
    AcceptAnything {},
    #[serde(rename = "reject")]
    Reject {},
    #[serde(rename = "signedBy", rename_all = "camelCase")]
    SignedBy {
        key_type: String,
        key_path: Option<PathBuf>,
        key_paths: Option<Vec<PathBuf>>,
        key_data: Option<String>,
        signed_identity: Option<RawIdentity>,
    },
    #[serde(rename = "sigstoreSigned", rename_all = "camelCase")]
    SigstoreSigned {
        key_path: Option<PathBuf>,
        key_paths: Option<Vec<PathBuf>>,
        key_data: Option<String>,
        key_datas: Option<Vec<String>>,
        fulcio: Option<serde_json::Value>,
        pki: Option<serde_json::Value>,
        rekor_public_key_path: Option<PathBuf>,
        rekor_public_key_paths: Option<Vec<PathBuf>>,
        rekor_public_key_data: Option<String>,
        rekor_public_key_datas: Option<Vec<String>>,
        signed_identity: Option<RawIdentity>,
    },
    #[serde(rename = "signedBaseLayer", rename_all = "camelCase")]
    SignedBaseLayer {
        #[serde(rename = "baseLayerIdentity")]
        _base_layer_identity: RawIdentity,
    },
}

impl RawRequirement {
    fn check(self) -> Result<Requirement, String> {
        match self {
            Self::AcceptAnything {} => Ok(Requirement::AcceptAnything),
            Self::Reject {} => Ok(Requirement::Reject),
            Self::SignedBaseLayer { .. } => {
                Ok(Requirement::Uncheckable("signedBaseLayer".to_owned()))
            }
            Self::SignedBy {
                key_type,
                key_path,
                key_paths,
                key_data,
                signed_identity,
            } => {
                if !matches!(
                    key_type.as_str(),
                    "GPGKeys" | "signedByGPGKeys" | "X509Certificates" | "signedByX509CAs"
                ) {
                    return Err(format!("the keyType {key_type:?} is not known"));
                }
                let keys = keys(key_path, key_paths, key_data, None, &[])?;
                let identity = Identity::check_raw(signed_identity)?;
                Ok(match keys {
                    Some(keys) if key_type == "GPGKeys" => Requirement::OpenPgp { keys, identity },
                    _ => Requirement::Uncheckable(format!("signedBy ({key_type})")),
                })
            }
            Self::SigstoreSigned {
                key_path,
                key_paths,
                key_data,
                key_datas,
                fulcio,
                pki,
                rekor_public_key_path,
                rekor_public_key_paths,
                rekor_public_key_data,
                rekor_public_key_datas,
                signed_identity,
            } => {
                let others = [fulcio.is_some(), pki.is_some()];
                let keys = keys(key_path, key_paths, key_data, key_datas, &others)?;
                let identity = Identity::check_raw(signed_identity)?;
                let rekor = rekor_public_key_path.is_some()
                    || rekor_public_key_paths.is_some()
                    || rekor_public_key_data.is_some()
                    || rekor_public_key_datas.is_some();
                Ok(match (keys, others, rekor) {
                    (Some(keys), _, false) => Requirement::Sigstore { keys, identity },
                    (Some(_), _, true) => uncheckable("rekorPublicKey"),
                    (None, [true, _], _) => uncheckable("fulcio"),
                    (None, _, _) => uncheckable("pki"),
                })
            }
        }
    }
}

fn uncheckable(what: &str) -> Requirement {
    Requirement::Uncheckable(format!("{what} of sigstoreSigned"))
}

/// The keys; nothing where one of `others` stands in their place.
fn keys(
    path: Option<PathBuf>,
    paths: Option<Vec<PathBuf>>,
    data: Option<String>,
    datas: Option<Vec<String>>,
    others: &[bool],
) -> Result<Option<Keys>, String> {
    let others = others.iter().filter(|is_there| **is_there).count();
    let decode = |text: String| {
        STANDARD
            .decode(text)
            .map_err(|_| "the data of a key is not Base64".to_owned())
    };
    let given: [Option<Result<Keys, String>>; 4] = [
        path.map(|path| Ok(Keys::Files(vec![path]))),
        paths.map(|paths| Ok(Keys::Files(paths))),
        data.map(|data| Ok(Keys::Data(vec![decode(data)?]))),
        datas.map(|datas| {
            let decoded = datas.into_iter().map(decode);
            Ok(Keys::Data(decoded.collect::<Result<_, String>>()?))
        }),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next(), others) {
        (Some(keys), None, 0) => match keys? {
            Keys::Files(files) if files.is_empty() => Err("the list of keys is empty".to_owned()),
            Keys::Data(datas) if datas.is_empty() => Err("the list of keys is empty".to_owned()),
            keys => Ok(Some(keys)),
        },
        (None, None, 1) => Ok(None),
        (None, None, 0) => Err("no key is given".to_owned()),
        _ => Err("the key is given in more than one way".to_owned()),
    }
}
