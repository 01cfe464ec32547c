//! What an image says about its installation: `/usr/lib/bootc/install/*.toml`.
//!
//! The format and its merge rules are bootc's: files in the order of their
//! names, a later value replaces an earlier one, kernel arguments append, and
//! a key that nobody knows is an error, because it may be one that matters.

use serde::Deserialize;

use crate::filesystem::Kind;
use crate::plan::Architecture;

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// What all files together say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallConfig {
    /// The root file system.
    pub root_filesystem: Option<Kind>,
    /// The allowed ways to set up a disk, the first being the default; `None`
    /// where nothing is said, which allows [`Block::Direct`].
    pub block: Option<Vec<Block>>,
    /// Kernel arguments to add.
    pub kernel_arguments: Vec<String>,
    /// Kernel arguments to remove.
    pub deleted_kernel_arguments: Vec<String>,
    /// What `root=` is to say; empty: no `root=` at all.
    pub root_mount_spec: Option<String>,
    /// What the mount of /boot is to say; empty: none.
    pub boot_mount_spec: Option<String>,
    /// Whether the root partition is to be found by its type, without `root=`.
    pub discoverable_partitions: Option<bool>,
    /// The boot loader.
    pub bootloader: Option<Bootloader>,
    /// The name of the state directory.
    pub stateroot: Option<String>,
    /// Whether an image must be covered by a signature policy.
    pub enforce_container_sigpolicy: Option<bool>,
}

/// A way to set up a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// The root file system right on its partition.
    Direct,
    /// On an encrypted volume, which the TPM unlocks. hull does not make it.
    Tpm2Luks,
}

/// A boot loader that a file can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootloader {
    /// GRUB by way of bootupd.
    Grub,
    /// GRUB for confidential computing.
    GrubCc,
    /// systemd-boot.
    Systemd,
    /// None is installed.
    None,
}

/// Why the files say nothing usable.
#[derive(Debug, thiserror::Error)]
pub enum InstallConfigError {
    /// A file is not valid.
    #[error("/usr/lib/bootc/install/{name} of the image is not valid")]
    Invalid {
        /// The file.
        name: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A file is too large.
    #[error("/usr/lib/bootc/install/{name} of the image has more than {MAX_FILE} bytes")]
    TooLarge {
        /// The file.
        name: String,
    },
    /// The image wants a disk that hull does not make.
    #[error(
        "the image allows no installation right onto a partition (`block` in /usr/lib/bootc/install)"
    )]
    DirectNotAllowed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopLevel {
    install: Option<Install>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Install {
    root_fs_type: Option<Kind>,
    block: Option<Vec<Block>>,
    filesystem: Filesystem,
    kargs: Vec<String>,
    karg_deletes: Vec<String>,
    match_architectures: Option<Vec<String>>,
    ostree: Ostree,
    stateroot: Option<String>,
    root_mount_spec: Option<String>,
    boot_mount_spec: Option<String>,
    bootupd: Bootupd,
    bootloader: Option<Bootloader>,
    discoverable_partitions: Option<bool>,
    enforce_container_sigpolicy: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filesystem {
    root: RootFilesystem,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RootFilesystem {
    #[serde(rename = "type")]
    kind: Option<Kind>,
}

/// Known so that they are no error; they mean nothing without ostree and bootupd.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Ostree {
    #[serde(rename = "bls-append-except-default")]
    _bls_append_except_default: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Bootupd {
    #[serde(rename = "skip-boot-uuid")]
    _skip_boot_uuid: Option<bool>,
}

impl InstallConfig {
    /// Reads the files of an image, given as name and text in any order.
    pub fn read<N: AsRef<str>, T: AsRef<str>>(
        files: impl IntoIterator<Item = (N, T)>,
        architecture: Architecture,
    ) -> Result<InstallConfig, InstallConfigError> {
        let mut files: Vec<(N, T)> = files.into_iter().collect();
        files.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        let mut merged = Install::default();
        for (name, text) in &files {
            let install = parse(name.as_ref(), text.as_ref())?;
            let matches = install
                .match_architectures
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| name == architecture.rust_name()));
            if matches {
                merged.merge(install);
            }
        }
        Ok(merged.finish())
    }

    /// Fails where the image does not allow a root file system right on its partition.
    pub fn require_direct(&self) -> Result<(), InstallConfigError> {
        match &self.block {
            Some(allowed) if !allowed.contains(&Block::Direct) => {
                Err(InstallConfigError::DirectNotAllowed)
            }
            _ => Ok(()),
        }
    }

    /// The kernel argument that names the root file system, if there is to be any.
    ///
    /// `found` is what to say where the image has no wish, such as `UUID=…`.
    pub fn root_argument(&self, found: &str) -> Option<String> {
        match self.root_mount_spec.as_deref() {
            Some("") => None,
            Some(spec) => Some(format!("root={spec}")),
            None => Some(format!("root={found}")),
        }
    }
}

fn parse(name: &str, text: &str) -> Result<Install, InstallConfigError> {
    if text.len() > MAX_FILE {
        return Err(InstallConfigError::TooLarge { name: name.into() });
    }
    let parsed: TopLevel = toml::from_str(text).map_err(|source| {
        let source = Box::new(source);
        InstallConfigError::Invalid {
            name: name.into(),
            source,
        }
    })?;
    Ok(parsed.install.unwrap_or_default())
}

impl Install {
    fn merge(&mut self, later: Install) {
        fn replace<T>(value: &mut Option<T>, later: Option<T>) {
            if later.is_some() {
                *value = later;
            }
        }
        replace(&mut self.root_fs_type, later.root_fs_type);
        replace(&mut self.block, later.block);
        replace(&mut self.filesystem.root.kind, later.filesystem.root.kind);
        replace(&mut self.stateroot, later.stateroot);
        replace(&mut self.root_mount_spec, later.root_mount_spec);
        replace(&mut self.boot_mount_spec, later.boot_mount_spec);
        replace(&mut self.bootloader, later.bootloader);
        replace(
            &mut self.discoverable_partitions,
            later.discoverable_partitions,
        );
        replace(
            &mut self.enforce_container_sigpolicy,
            later.enforce_container_sigpolicy,
        );
        self.kargs.extend(later.kargs);
        self.karg_deletes.extend(later.karg_deletes);
    }

    /// `filesystem.root.type` wins over the older `root-fs-type`, whichever file has it.
    fn finish(self) -> InstallConfig {
        InstallConfig {
            root_filesystem: self.filesystem.root.kind.or(self.root_fs_type),
            block: self.block,
            kernel_arguments: self.kargs,
            deleted_kernel_arguments: self.karg_deletes,
            root_mount_spec: self.root_mount_spec,
            boot_mount_spec: self.boot_mount_spec,
            discoverable_partitions: self.discoverable_partitions,
            bootloader: self.bootloader,
            stateroot: self.stateroot,
            enforce_container_sigpolicy: self.enforce_container_sigpolicy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<InstallConfig, InstallConfigError> {
        InstallConfig::read(files.iter().copied(), Architecture::X86_64)
    }

    #[test]
    fn later_files_replace_values_and_append_kernel_arguments() {
        let config = read(&[
            (
                "50-b.toml",
                "[install]\nroot-fs-type = 'xfs'\nkargs = ['b']\nroot-mount-spec = ''",
            ),
            (
                "10-a.toml",
                "[install]\nroot-fs-type = 'ext4'\nkargs = ['a']\nkarg-deletes = ['quiet']",
            ),
        ])
        .unwrap();
        assert_eq!(config.root_filesystem, Some(Kind::Xfs));
        assert_eq!(config.kernel_arguments, ["a", "b"]);
        assert_eq!(config.deleted_kernel_arguments, ["quiet"]);
        assert_eq!(config.root_argument("UUID=x"), None);
    }

    #[test]
    fn the_newer_key_for_the_root_file_system_wins_whatever_the_order() {
        let newer = "[install.filesystem.root]\ntype = 'btrfs'";
        let older = "[install]\nroot-fs-type = 'ext4'";
        for files in [
            [("1.toml", newer), ("2.toml", older)],
            [("1.toml", older), ("2.toml", newer)],
        ] {
            assert_eq!(read(&files).unwrap().root_filesystem, Some(Kind::Btrfs));
        }
    }

    #[test]
    fn files_for_other_architectures_do_not_count() {
        let config = read(&[
            (
                "1.toml",
                "[install]\nmatch-architectures = ['aarch64']\nkargs = ['arm']",
            ),
            (
                "2.toml",
                "[install]\nmatch-architectures = ['x86_64']\nkargs = ['x86']",
            ),
        ])
        .unwrap();
        assert_eq!(config.kernel_arguments, ["x86"]);
    }

    #[test]
    fn unknown_keys_and_file_systems_are_refused_by_file_and_name() {
        for (text, named) in [
            ("[install]\nroot-fs = 'xfs'", "root-fs"),
            ("[instal]", "instal"),
            ("[install]\nroot-fs-type = 'zfs'", "zfs"),
            ("[install.filesystem.var]\ntype = 'xfs'", "var"),
        ] {
            let error = read(&[("00-x.toml", text)]).unwrap_err();
            assert!(error.to_string().contains("00-x.toml"), "{error}");
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains(named), "{source}");
        }
    }

    #[test]
    fn every_key_of_bootc_is_known() {
        let text = "[install]\n\
            root-fs-type = 'xfs'\nblock = ['direct', 'tpm2-luks']\nstateroot = 'default'\n\
            boot-mount-spec = ''\nroot-mount-spec = 'LABEL=root'\nbootloader = 'systemd'\n\
            discoverable-partitions = true\nenforce-container-sigpolicy = false\n\
            [install.ostree]\nbls-append-except-default = 'grub_users=\"\"'\n\
            [install.bootupd]\nskip-boot-uuid = true\n";
        let config = read(&[("1.toml", text)]).unwrap();
        config.require_direct().unwrap();
        assert_eq!(
            config.root_argument("UUID=x").as_deref(),
            Some("root=LABEL=root")
        );
        assert_eq!(config.bootloader, Some(Bootloader::Systemd));
    }

    #[test]
    fn an_image_that_wants_encryption_only_is_refused() {
        let config = read(&[("1.toml", "[install]\nblock = ['tpm2-luks']")]).unwrap();
        assert!(matches!(
            config.require_direct(),
            Err(InstallConfigError::DirectNotAllowed)
        ));
        assert!(InstallConfig::default().require_direct().is_ok());
    }
}
