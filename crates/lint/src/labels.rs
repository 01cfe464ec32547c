//! What an image says of itself beside its files.

use crate::finding::{Finding, Verdict};
use crate::root::Root;

const BOOTC: &str = "containers.bootc";
const VERSION: &str = "org.opencontainers.image.version";

/// The image is labelled as an operating system, and has a version.
pub(crate) fn labels(root: &Root) -> Verdict {
    let Some(labels) = root.labels() else {
        return Verdict::NotApplicable("a directory has no labels; --image checks an image");
    };
    let mut findings = Vec::new();
    let mut find = |label: &str, problem: &str, remedy: &str| {
        findings.push(Finding {
            path: format!("label {label}"),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    };
    if labels.get(BOOTC).is_none_or(|value| value != "1") {
        find(
            BOOTC,
            "it is not 1, so the image is not known as an operating system",
            "LABEL containers.bootc=1, or hull chunk --bootc",
        );
    }
    if labels.get(VERSION).is_none_or(String::is_empty) {
        find(
            VERSION,
            "there is none: status and the boot menu show no version",
            "LABEL org.opencontainers.image.version=…, or hull chunk --label",
        );
    }
    findings.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use crate::testing::Builder;
    use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};

    fn image(labels: &[(&str, &str)]) -> Root {
        let mut tree = Tree::default();
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content: Content::Inline(b"text"[..].into()),
        });
        tree.put_leaf(DirectoryId::ROOT, b"file", leaf);
        let labels: BTreeMap<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let open = |_: &_| Err(std::io::ErrorKind::NotFound.into());
        Root::of_image("example", tree, Arc::new(open), labels).unwrap()
    }

    #[test]
    fn an_image_without_labels_is_found_and_a_directory_has_none() {
        let Verdict::Checked(findings) = labels(&image(&[])) else {
            panic!("images have labels");
        };
        let paths: Vec<_> = findings.iter().map(|finding| &*finding.path).collect();
        assert_eq!(
            paths,
            [
                "label containers.bootc",
                "label org.opencontainers.image.version"
            ]
        );
        let fine = image(&[(BOOTC, "1"), (VERSION, "2")]);
        assert_eq!(labels(&fine), Verdict::Checked(Vec::new()));
        let directory = labels(&Builder::new().read());
        assert!(matches!(directory, Verdict::NotApplicable(_)));
    }

    #[test]
    fn the_files_of_an_image_are_read_as_those_of_a_directory() {
        let root = image(&[]);
        assert_eq!(root.text("file").unwrap().as_deref(), Some("text"));
        assert_eq!(root.text("gone").unwrap(), None);
    }
}
