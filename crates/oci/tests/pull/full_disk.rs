//! A store whose file system fills up.

use std::path::Path;

use hull_oci::Reference;
use hull_oci::progress::Silent;
use hull_sys::run::Program;

use crate::faulty::Faulty;
use crate::image::three_layers;
use crate::local_store::{open, options, show};

/// A small file system in memory, unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(path: &'a Path) -> Self {
        Program::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(path)
            .run()
            .expect("this test needs root");
        Self(path)
    }

    fn enlarge(&self) {
        Program::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(self.0)
            .run()
            .unwrap();
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Program::new("umount").arg("-l").arg(self.0).run().ok();
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_try_works_once_there_is_room() {
    let temp = tempfile::tempdir().unwrap();
    let small = Small::mount(temp.path());
    let store = open(temp.path());
    let image = three_layers("1");
    let server = Faulty::new(image.clone(), |_, _| None);
    let reference = Reference::parse(&server.image("debian:stable")).unwrap();
    let error = hull_oci::pull(&store, &reference, &options(), &Silent).unwrap_err();
    assert!(error.is_no_space(), "{}", show(&error));
    assert!(show(&error).contains("no space left"), "{}", show(&error));
    assert!(hull_oci::Image::load(&store, &image.digest()).is_err());
    small.enlarge();
    hull_oci::pull(&store, &reference, &options(), &Silent).unwrap();
    hull_oci::Image::load(&store, &image.digest()).unwrap();
}
