//! Where an archive goes when it is whole.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use hull_sys::durable;
use rustix::fs::{Mode, OFlags};

use crate::reference::FileReference;

/// What takes the archive.
pub(super) enum End {
    /// A name in a directory, in place of the file that has it.
    Named { dir: OwnedFd, name: String },
    /// What takes bytes and holds no file: standard output, a pipe, a character device.
    Stream(File),
}

impl End {
    /// Looks what the reference names, and makes a file without a name for the archive: in the
    /// directory in which it gets one, or among the temporary files, so that a failure gives a
    /// stream nothing and no half of it.
    ///
    /// Symbolic links are followed, as the shell follows them. Opening a named pipe waits for its reader.
    /// Directories, disks and sockets are refused: they are never replaced.
    pub(super) fn open(reference: &FileReference, temporary: &Path) -> io::Result<(File, Self)> {
        let path = reference.path();
        if reference.is_stdout() {
            return stream(
                rustix::stdio::stdout().try_clone_to_owned()?.into(),
                temporary,
            );
        }
        let kind = match fs::metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) if path.is_symlink() => return refuse("it is a symbolic link to nothing"),
            Err(_) => return beside(path),
        };
        if kind.is_file() {
            return beside(&fs::canonicalize(path)?);
        }
        if kind.is_dir() {
            return refuse("it is a directory; name a file in it");
        }
        if kind.is_block_device() {
            return refuse("it is a disk, and an archive is a file");
        }
        if kind.is_socket() {
            return refuse(
                "it is a socket; send the archive there by another program (`-` is standard output)",
            );
        }
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty())?;
        stream(opened.into(), temporary)
    }

    /// Gives it the archive, in place of what had the name: the commit point.
    pub(super) fn commit(&mut self, file: &mut File) -> io::Result<()> {
        match self {
            Self::Stream(out) => {
                file.rewind()?;
                io::copy(file, out).map(drop)
            }
            Self::Named { dir, name } => {
                durable::sync_file(&*file)?;
                let passing = format!(".{name}.new");
                durable::remove(&*dir, &passing)?;
                durable::link_unnamed(&*file, &*dir, &passing)?;
                let renamed = durable::rename(&*dir, &passing, &*dir, name);
                if renamed.is_err() {
                    durable::remove(&*dir, &passing).ok();
                }
                renamed.and_then(|()| durable::sync_dir(&*dir))
            }
        }
    }
}

fn refuse<T>(why: &'static str) -> io::Result<T> {
    Err(io::Error::other(why))
}

fn stream(out: File, temporary: &Path) -> io::Result<(File, End)> {
    if out.is_terminal() {
        return refuse("it is a terminal; send the archive to a file or another program");
    }
    Ok((tempfile::tempfile_in(temporary)?, End::Stream(out)))
}

fn beside(path: &Path) -> io::Result<(File, End)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("its name is no text"))?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, ".", flags, Mode::from_raw_mode(0o644))?;
    let name = name.to_owned();
    Ok((File::from(file), End::Named { dir, name }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;

    use rustix::fs::{CWD, FileType};

    use super::*;
    use crate::Reference;

    /// Writes an archive that is no more than some bytes.
    fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let text = format!("oci-archive:{}", path.display());
        let Ok(Reference::Archive(reference)) = Reference::parse(&text) else {
            panic!("{text} names an archive");
        };
        let temporary = tempfile::tempdir()?;
        let (mut file, mut end) = End::open(&reference, temporary.path())?;
        file.write_all(bytes)?;
        end.commit(&mut file)
    }

    fn names(dir: &Path) -> usize {
        dir.read_dir().unwrap().count()
    }

    #[test]
    fn a_file_is_made_or_replaced_and_a_link_to_one_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| temp.path().join(name));
        write(&file, b"old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(names(temp.path()), 2);
    }

    #[test]
    fn a_pipe_and_a_device_take_the_archive_and_stay() {
        let temp = tempfile::tempdir().unwrap();
        let [pipe, null] = ["pipe", "null"].map(|name| temp.path().join(name));
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        let reader = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                let mut read = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut read).unwrap();
                read
            })
        };
        write(&pipe, b"archive").unwrap();
        assert_eq!(reader.join().unwrap(), b"archive");
        let kind = |path: &Path| path.symlink_metadata().unwrap().file_type();
        assert!(kind(&pipe).is_fifo());

        let number = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, &null, FileType::CharacterDevice, mode, number)
            .expect("this test needs root");
        write(&null, b"archive").unwrap();
        assert!(kind(&null).is_char_device());
        assert_eq!(names(temp.path()), 2);
    }

    #[test]
    fn what_is_no_place_for_an_archive_is_refused_and_stays_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let [dir, link, disk, socket] =
            ["dir", "link", "disk", "socket"].map(|name| temp.path().join(name));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink("nothing", &link).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        let number = rustix::fs::makedev(7, 250);
        rustix::fs::mknodat(CWD, &disk, FileType::BlockDevice, mode, number)
            .expect("this test needs root");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, why) in [
            (&dir, "a directory"),
            (&link, "a symbolic link to nothing"),
            (&disk, "a disk"),
            (&socket, "a socket"),
        ] {
            let before = path.symlink_metadata().unwrap().file_type();
            let error = write(path, b"archive").unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(path.symlink_metadata().unwrap().file_type(), before);
        }
        assert_eq!(names(temp.path()), 4);
    }
}
