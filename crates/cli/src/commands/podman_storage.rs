//! podman's storage as the place to write to. Only programs of its own library write there, so
//! an image goes into a layout that does not stay, and skopeo brings it in.

use std::path::Path;

use hull_chunk::scratch::{self, Scratch};
use hull_oci::Reference;
use hull_oci::push::PushError;
use hull_oci::reference::{ImageSelector, StorageReference};
use hull_sys::run::Program;

use super::Context;
use crate::environment::ROOTLESS_USER;
use crate::failure::Failure;

/// Whether skopeo can bring an image there; says so before any work. All other places are fine.
pub(crate) fn check(target: &Reference) -> Result<(), Failure> {
    let Reference::Storage(storage) = target else {
        return Ok(());
    };
    if !is_place(storage) {
        return Err(Failure::from(PushError::Unsupported {
            place: target.to_string(),
            reason: "an ID or a digest is what comes of writing, not where to write to; write NAME[:TAG]",
        }));
    }
    skopeo().arg("--version").run().map_err(Failure::Storage)
}

/// Whether an image can get what the reference says.
fn is_place(storage: &StorageReference) -> bool {
    storage.digest().is_none() && matches!(storage.selector(), ImageSelector::Name(_))
}

/// A directory for a layout that does not stay.
pub(crate) fn temporary() -> Result<Scratch, Failure> {
    scratch::in_var_tmp().map_err(|source| Failure::Write {
        path: "/var/tmp".to_owned(),
        source,
    })
}

/// Has an image written into the layout at a path, and brings it from there into podman's storage.
/// It takes its size on disk in /var/tmp meanwhile.
pub(crate) fn write<T>(
    target: &StorageReference,
    context: &Context<'_>,
    write: impl FnOnce(&Path) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let temporary = temporary()?;
    let path = temporary.path().join("image");
    let written = write(&path)?;
    let layout = format!("oci:{}", path.display());
    let target = format!("containers-storage:{target}");
    // What policy.json says was asked when hull read the image.
    let arguments = ["--insecure-policy", "copy", "--quiet", &layout, &target];
    let mut skopeo = skopeo().args(arguments);
    let environment = context.environment;
    for (name, value) in [
        ("HOME", &environment.home),
        ("XDG_RUNTIME_DIR", &environment.runtime_dir),
        ("CONTAINERS_STORAGE_CONF", &environment.storage_conf),
    ] {
        if let Some(value) = value {
            skopeo = skopeo.env(name, value);
        }
    }
    if let Some(user) = environment.rootless {
        // It is in the namespace already, and should not look for its own.
        skopeo = skopeo.env("_CONTAINERS_USERNS_CONFIGURED", "done");
        skopeo = skopeo.env(ROOTLESS_USER, user.to_string());
    }
    skopeo.run().map_err(Failure::Storage)?;
    Ok(written)
}

fn skopeo() -> Program {
    Program::new("skopeo").package("skopeo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_written_under_a_name_not_an_id_or_a_digest() {
        let digest = hull_oci::Digest::sha256(b"");
        for (text, good) in [
            ("localhost/os:1", true),
            ("[overlay@/srv+/run]os", true),
            ("@0123456789ab", false),
            (&*format!("os@{digest}"), false),
            (&*format!("@{digest}"), false),
        ] {
            let reference = Reference::parse(&format!("containers-storage:{text}")).unwrap();
            let Reference::Storage(storage) = &reference else {
                panic!("{text}: podman's storage is expected");
            };
            assert_eq!(is_place(storage), good, "{text}");
            assert!(good || check(&reference).is_err(), "{text}");
        }
    }
}
