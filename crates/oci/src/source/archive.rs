//! Images in an `oci-archive:` file: an OCI image layout as a tar.

use std::io::{self, Read};

use super::layout::{Files, Layout};
use super::tar_files::TarFiles;
use super::{SourceError, SourceOptions, input};
use crate::reference::FileReference;

/// Opens the image in an archive.
pub(super) fn open(
    reference: &FileReference,
    options: &SourceOptions,
) -> Result<Layout<TarFiles>, SourceError> {
    let file = input::open(reference, options)?;
    let files = TarFiles::scan(file).map_err(|source| SourceError::Read {
        path: reference.path().to_owned(),
        what: "cannot read the archive".to_owned(),
        source,
    })?;
    Layout::new(reference, "oci-archive", files)
}

impl Files for TarFiles {
    fn open(&self, path: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>> {
        Ok(self.find(path).map(|place| {
            let reader: Box<dyn Read + Send> = Box::new(self.read(place));
            (reader, place.length)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::super::layout::tests::Memory;
    use super::super::tar_files::tests::{entry, link};
    use super::*;
    use crate::manifest::Descriptor;
    use crate::reference::Reference;
    use crate::source::Source;

    fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn open(file: &tempfile::NamedTempFile) -> Result<Layout<TarFiles>, SourceError> {
        let text = format!("oci-archive:{}", file.path().display());
        let Reference::Archive(reference) = Reference::parse(&text).unwrap() else {
            panic!("an archive is expected");
        };
        super::open(&reference, &SourceOptions::default())
    }

    fn archive() -> Vec<u8> {
        let mut memory = Memory::default();
        let one = memory.add_blob(b"one");
        memory.put_index(json!([one]));
        let mut bytes = entry(b"blobs/", b"", b'5');
        for (name, content) in &memory.0 {
            bytes.extend(entry(format!("./{name}").as_bytes(), content, b'0'));
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    #[test]
    fn a_layout_is_read_from_its_places_in_the_archive() {
        let plain = archive();
        let packed = zstd::encode_all(&*plain, 1).unwrap();
        for bytes in [plain, packed] {
            let file = write(&bytes);
            let layout = open(&file).unwrap();
            assert_eq!(layout.root().unwrap().bytes, b"one");
            let descriptor = Descriptor {
                media_type: String::new(),
                digest: crate::Digest::sha256(b"one"),
                size: 3,
                annotations: Default::default(),
            };
            let mut content = Vec::new();
            let mut blob = crate::source::blob(&layout, &descriptor).unwrap();
            blob.read_to_end(&mut content).unwrap();
            assert_eq!(content, b"one");
        }
    }

    #[test]
    fn links_and_other_entries_are_no_files_of_the_layout() {
        let marker = entry(b"marker", br#"{"imageLayoutVersion":"1.0.0"}"#, b'0');
        for kind in [b'1', b'2'] {
            let file = write(&[&marker[..], &link(b"oci-layout", b"marker", kind)].concat());
            let error = open(&file).unwrap_err();
            assert!(matches!(error, SourceError::NotALayout { .. }), "{error}");
        }
    }
}
