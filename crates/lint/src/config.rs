//! Configuration that an image brings for booting and installing it.

use hull_boot::modes::{self, Modes};
use hull_disk::install_config::InstallConfig;
use hull_disk::plan::Architecture;

use crate::finding::{Finding, Verdict};
use crate::root::{Kind, Root, printable};

const KARGS: &str = "usr/lib/bootc/kargs.d";
const INSTALL: &str = "usr/lib/bootc/install";

/// The architectures that `match-architectures` may name, as Rust does, with what others call them.
const ARCHITECTURES: [(&str, &str); 7] = [
    ("x86_64", "amd64"),
    ("aarch64", "arm64"),
    ("riscv64", "riscv64gc"),
    ("powerpc64", "ppc64le"),
    ("s390x", "s390"),
    ("arm", "armhf"),
    ("loongarch64", "loong64"),
];

/// Kernel arguments that hull writes itself.
const OWN: [&str; 5] = [
    "composefs",
    "composefs.digest",
    "hull.deployment",
    "hull.try",
    "ostree",
];

/// The `*.toml` files of a directory: their paths, and their texts or why they cannot be read.
fn toml_files(root: &Root, directory: &str) -> Vec<(String, Result<String, String>)> {
    let names = root
        .children(directory.as_bytes())
        .filter(|(_, name, _)| name.ends_with(b".toml"))
        .filter_map(|(path, _, _)| String::from_utf8(path.to_vec()).ok());
    names
        .map(|path| {
            let text = match root.text(&path) {
                Ok(Some(text)) => Ok(text),
                Ok(None) => Err("it is a link that leads nowhere".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (path, text)
        })
        .collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// An error with what is behind it, on one line and without what the finding says anyway.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    // TOML's errors are pictures of the place; the first line and the last say what and where.
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match &*lines {
        [first, .., last] => format!("{first}: {last}"),
        _ => text,
    }
}

/// kargs.d can be read.
pub(crate) fn bootc_kargs(root: &Root) -> Verdict {
    let remedy = "a file has `kargs = [\"…\"]`, and may have `match-architectures = [\"x86_64\"]`";
    let findings = toml_files(root, KARGS)
        .into_iter()
        .filter_map(|(path, text)| {
            let problem = match text {
                Err(problem) => problem,
                Ok(text) => {
                    let file = (file_name(&path).to_owned(), text);
                    reason(&hull_boot::kargs::from_files(&[file], "").err()?)
                }
            };
            Some(Finding::new(path.as_bytes(), problem, remedy))
        });
    findings.collect::<Vec<_>>().into()
}

/// What of kargs.d is not what its author meant.
pub(crate) fn kargs(root: &Root) -> Verdict {
    let mut findings: Vec<Finding> = ignored(root, KARGS).collect();
    for (path, text) in toml_files(root, KARGS) {
        // What cannot be read is for `bootc-kargs`.
        let Some(table) = text.ok().and_then(|text| text.parse::<toml::Table>().ok()) else {
            continue;
        };
        let find = |problem: String, remedy: &str| Finding::new(path.as_bytes(), problem, remedy);
        findings.extend(words(&table, "match-architectures").filter_map(|name| {
            let known = |(rust, other): &&(&str, &str)| *rust == name || *other == name;
            match ARCHITECTURES.iter().find(known) {
                Some((rust, _)) if *rust == name => None,
                Some((rust, _)) => Some(find(
                    format!("no machine is of the architecture {name:?}, so the file never counts"),
                    &format!("write {rust:?}"),
                )),
                None => Some(find(
                    format!("{name:?} is no architecture that is known here"),
                    "write it as Rust does, such as \"x86_64\" or \"aarch64\"",
                )),
            }
        }));
        let arguments = words(&table, "kargs").flat_map(str::split_whitespace);
        findings.extend(arguments.filter_map(|argument| {
            let key = argument.split('=').next().unwrap_or(argument);
            match key {
                key if OWN.contains(&key) => Some(find(
                    format!("{key} is for hull to say, for each deployment"),
                    "remove it",
                )),
                "root" | "rootflags" => Some(find(
                    format!("{key} is for the installation to say, which knows the disk"),
                    "remove it, or set root-mount-spec in /usr/lib/bootc/install",
                )),
                _ => None,
            }
        }));
    }
    findings.into()
}

fn words<'a>(table: &'a toml::Table, key: &str) -> impl Iterator<Item = &'a str> {
    let list = table.get(key).and_then(toml::Value::as_array);
    list.into_iter().flatten().filter_map(toml::Value::as_str)
}

/// Names in a directory of TOML files that are not read, but look as if they were meant to be.
fn ignored(root: &Root, directory: &str) -> impl Iterator<Item = Finding> {
    root.children(directory.as_bytes())
        .filter(|(_, name, kind)| {
            let hint = name.starts_with(b".") || name.to_ascii_uppercase().starts_with(b"README");
            !hint && (!name.ends_with(b".toml") || *kind == &Kind::Directory)
        })
        .map(|(path, _, _)| {
            Finding::new(
                path,
                "it is not read, since its name does not end with .toml, or it is a directory",
                "rename or remove it",
            )
        })
}

/// The install configuration can be read, each file and all of them together.
pub(crate) fn install_config(root: &Root) -> Verdict {
    let remedy = "correct it; the keys are those of bootc's install configuration";
    let mut findings = Vec::new();
    let mut fine = Vec::new();
    for (path, text) in toml_files(root, INSTALL) {
        let checked = text.and_then(|text| {
            let file = (file_name(&path).to_owned(), text);
            match InstallConfig::read([file.clone()], Architecture::X86_64) {
                Ok(_) => Ok(file),
                Err(error) => Err(reason(&error)),
            }
        });
        match checked {
            Ok(file) => fine.push(file),
            Err(problem) => findings.push(Finding::new(path.as_bytes(), problem, remedy)),
        }
    }
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let config = InstallConfig::read(fine.iter().cloned(), architecture);
        if let Err(error) = config.and_then(|config| config.require_direct()) {
            let remedy = "put \"direct\" into `block`";
            findings.push(Finding::new(INSTALL.as_bytes(), error.to_string(), remedy));
        }
    }
    findings.into()
}

/// How /, /etc and /var are to be mounted can be read.
pub(crate) fn setup_root_conf(root: &Root) -> Verdict {
    let mut findings = Vec::new();
    for path in [modes::PREPARE_ROOT_PATH, modes::SETUP_ROOT_PATH] {
        let checked = match root.text(path) {
            Err(error) => Err(error.to_string()),
            Ok(text) => {
                let (prepare, setup) = match path == modes::PREPARE_ROOT_PATH {
                    true => (text, None),
                    false => (None, text),
                };
                Modes::parse(prepare.as_deref(), setup.as_deref())
                    .map(drop)
                    .map_err(|error| {
                        let text = error.to_string();
                        let prefix = format!("{} of the image: ", printable(path.as_bytes()));
                        let text = text.strip_prefix(&prefix).unwrap_or(&text);
                        text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
                    })
            }
        };
        if let Err(problem) = checked {
            let remedy = "correct it: the machine would stop in its initrd";
            findings.push(Finding::new(path.as_bytes(), problem, remedy));
        }
    }
    findings.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, paths, problems};

    #[test]
    fn kernel_arguments_that_cannot_be_read_are_found_by_file_and_key() {
        let root = Builder::new()
            .file("usr/lib/bootc/kargs.d/10-fine.toml", "kargs = ['quiet']")
            .file("usr/lib/bootc/kargs.d/20-key.toml", "kargz = ['quiet']")
            .file("usr/lib/bootc/kargs.d/30-bytes.toml", b"\xff")
            .link("usr/lib/bootc/kargs.d/40-link.toml", "/nowhere")
            .file("usr/lib/bootc/kargs.d/README", "no toml");
        let found = problems(bootc_kargs, &root);
        for words in [
            "20-key.toml: ",
            "kargz",
            "30-bytes.toml: ",
            "40-link.toml: ",
        ] {
            assert!(found.contains(words), "{found}");
        }
        assert_eq!(paths(bootc_kargs, &root).len(), 3, "{found}");
    }

    #[test]
    fn kernel_arguments_that_never_count_or_are_hull_s_are_found() {
        let root = Builder::new()
            .file(
                "usr/lib/bootc/kargs.d/10.toml",
                "kargs = ['quiet root=/dev/sda1', 'composefs=x', 'rw']\nmatch-architectures = ['amd64', 'x86_64', 'z80']",
            )
            .file("usr/lib/bootc/kargs.d/20.conf", "kargs = ['a']");
        let found = problems(kargs, &root);
        for words in [
            "\"amd64\"",
            "\"z80\"",
            "root is for",
            "composefs is for",
            "20.conf",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
        assert_eq!(paths(kargs, &root).len(), 5, "{found}");
    }

    #[test]
    fn install_configuration_with_unknown_keys_is_found_by_file_and_key() {
        let root = Builder::new()
            .file(
                "usr/lib/bootc/install/10.toml",
                "[install]\nroot-fs = 'xfs'",
            )
            .file("usr/lib/bootc/install/20.toml", "[install]\nkargs = ['a']");
        let found = problems(install_config, &root);
        assert!(
            found.contains("10.toml: ") && found.contains("root-fs"),
            "{found}"
        );
        assert_eq!(paths(install_config, &root).len(), 1, "{found}");
    }

    #[test]
    fn an_image_that_wants_encryption_only_is_found() {
        let text = "[install]\nblock = ['tpm2-luks']";
        let root = Builder::new().file("usr/lib/bootc/install/10.toml", text);
        let found = problems(install_config, &root);
        assert!(found.contains("`block`"), "{found}");
    }

    #[test]
    fn modes_that_cannot_be_read_are_found_in_both_files() {
        let root = Builder::new()
            .file(modes::PREPARE_ROOT_PATH, "[etc]\ntransient=perhaps\n")
            .file(modes::SETUP_ROOT_PATH, "[etc]\nmount = 'tape'\n");
        let found = problems(setup_root_conf, &root);
        assert!(
            found.contains("line 2") && found.contains("tape"),
            "{found}"
        );
        assert_eq!(paths(setup_root_conf, &root).len(), 2, "{found}");
        assert_eq!(paths(setup_root_conf, &Builder::new()), [""; 0]);
    }
}
