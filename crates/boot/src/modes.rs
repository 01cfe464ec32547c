//! How an image wants its root directory, `/etc` and `/var`: kept, or
//! forgotten at each boot.
//!
//! Two files of the image say it: `/usr/lib/ostree/prepare-root.conf`
//! (ostree-prepare-root(1)) and `/usr/lib/composefs/setup-root-conf.toml`
//! (bootc-setup-root-conf(5)). Where both say something the second one counts.

use std::os::fd::AsFd;

use hull_sys::dir;
use rustix::fs::OFlags;
use serde::Deserialize;

/// The file in ostree's format, in the image.
pub const PREPARE_ROOT_PATH: &str = "usr/lib/ostree/prepare-root.conf";

/// The file in composefs's format, in the image.
pub const SETUP_ROOT_PATH: &str = "usr/lib/composefs/setup-root-conf.toml";

/// Neither file is ever larger than this, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What is mounted at a directory of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing: the directory is the image's.
    #[serde(rename = "none", alias = "root")]
    Image,
    /// The deployment's own directory.
    #[serde(rename = "bind")]
    Persistent,
    /// The image's directory, with changes kept in the deployment. hull gives
    /// it the deployment's own directory: its merge brings the image's new
    /// defaults, which is what the overlay is there for.
    Overlay,
    /// The image's directory, with changes kept until the reboot.
    #[serde(alias = "volatile")]
    Transient,
}

impl Mode {
    /// The word of the configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "none",
            Self::Persistent => "bind",
            Self::Overlay => "overlay",
            Self::Transient => "transient",
        }
    }
}

/// What an image wants of its mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Whether `/` itself is writable until the reboot; else it is read-only.
    pub root_transient: bool,
    /// `/etc`.
    pub etc: Mode,
    /// `/var`; `None`: the image does not say.
    pub var: Option<Mode>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            root_transient: false,
            etc: Mode::Persistent,
            var: None,
        }
    }
}

/// Why the modes of an image are not known.
#[derive(Debug, thiserror::Error)]
pub enum ModesError {
    /// A file is there and can't be read.
    #[error("cannot read /{path} of the image: {source}")]
    Read {
        /// The file.
        path: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file can't be parsed.
    #[error("/{path} of the image: {reason}")]
    Syntax {
        /// The file.
        path: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// What one file says.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    root: SaidOfRoot,
    #[serde(default)]
    etc: SaidOfDirectory,
    #[serde(default)]
    var: SaidOfDirectory,
}

#[derive(Debug, Default, Deserialize)]
struct SaidOfRoot {
    transient: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct SaidOfDirectory {
    mount: Option<Mode>,
    transient: Option<bool>,
}

impl SaidOfDirectory {
    fn mode(&self) -> Option<Mode> {
        self.mount.or(match self.transient {
            Some(true) => Some(Mode::Transient),
            Some(false) => Some(Mode::Persistent),
            None => None,
        })
    }
}

impl Modes {
    /// Reads both files of the image whose root directory is `root`; missing
    /// ones say nothing.
    pub fn read(root: impl AsFd) -> Result<Self, ModesError> {
        let root = root.as_fd();
        let prepare_root = read_text(root, PREPARE_ROOT_PATH)?;
        let setup_root = read_text(root, SETUP_ROOT_PATH)?;
        Self::parse(prepare_root.as_deref(), setup_root.as_deref())
    }

    /// Parses the texts of both files.
    ///
    /// Keys that hull has no use for are ignored: `[composefs] enabled`, since
    /// the kernel command line asked for composefs, and `[sysroot] readonly`,
    /// since `/sysroot` always is.
    pub fn parse(prepare_root: Option<&str>, setup_root: Option<&str>) -> Result<Self, ModesError> {
        let first = prepare_root.map(parse_ini).transpose()?.unwrap_or_default();
        let second: Said = setup_root
            .map(toml::from_str)
            .transpose()
            .map_err(|e| ModesError::Syntax {
                path: SETUP_ROOT_PATH,
                reason: e.to_string().trim_end().to_owned(),
            })?
            .unwrap_or_default();
        let default = Self::default();
        Ok(Self {
            root_transient: (second.root.transient)
                .or(first.root.transient)
                .unwrap_or(default.root_transient),
            etc: (second.etc.mode())
                .or(first.etc.mode())
                .unwrap_or(default.etc),
            var: second.var.mode(),
        })
    }
}

fn read_text(
    root: std::os::fd::BorrowedFd<'_>,
    path: &'static str,
) -> Result<Option<String>, ModesError> {
    let failed = |source| ModesError::Read { path, source };
    let file = match dir::open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => std::fs::File::from(fd),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let bytes = dir::read_at_most(file, MAX_BYTES).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|_| ModesError::Syntax {
        path,
        reason: "it is not UTF-8".to_owned(),
    })?;
    Ok(Some(text))
}

/// The key files of GLib: groups in brackets, `key=value`, `#` comments.
fn parse_ini(text: &str) -> Result<Said, ModesError> {
    let mut said = Said::default();
    let mut group = "";
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            group = name;
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| syntax(number, "a key, an equals sign and a value are expected"))?;
        let target = match (group, key.trim_end()) {
            ("root", "transient") => &mut said.root.transient,
            ("etc", "transient") => &mut said.etc.transient,
            _ => continue,
        };
        *target = Some(match value.trim_start() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(syntax(number, "true or false is expected")),
        });
    }
    Ok(said)
}

fn syntax(line: u32, expected: &str) -> ModesError {
    ModesError::Syntax {
        path: PREPARE_ROOT_PATH,
        reason: format!("line {line}: {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(prepare_root: &str, setup_root: &str) -> Modes {
        Modes::parse(Some(prepare_root), Some(setup_root)).unwrap()
    }

    #[test]
    fn an_image_that_says_nothing_keeps_its_etc_and_has_a_read_only_root() {
        let expected = Modes {
            root_transient: false,
            etc: Mode::Persistent,
            var: None,
        };
        assert_eq!(Modes::parse(None, None).unwrap(), expected);
        assert_eq!(parse("", ""), expected);
        let usual = "[composefs]\nenabled = yes\n\n[sysroot]\nreadonly=true\n";
        assert_eq!(parse(usual, ""), expected);
    }

    #[test]
    fn ostree_s_file_makes_root_and_etc_transient() {
        let modes = parse("# c\n[root]\ntransient = true\n[etc]\ntransient=1\n", "");
        assert!(modes.root_transient);
        assert_eq!(modes.etc, Mode::Transient);
    }

    #[test]
    fn composefs_s_file_counts_where_both_say_something() {
        let modes = parse(
            "[root]\ntransient=true\n[etc]\ntransient=true\n",
            "[root]\ntransient = false\n[etc]\nmount = \"overlay\"\n",
        );
        assert!(!modes.root_transient);
        assert_eq!(modes.etc, Mode::Overlay);
    }

    #[test]
    fn every_word_for_a_mount_is_known() {
        for (word, mode) in [
            ("none", Mode::Image),
            ("root", Mode::Image),
            ("bind", Mode::Persistent),
            ("overlay", Mode::Overlay),
            ("transient", Mode::Transient),
            ("volatile", Mode::Transient),
        ] {
            let text = format!("[etc]\nmount = \"{word}\"\n[var]\nmount = \"{word}\"\n");
            let modes = parse("", &text);
            assert_eq!((modes.etc, modes.var), (mode, Some(mode)), "{word}");
        }
    }

    #[test]
    fn mount_counts_more_than_transient() {
        let modes = parse("", "[etc]\nmount = \"bind\"\ntransient = true\n");
        assert_eq!(modes.etc, Mode::Persistent);
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_line() {
        let error = Modes::parse(Some("[etc]\ntransient=perhaps\n"), None).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("prepare-root.conf") && text.contains("line 2"),
            "{text}"
        );
        let error = Modes::parse(None, Some("[etc]\nmount = \"tape\"\n")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("setup-root-conf.toml") && text.contains("tape"),
            "{text}"
        );
    }

    #[test]
    fn files_are_read_inside_the_image_even_through_an_absolute_link() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir_all(root.join("usr/lib/composefs")).unwrap();
        std::fs::create_dir_all(root.join("conf")).unwrap();
        std::os::unix::fs::symlink("/conf/file", root.join(SETUP_ROOT_PATH)).unwrap();
        let conf = std::fs::File::open(root.join("conf")).unwrap();
        hull_sys::durable::write_new(&conf, "file", 0o644, b"[root]\ntransient=true\n").unwrap();
        let modes = Modes::read(std::fs::File::open(root).unwrap()).unwrap();
        assert!(modes.root_transient);
    }
}
