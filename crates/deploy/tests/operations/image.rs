//! Small bootable images in an OCI layout.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// What is in an image beside what all have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recipe {
    /// Its version label.
    pub(crate) version: &'static str,
    /// The content of its kernel.
    pub(crate) kernel: &'static str,
    /// Paths of files that are left out.
    pub(crate) without: &'static [&'static str],
    /// Further files.
    pub(crate) with: &'static [(&'static str, &'static str)],
    /// Its architecture; by default this machine's.
    pub(crate) architecture: Option<&'static str>,
    /// The version whose content it has, where that is another one.
    pub(crate) content: Option<&'static str>,
    /// A hard link at the end of its layer, with its target.
    pub(crate) hard_link: Option<(&'static str, &'static str)>,
    /// A symbolic link in the place of a directory, with its target.
    pub(crate) link: Option<(&'static str, &'static str)>,
}

pub(crate) fn recipe(version: &'static str) -> Recipe {
    Recipe {
        version,
        kernel: "kernel",
        ..Recipe::default()
    }
}

const KERNEL: &str = "usr/lib/modules/6.12/vmlinuz";
pub(crate) const INITRD: &str = "usr/lib/modules/6.12/initramfs.img";
pub(crate) const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

fn long(text: &str) -> String {
    text.repeat(100)
}

impl Recipe {
    fn files(&self) -> Vec<(String, String)> {
        let content = self.content.unwrap_or(self.version);
        let mut files = vec![
            (KERNEL.to_owned(), long(self.kernel)),
            (INITRD.to_owned(), long("initrd")),
            (LOADER.to_owned(), long("loader")),
            (
                "usr/lib/hull/setup-root.version".to_owned(),
                "formats=1-1\n".to_owned(),
            ),
            ("usr/bin/hull".to_owned(), long("hull")),
            (
                "usr/lib/os-release".to_owned(),
                "PRETTY_NAME=\"Test OS\"\n".to_owned(),
            ),
            ("usr/share/version".to_owned(), long(content)),
            (
                "usr/lib/bootc/kargs.d/1.toml".to_owned(),
                "kargs = [\"quiet\"]\n".to_owned(),
            ),
            ("etc/default".to_owned(), long("etc")),
            ("var/lib/seed".to_owned(), long("var")),
        ];
        files.retain(|(path, _)| !self.without.contains(&path.as_str()));
        for (path, content) in self.with {
            files.push(((*path).to_owned(), (*content).to_owned()));
        }
        files
    }

    fn layer(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for directory in ["usr", "etc", "var", "boot", "sysroot", "run", "proc"] {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o755);
            header.set_size(0);
            if let Some((link, target)) = self.link
                && link == directory
            {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, link, target).unwrap();
                continue;
            }
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, directory, &[][..]).unwrap();
        }
        for (path, content) in self.files() {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        if let Some((path, target)) = self.hard_link {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            tar.append_link(&mut header, path, target).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// Adds the image to the layout in `dir` under `tag`.
    pub(crate) fn write(&self, dir: &Path, tag: &str) {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let layer = put(dir, &self.layer());
        let architecture = self.architecture.unwrap_or(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            other => other,
        });
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Labels": {"containers.bootc": "1", "org.opencontainers.image.version": self.version}},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let mut config = put(dir, config.to_string().as_bytes());
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let mut layer = layer;
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer],
        });
        let mut manifest = put(dir, manifest.to_string().as_bytes());
        manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
        manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
        write(&dir.join("index.json"), index.to_string().as_bytes());
        write(
            &dir.join("oci-layout"),
            b"{\"imageLayoutVersion\":\"1.0.0\"}",
        );
    }
}

fn put(dir: &Path, bytes: &[u8]) -> serde_json::Value {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    write(&dir.join("blobs/sha256").join(&digest), bytes);
    serde_json::json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}
