//! Where podman's stores are: what the reference says, else containers-storage.conf(5).

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::StorageError;
use crate::reference::{StorageReference, StoreSpecifier};

/// The longest configuration file, in bytes.
const MAX_CONF: u64 = 1 << 20;
/// The driver whose stores hull reads.
const OVERLAY: &str = "overlay";

/// Where podman's configuration and stores are on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageOptions {
    /// The root directory of the system; `/` by default.
    pub root: Option<PathBuf>,
    /// The user's home directory; needed unless the user is root.
    pub home: Option<PathBuf>,
    /// A configuration in place of the system's and the user's (`CONTAINERS_STORAGE_CONF`).
    pub conf: Option<PathBuf>,
    /// Whose stores they are, where that is not who hull runs as: in a user namespace
    /// hull is root, and works for the user that made it.
    pub user: Option<u32>,
}

impl StorageOptions {
    /// The directory of the store that an image is looked for in first, for the user with this number.
    pub fn graph_root(
        &self,
        reference: &StorageReference,
        user: u32,
    ) -> Result<PathBuf, StorageError> {
        Ok(find(reference.store(), self, user)?.own)
    }
}

/// The stores of one user, that of their own first, then those for reading only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) own: PathBuf,
    pub(super) additional: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conf {
    storage: Storage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Storage {
    driver: Option<String>,
    graphroot: Option<PathBuf>,
    rootless_storage_path: Option<String>,
    imagestore: Option<PathBuf>,
    options: Options,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    additionalimagestores: Option<Vec<PathBuf>>,
    imagestore: Option<PathBuf>,
}

impl Storage {
    /// Takes what a later file says.
    fn overlay(&mut self, later: Self) {
        let replace = |old: &mut Option<PathBuf>, new: Option<PathBuf>| {
            if new.is_some() {
                *old = new;
            }
        };
        replace(&mut self.graphroot, later.graphroot);
        replace(
            &mut self.imagestore,
            later.imagestore.or(later.options.imagestore),
        );
        self.driver = later.driver.or(self.driver.take());
        self.rootless_storage_path = later
            .rootless_storage_path
            .or(self.rootless_storage_path.take());
        if let Some(stores) = later.options.additionalimagestores {
            self.options.additionalimagestores = Some(stores);
        }
    }
}

/// The stores to look in, for the user with this number.
pub(super) fn find(
    specifier: Option<&StoreSpecifier>,
    options: &StorageOptions,
    user: u32,
) -> Result<Places, StorageError> {
    let conf = load(options, user)?;
    let driver = specifier.and_then(|specifier| specifier.driver.as_deref());
    let driver = driver.or(conf.driver.as_deref()).unwrap_or(OVERLAY);
    if !matches!(driver, OVERLAY | "overlay2" | "") {
        return Err(StorageError::Driver(driver.chars().take(40).collect()));
    }
    let mut places = match specifier {
        // A store that is named stands for itself, as in skopeo.
        Some(specifier) => Places {
            own: PathBuf::from(&specifier.graphroot),
            additional: Vec::new(),
        },
        None => configured(conf, options, user)?,
    };
    for (key, value) in specifier.iter().flat_map(|specifier| &specifier.options) {
        let key = key.strip_prefix("overlay.").unwrap_or(key);
        if matches!(key, "imagestore" | "additionalimagestore") {
            places.additional.push(PathBuf::from(value));
        }
        // All others are about mounting and writing.
    }
    Ok(places)
}

fn configured(conf: Storage, options: &StorageOptions, user: u32) -> Result<Places, StorageError> {
    let own = match user {
        0 => conf
            .graphroot
            .unwrap_or_else(|| "/var/lib/containers/storage".into()),
        _ => of_user(&conf, options, user)?,
    };
    let additional = conf.imagestore.into_iter();
    let additional = additional.chain(conf.options.additionalimagestores.unwrap_or_default());
    Ok(Places {
        own,
        additional: additional.filter(|path| path.is_absolute()).collect(),
    })
}

fn of_user(conf: &Storage, options: &StorageOptions, user: u32) -> Result<PathBuf, StorageError> {
    let home = options.home.as_deref().ok_or(StorageError::NoHome)?;
    let expanded = |path: &str| {
        let path = path.replace("$HOME", &home.to_string_lossy());
        PathBuf::from(path.replace("$UID", &user.to_string()))
    };
    Ok(match (&conf.rootless_storage_path, &conf.graphroot) {
        (Some(path), _) => expanded(path),
        (None, Some(path)) => expanded(&path.to_string_lossy()),
        (None, None) => home.join(".local/share/containers/storage"),
    })
}

/// The configuration: the first file that there is, and the drop-ins beside it.
fn load(options: &StorageOptions, user: u32) -> Result<Storage, StorageError> {
    if let Some(path) = &options.conf {
        return Ok(read(path)?.unwrap_or_default());
    }
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let mut conf = Storage::default();
    for path in [
        "etc/containers/storage.conf",
        "usr/share/containers/storage.conf",
    ] {
        if let Some(found) = read(&root.join(path))? {
            conf = found;
            break;
        }
    }
    if user != 0 {
        // The system's graphroot is root's.
        conf.graphroot = None;
    }
    for path in drop_ins(&root.join("etc/containers/storage.conf.d"))? {
        conf.overlay(read(&path)?.unwrap_or_default());
    }
    if let (Some(home), true) = (&options.home, user != 0)
        && let Some(own) = read(&home.join(".config/containers/storage.conf"))?
    {
        conf.overlay(own);
    }
    if conf.imagestore.is_none() {
        conf.imagestore = conf.options.imagestore.take();
    }
    Ok(conf)
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let failed = |source| StorageError::Conf {
        path: dir.to_owned(),
        reason: format!("{source}"),
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Option<Storage>, StorageError> {
    let bad = |reason: String| StorageError::Conf {
        path: path.to_owned(),
        reason: reason.chars().take(300).collect(),
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(bad(error.to_string())),
    };
    let bytes =
        hull_sys::dir::read_at_most(file, MAX_CONF).map_err(|error| bad(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    let conf: Conf = toml::from_str(&text).map_err(|error| bad(error.message().to_owned()))?;
    Ok(Some(conf.storage))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn write(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn machine() -> (tempfile::TempDir, StorageOptions) {
        let temp = tempfile::tempdir().unwrap();
        let options = StorageOptions {
            root: Some(temp.path().to_owned()),
            home: Some(temp.path().join("home")),
            conf: None,
            user: None,
        };
        (temp, options)
    }

    #[test]
    fn without_configuration_the_stores_are_where_podman_has_them() {
        let (temp, options) = machine();
        let own = |user| find(None, &options, user).unwrap().own;
        assert_eq!(own(0), Path::new("/var/lib/containers/storage"));
        let home = temp.path().join("home/.local/share/containers/storage");
        assert_eq!(own(1000), home);
        assert!(matches!(
            find(
                None,
                &StorageOptions {
                    home: None,
                    ..options
                },
                1000
            ),
            Err(StorageError::NoHome)
        ));
    }

    #[test]
    fn the_configuration_of_the_system_and_of_the_user_is_followed() {
        let (temp, options) = machine();
        write(
            temp.path().join("usr/share/containers/storage.conf"),
            "[storage]\ngraphroot = '/not/read'\n",
        );
        write(
            temp.path().join("etc/containers/storage.conf"),
            "[storage]\ndriver = 'overlay'\ngraphroot = '/srv/root'\n\
             rootless_storage_path = '$HOME/images-$UID'\n\
             [storage.options]\nadditionalimagestores = ['/usr/share/images']\n\
             [storage.options.overlay]\nmountopt = 'nodev'\n",
        );
        let root = find(None, &options, 0).unwrap();
        assert_eq!(root.own, Path::new("/srv/root"));
        assert_eq!(root.additional, [Path::new("/usr/share/images")]);
        let user = find(None, &options, 1000).unwrap();
        assert_eq!(user.own, temp.path().join("home/images-1000"));
        write(
            temp.path()
                .join("etc/containers/storage.conf.d/10-more.conf"),
            "[storage]\nimagestore = '/srv/split'\n",
        );
        let root = find(None, &options, 0).unwrap();
        assert_eq!(root.additional[0], Path::new("/srv/split"));
    }

    #[test]
    fn a_store_that_is_named_stands_for_itself() {
        let (_temp, options) = machine();
        let specifier = StoreSpecifier {
            driver: Some("overlay".into()),
            graphroot: "/x".into(),
            runroot: None,
            options: vec![
                ("overlay.imagestore".into(), "/y".into()),
                ("overlay.mountopt".into(), "nodev".into()),
            ],
        };
        let found = find(Some(&specifier), &options, 0).unwrap();
        assert_eq!(found.own, Path::new("/x"));
        assert_eq!(found.additional, [Path::new("/y")]);
        let vfs = StoreSpecifier {
            driver: Some("vfs".into()),
            ..specifier
        };
        assert!(matches!(
            find(Some(&vfs), &options, 0),
            Err(StorageError::Driver(_))
        ));
    }
}
