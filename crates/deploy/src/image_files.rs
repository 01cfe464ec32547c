//! Small files of an image, read from its tree and the store.

use hull_erofs::Tree;
use hull_erofs::tree::{Content, Entry, Node};
use hull_store::Store;

/// The longest configuration file of an image that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// An image's tree together with the store that holds its objects.
#[derive(Debug, Clone, Copy)]
pub struct ImageFiles<'a> {
    /// Where the objects are.
    pub store: &'a Store,
    /// The tree of the image.
    pub tree: &'a Tree,
}

/// A file of the image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// It is not a regular file.
    #[error("/{0} of the image is not a regular file")]
    NotAFile(String),
    /// It is larger than such a file may be.
    #[error("/{path} of the image has {size} bytes, at most {MAX_SIZE} are read")]
    TooLarge {
        /// The path.
        path: String,
        /// Its length.
        size: u64,
    },
    /// It is not UTF-8.
    #[error("/{0} of the image is not UTF-8 text")]
    NotText(String),
    /// The store failed.
    #[error("/{path} of the image: {source}")]
    Store {
        /// The path.
        path: String,
        /// The reason.
        #[source]
        source: hull_store::StoreError,
    },
}

impl ImageFiles<'_> {
    /// The text of a file; `None` where there is none.
    pub fn text(&self, path: &str) -> Result<Option<String>, ImageFileError> {
        let Some(entry) = self.tree.lookup(path.as_bytes()) else {
            return Ok(None);
        };
        let Entry::Leaf(_, leaf) = entry else {
            return Err(ImageFileError::NotAFile(path.to_owned()));
        };
        let bytes = match &leaf.content {
            Content::Inline(bytes) => bytes.to_vec(),
            Content::Object { size, .. } if *size > MAX_SIZE => {
                let (path, size) = (path.to_owned(), *size);
                return Err(ImageFileError::TooLarge { path, size });
            }
            Content::Object { id, .. } => {
                self.store
                    .read_object(id, MAX_SIZE)
                    .map_err(|source| ImageFileError::Store {
                        path: path.to_owned(),
                        source,
                    })?
            }
            _ => return Err(ImageFileError::NotAFile(path.to_owned())),
        };
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| ImageFileError::NotText(path.to_owned()))
    }

    /// The `*.toml` files of a directory as (name, text), in the order of their
    /// names; none where there is no such directory.
    pub fn toml_files(&self, path: &str) -> Result<Vec<(String, String)>, ImageFileError> {
        let Some(directory) = self.tree.directory(path.as_bytes()) else {
            return Ok(Vec::new());
        };
        let mut files = Vec::new();
        for (name, node) in directory.entries() {
            let (Ok(name), Node::Leaf(_)) = (std::str::from_utf8(name), node) else {
                continue;
            };
            if !name.ends_with(".toml") {
                continue;
            }
            if let Some(text) = self.text(&format!("{path}/{name}"))? {
                files.push((name.to_owned(), text));
            }
        }
        Ok(files)
    }
}

/// The value of a key in os-release's format (os-release(5)).
pub fn os_release_value(text: &str, key: &str) -> Option<String> {
    let line = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .next_back()?;
    let value = line.trim();
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    Some(unquoted.to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_erofs::tree::{Device, DirectoryId, Leaf, Metadata};

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nEMPTY=\n";
        let pretty = os_release_value(text, "PRETTY_NAME");
        assert_eq!(pretty.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(os_release_value(text, "NAME").as_deref(), Some("x"));
        assert_eq!(os_release_value(text, "EMPTY"), None);
    }

    #[test]
    fn what_a_shell_would_run_in_os_release_is_text() {
        for value in ["$(reboot)", "`reboot`", "${IFS}", "a;reboot", "\\x", "'\"x"] {
            let text = format!("PRETTY_NAME=\"{value}\"\n");
            let read = os_release_value(&text, "PRETTY_NAME");
            assert_eq!(read.as_deref(), Some(value));
        }
        let odd = "PRETTY_NAME=\"\nPRETTY_NAME\n=x\nexport PRETTY_NAME=y\n";
        assert_eq!(os_release_value(odd, "PRETTY_NAME").as_deref(), Some("\""));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_opened() {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = std::fs::File::open(temp.path()).unwrap();
        let store = Store::create(directory.into(), hull_store::Verity::WhereSupported).unwrap();
        for content in [
            Content::Fifo,
            Content::Symlink(b"/etc/shadow".as_slice().into()),
            Content::CharacterDevice(Device { major: 1, minor: 5 }),
        ] {
            let mut tree = Tree::default();
            let leaf = tree.add_leaf(Leaf {
                metadata: Metadata::default(),
                content,
            });
            tree.put_leaf(DirectoryId::ROOT, b"os-release", leaf);
            let files = ImageFiles {
                store: &store,
                tree: &tree,
            };
            let error = files.text("os-release").unwrap_err();
            assert!(matches!(error, ImageFileError::NotAFile(_)), "{error}");
        }
    }
}
