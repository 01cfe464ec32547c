//! systemd-boot: its files on the ESP, and what else may decide its choice.

use std::fs;
use std::path::Path;

/// The architecture's name for removable media: `/EFI/BOOT/BOOT<this>.EFI`.
pub fn efi_architecture(architecture: &str) -> Option<(&'static str, &'static str)> {
    match architecture {
        "x86_64" | "amd64" => Some(("x64", "X64")),
        "aarch64" | "arm64" => Some(("aa64", "AA64")),
        "riscv64" => Some(("riscv64", "RISCV64")),
        _ => None,
    }
}

/// Where an image carries systemd-boot, without the leading slash.
pub fn systemd_boot_path(architecture: &str) -> Option<String> {
    let (lower, _) = efi_architecture(architecture)?;
    Some(format!("usr/lib/systemd/boot/efi/systemd-boot{lower}.efi"))
}

/// The loader.conf of a new machine: it names no default, so that order and
/// counters decide; the menu shows for three seconds.
pub const LOADER_CONF: &str = "timeout 3\nconsole-mode keep\n";

/// What `loader.conf` sets as its default, if it does.
pub fn configured_default(loader_conf: &str) -> Option<String> {
    loader_conf
        .lines()
        .filter_map(|line| line.trim().split_once([' ', '\t']))
        .filter(|(key, _)| *key == "default" || *key == "preferred")
        .map(|(_, value)| value.trim().to_owned())
        .next_back()
}

/// The vendor of systemd-boot's EFI variables (Boot Loader Interface).
const LOADER_VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Reads a UTF-16 variable of the Boot Loader Interface below `efivars` (the
/// mounted efivarfs); `None` where it is not set.
pub fn read_variable(efivars: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(efivars.join(format!("{name}-{LOADER_VENDOR}"))).ok()?;
    // efivarfs: four bytes of attributes come first.
    let units: Vec<u16> = bytes
        .get(4..)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|&unit| unit != 0)
        .collect();
    String::from_utf16(&units)
        .ok()
        .filter(|text| !text.is_empty())
}

/// The defaults that somebody set by hand, each as a sentence's subject: they
/// win over the order of the entries, so that an upgrade would not be booted.
pub fn foreign_defaults(efivars: &Path, loader_conf: &str) -> Vec<String> {
    let mut found = Vec::new();
    for variable in [
        "LoaderEntryDefault",
        "LoaderEntryOneShot",
        "LoaderEntryPreferred",
    ] {
        if let Some(value) = read_variable(efivars, variable) {
            found.push(format!("the EFI variable {variable} is set to {value:?}"));
        }
    }
    if let Some(value) = configured_default(loader_conf) {
        found.push(format!("loader.conf sets the default {value:?}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_in_loader_conf_is_found() {
        assert_eq!(configured_default("timeout 3\n#default x\n"), None);
        let found = configured_default("timeout 3\ndefault  debian-*\n");
        assert_eq!(found.as_deref(), Some("debian-*"));
        assert_eq!(configured_default(LOADER_CONF), None);
    }

    #[test]
    fn a_default_in_an_efi_variable_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let mut bytes = vec![7, 0, 0, 0];
        for unit in "hull-1.conf\0".encode_utf16() {
            bytes.extend(unit.to_le_bytes());
        }
        let name = format!("LoaderEntryDefault-{LOADER_VENDOR}");
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's input needs no durability"
        )]
        fs::write(temp.path().join(name), bytes).unwrap();
        let found = foreign_defaults(temp.path(), "");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("hull-1.conf"), "{found:?}");
    }
}
