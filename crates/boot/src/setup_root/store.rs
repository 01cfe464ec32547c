//! The store, as far as booting needs it: images and objects by name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_erofs::fsverity::ObjectId;
use hull_erofs::image;
use hull_erofs::tree::Tree;
use hull_sys::dir;
use rustix::fs::OFlags;

use super::SetupError;
use crate::cmdline::BootRequest;

/// Far more than the image of any system; it is held in memory for the merge.
const MAX_IMAGE: u64 = 512 << 20;

pub(super) struct Store {
    directory: OwnedFd,
    objects: OwnedFd,
}

/// The image that is booted.
pub(super) struct BootImage {
    pub(super) id: ObjectId,
    pub(super) verity_required: bool,
    pub(super) file: File,
}

impl Store {
    pub(super) fn open(physical: BorrowedFd<'_>) -> Result<Self, SetupError> {
        let open = |part| {
            dir::open_dir_beneath(physical, part)
                .map_err(|source| SetupError::Store { part, source })
        };
        Ok(Self {
            directory: open("composefs")?,
            objects: open("composefs/objects")?,
        })
    }

    pub(super) fn objects(&self) -> BorrowedFd<'_> {
        self.objects.as_fd()
    }

    /// An object that is missing is named in the error: whoever reads it does
    /// not know more than the file that it was for.
    pub(super) fn open_object(&self, id: &ObjectId) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        dir::open_beneath(&self.objects, id.to_object_path(), flags)
            .map(File::from)
            .map_err(|e| {
                let text = format!(
                    "object {id} of the store: {e}; boot another entry, and run `hull fsck` there"
                );
                io::Error::new(e.kind(), text)
            })
    }

    /// Opens an image by its name; the link in `images` leads to the object.
    pub(super) fn open_image(&self, id: &ObjectId) -> io::Result<File> {
        let path = format!("images/{id}");
        dir::open_beneath(&self.directory, path, OFlags::RDONLY).map(File::from)
    }

    /// The first image of the request that exists.
    pub(super) fn find(&self, request: &BootRequest) -> Result<BootImage, SetupError> {
        for wanted in &request.images {
            match self.open_image(&wanted.image) {
                Ok(file) => {
                    return Ok(BootImage {
                        id: wanted.image,
                        verity_required: wanted.verity_required,
                        file,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(SetupError::OpenImage {
                        image: wanted.image,
                        source,
                    });
                }
            }
        }
        let names: Vec<String> = (request.images.iter().map(|wanted| wanted.image.to_hex()))
            .chain(request.passed_over.iter().cloned())
            .collect();
        Err(SetupError::NoImage(names.join(", ")))
    }
}

/// Reads the `/etc` of an image, if it has one, as a tree of its own: the rest
/// of the image is many times as much.
pub(super) fn read_etc(id: ObjectId, file: &File) -> Result<Option<Tree>, SetupError> {
    let mut file = file;
    let bytes = io::Seek::rewind(&mut file)
        .and_then(|()| dir::read_at_most(file, MAX_IMAGE))
        .map_err(|source| SetupError::OpenImage { image: id, source })?;
    image::read_top_directory(&bytes, b"etc").map_err(|source| SetupError::DamagedImage {
        image: id,
        source: Box::new(source),
    })
}
