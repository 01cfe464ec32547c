//! Which scopes of a policy an image falls into.

use std::path::Path;

use crate::reference::{DEFAULT_TAG, Reference, RegistryReference};

/// The transport as policy.json names it.
pub(super) fn transport(reference: &Reference) -> &'static str {
    match reference {
        Reference::Registry(_) => "docker",
        other => other.transport(),
    }
}

/// Whether only the scope `""` of its transport can be compared with it.
pub(super) fn is_unnamed(reference: &Reference) -> bool {
    !matches!(
        reference,
        Reference::Registry(_) | Reference::Layout(_) | Reference::Archive(_)
    )
}

/// The scopes that fit, the most specific first, `""` (all of the transport) last.
pub(super) fn of(reference: &Reference) -> Vec<String> {
    let mut scopes = match reference {
        Reference::Registry(reference) => of_registry(reference),
        Reference::Layout(file) | Reference::Archive(file) => of_path(file.path()),
        _ => Vec::new(),
    };
    scopes.push(String::new());
    scopes
}

/// The image with its tag or digest, its repository, each path above that, the
/// host, and `*.` with each domain above that.
fn of_registry(reference: &RegistryReference) -> Vec<String> {
    let mut name = reference.name();
    let mut scopes = vec![match reference.digest() {
        Some(digest) => format!("{name}@{digest}"),
        None => format!("{name}:{}", reference.tag().unwrap_or(DEFAULT_TAG)),
    }];
    loop {
        scopes.push(name.clone());
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => break,
        }
    }
    let mut domain = name.split(':').next().unwrap_or_default();
    while let Some((_, above)) = domain.split_once('.') {
        scopes.push(format!("*.{above}"));
        domain = above;
    }
    scopes
}

/// The path as the file system resolves it, and each directory above but the root.
fn of_path(path: &Path) -> Vec<String> {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    resolved
        .ancestors()
        .filter(|path| path.parent().is_some())
        .map(|path| path.display().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Vec<String> {
        of(&Reference::parse(text).unwrap())
    }

    #[test]
    fn an_image_in_a_registry_falls_into_its_paths_and_domains() {
        assert_eq!(
            scopes("docker://r.sub.example.com:5000/ns/team/image"),
            [
                "r.sub.example.com:5000/ns/team/image:latest",
                "r.sub.example.com:5000/ns/team/image",
                "r.sub.example.com:5000/ns/team",
                "r.sub.example.com:5000/ns",
                "r.sub.example.com:5000",
                "*.sub.example.com",
                "*.example.com",
                "*.com",
                "",
            ]
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(
            scopes(&format!("docker://localhost/x:1@{digest}"))[0],
            format!("localhost/x@{digest}")
        );
    }

    #[test]
    fn a_layout_falls_into_the_directories_above_it_as_they_really_are() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/image")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        let found = scopes(&format!("oci:{}/link/image:name", root.display()));
        assert_eq!(found[0], root.join("real/image").display().to_string());
        assert_eq!(found[1], root.join("real").display().to_string());
        assert_eq!(found.last().map(String::as_str), Some(""));
        assert!(!found.contains(&"/".to_owned()));
    }
}
