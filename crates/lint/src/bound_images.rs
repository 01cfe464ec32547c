//! `/usr/lib/bootc/bound-images.d`: the application images that belong to the system.
//!
//! The rules are bootc's: links, with names that end with `.image` or `.container`, to quadlet
//! files (podman-systemd.unit(5)) that name an image.

use crate::finding::{Finding, Verdict};
use crate::root::{Kind, Root};

const DIRECTORY: &str = "usr/lib/bootc/bound-images.d";

/// Each entry names an image.
pub(crate) fn bound_images(root: &Root) -> Verdict {
    let entries = root.children(DIRECTORY.as_bytes());
    let findings = entries.filter_map(|(path, name, kind)| {
        let (problem, remedy) = check(root, path, name, kind).err()?;
        Some(Finding::new(path, problem, remedy))
    });
    findings.collect::<Vec<_>>().into()
}

type Wrong = (String, &'static str);

fn check(root: &Root, path: &[u8], name: &[u8], kind: &Kind) -> Result<(), Wrong> {
    let wrong = |problem: &str, remedy| Err((problem.to_owned(), remedy));
    let (Ok(path), Ok(name)) = (std::str::from_utf8(path), std::str::from_utf8(name)) else {
        return wrong("its name is not UTF-8", "rename it");
    };
    let section = match name.rsplit_once('.') {
        Some((_, "image")) => "Image",
        Some((_, "container")) => "Container",
        _ => {
            return wrong(
                "its name ends with neither .image nor .container",
                "rename or remove it",
            );
        }
    };
    let Kind::Symlink(_) = kind else {
        return wrong(
            "it is no symbolic link",
            "put the file into /usr/share/containers/systemd, and a link to it here",
        );
    };
    let text = match root.text(path) {
        Ok(Some(text)) => text,
        Ok(None) => return wrong("it leads nowhere", "install the file that it leads to"),
        Err(error) => {
            let problem = format!("what it leads to cannot be read: {error}");
            return Err((problem, "install the file that it leads to"));
        }
    };
    image(&text, section).map(drop)
}

/// The image that a quadlet file names.
fn image(text: &str, section: &str) -> Result<String, Wrong> {
    let joined = text.replace("\\\n", " ");
    let mut group = "";
    let mut image = None;
    for (number, line) in (1..).zip(joined.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            group = name;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            let problem = format!("line {number} is neither a section nor a key with a value");
            return Err((problem, "correct the quadlet file"));
        };
        match (group == section, key.trim_end()) {
            (true, "Image") => image = Some(value.trim()),
            (true, "AuthFile") if section == "Image" => {
                let problem = "AuthFile= is not followed".to_owned();
                return Err((problem, "put the credentials into /etc/ostree/auth.json"));
            }
            _ => {}
        }
    }
    let missing = || {
        (
            format!("it has no Image= in [{section}]"),
            "name the image there",
        )
    };
    let image = image
        .filter(|image| !image.is_empty())
        .ok_or_else(missing)?;
    let literal = image.replace("%%", "");
    if literal.contains('%') {
        let problem = format!("Image={image} has a specifier, which nobody fills in here");
        return Err((problem, "write it out; %% is a percent sign"));
    }
    Ok(image.replace("%%", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, paths, problems};

    fn with(name: &str, text: &str) -> Builder {
        let file = format!("usr/share/containers/systemd/{name}");
        Builder::new()
            .file(&file, text)
            .link(&format!("{DIRECTORY}/{name}"), &format!("/{file}"))
    }

    #[test]
    fn links_to_files_that_name_an_image_are_fine() {
        for (name, text) in [
            ("a.image", "# c\n[Image]\nImage=registry.example/a:1\n"),
            (
                "a.container",
                "[Unit]\nDescription=a\n[Container]\nImage = registry.example/a\nAuthFile=/x\nExec=a \\\n b\n",
            ),
        ] {
            assert_eq!(problems(bound_images, &with(name, text)), "");
        }
        assert_eq!(paths(bound_images, &Builder::new()), [""; 0]);
    }

    #[test]
    fn files_that_name_no_image_are_found() {
        for (name, text, words) in [
            ("a.image", "[Container]\nImage=x\n", "no Image= in [Image]"),
            (
                "a.container",
                "[Container]\nImage=\n",
                "no Image= in [Container]",
            ),
            ("a.container", "[Container]\nImage=x:%i\n", "specifier"),
            ("a.image", "[Image]\nImage=x\nAuthFile=/x\n", "AuthFile="),
            ("a.image", "[Image]\nImage\n", "line 2"),
        ] {
            let found = problems(bound_images, &with(name, text));
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn entries_that_are_no_links_or_lead_nowhere_or_have_other_names_are_found() {
        let root = Builder::new()
            .file(&format!("{DIRECTORY}/file.image"), "[Image]\nImage=x\n")
            .link(&format!("{DIRECTORY}/gone.image"), "/nowhere.image")
            .link(&format!("{DIRECTORY}/other.volume"), "/etc");
        let found = problems(bound_images, &root);
        for words in [
            "file.image: it is no",
            "gone.image: it leads",
            "other.volume: its name",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
    }

    #[test]
    fn a_percent_sign_that_is_written_twice_is_one() {
        let name = image("[Image]\nImage=x%%y\n", "Image");
        assert_eq!(name, Ok("x%y".to_owned()));
    }
}
