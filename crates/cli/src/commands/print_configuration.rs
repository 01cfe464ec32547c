//! `install print-configuration`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hull_deploy::seal;
use hull_disk::install_config::{Block, Bootloader, InstallConfig, MAX_FILE};
use hull_disk::plan::Architecture;
use hull_oci::Platform;
use hull_oci::progress::Silent;
use serde_json::{Value, json};

use super::dump::with_store;
use super::{Context, sources};
use crate::args::Transport;
use crate::args::install::PrintConfiguration;
use crate::failure::Failure;
use crate::output;

/// Where files of the running system are; one in a later directory takes the
/// place of one of the same name before it.
const DIRECTORIES: [&str; 4] = ["usr/lib", "usr/local/lib", "etc", "run"];

/// Prints what an image, or the running system, asks of an installer.
pub(crate) fn run(args: &PrintConfiguration, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let files = match &args.image {
        Some(image) => files_of_image(image, args, context)?,
        None => files_below(Path::new("/"))?.into_iter().collect(),
    };
    let platform = Platform::host().architecture;
    let architecture = Architecture::from_oci(&platform).ok_or(Failure::Architecture(platform))?;
    let config = InstallConfig::read(files, architecture)?;
    output::print(&output::json(&document(&config, args.all))?)?;
    Ok(ExitCode::SUCCESS)
}

fn files_of_image(
    image: &str,
    args: &PrintConfiguration,
    context: &Context<'_>,
) -> Result<Vec<(String, String)>, Failure> {
    let reference = sources::reference(image, Transport::Registry, context)?;
    let options = sources::pull_options(&args.auth, context)?;
    with_store(None, |store| {
        // The store goes away: the image needs no name in it.
        let session = store.session()?;
        let fetched = hull_oci::fetch(&session, &reference, &options, &Silent)?;
        let (_, facts) = seal::inspect(store, fetched.image())?;
        Ok(facts.install_config)
    })
}

fn files_below(root: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    for directory in DIRECTORIES {
        let directory = root.join(directory).join("bootc/install");
        for path in toml_files(&directory)? {
            let text = read(&path).map_err(|source| Failure::Read {
                path: path.display().to_string(),
                source,
            })?;
            if let Some(name) = path.file_name() {
                files.insert(name.to_string_lossy().into_owned(), text);
            }
        }
    }
    Ok(files)
}

fn toml_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::Read {
        path: directory.display().to_string(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// One byte more than is allowed is enough for the parser to refuse it.
fn read(path: &Path) -> io::Result<String> {
    let limit = u64::try_from(MAX_FILE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut text = String::new();
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// The keys are bootc's. Kernel arguments are hull's own business when it
/// installs, so they are for those who want to see all.
fn document(config: &InstallConfig, all: bool) -> Value {
    let filesystem = config.root_filesystem.map(|kind| kind.name());
    let mut document = json!({
        "root-fs-type": filesystem,
        "filesystem": filesystem.map(|name| json!({"root": {"type": name}})),
        "block": config.block.as_ref().map(|list| {
            list.iter().map(|block| block_name(*block)).collect::<Vec<_>>()
        }),
        "root-mount-spec": config.root_mount_spec,
        "boot-mount-spec": config.boot_mount_spec,
        "discoverable-partitions": config.discoverable_partitions,
        "bootloader": config.bootloader.map(bootloader_name),
        "stateroot": config.stateroot,
        "enforce-container-sigpolicy": config.enforce_container_sigpolicy,
    });
    if all {
        document["kargs"] = json!(config.kernel_arguments);
        document["karg-deletes"] = json!(config.deleted_kernel_arguments);
    }
    document
}

fn block_name(block: Block) -> &'static str {
    match block {
        Block::Direct => "direct",
        Block::Tpm2Luks => "tpm2-luks",
    }
}

fn bootloader_name(loader: Bootloader) -> &'static str {
    match loader {
        Bootloader::Grub => "grub",
        Bootloader::GrubCc => "grub-cc",
        Bootloader::Systemd => "systemd",
        Bootloader::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_later_directories_take_the_place_of_earlier_ones() {
        let root = tempfile::tempdir().unwrap();
        for (directory, name, text) in [
            (
                "usr/lib",
                "10-a.toml",
                "[install]\nroot-fs-type = 'xfs'\nkargs = ['quiet']",
            ),
            ("usr/lib", "20-b.toml", "[install]\nblock = ['direct']"),
            ("usr/lib", "README", "no toml"),
            ("etc", "10-a.toml", "[install]\nroot-fs-type = 'btrfs'"),
        ] {
            let directory = root.path().join(directory).join("bootc/install");
            fs::create_dir_all(&directory).unwrap();
            hull_sys::durable::write_new(
                File::open(&directory).unwrap(),
                name,
                0o644,
                text.as_bytes(),
            )
            .unwrap();
        }
        let files = files_below(root.path()).unwrap();
        let config = InstallConfig::read(files, Architecture::X86_64).unwrap();
        let document = document(&config, true);
        assert_eq!(document["filesystem"]["root"]["type"], "btrfs");
        assert_eq!(document["block"], json!(["direct"]));
        assert_eq!(document["kargs"], json!([]));
        assert_eq!(super::document(&config, false).get("kargs"), None);
    }
}
