//! Times the /etc of a first boot and of an upgrade: `etc_bench ROOT DIR`.
//!
//! ROOT is the root file system of an installed machine, DIR an empty directory
//! on the file system to measure. The upgrade is one to the same image.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, ends at the first error, and times itself"
)]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use hull_boot::etc_merge::{self, EtcTree, Policy};
use hull_erofs::fsverity::ObjectId;
use hull_erofs::image;
use rustix::fs::{Mode, OFlags};

const RUNS: usize = 5;

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

struct Watch(Instant);

impl Watch {
    fn step(&mut self, what: &str) {
        let milliseconds = self.0.elapsed().as_secs_f64() * 1e3;
        print!("  {what} {milliseconds:.1}");
        self.0 = Instant::now();
    }
}

/// Merges into `target`; `mine` is the /etc of an old deployment.
fn merge(store: &Path, image: &Path, mine: Option<&Path>, target: &Path) {
    let mut watch = Watch(Instant::now());
    let object = |id: &ObjectId| File::open(store.join("objects").join(id.to_object_path()));
    let read = || {
        let bytes = fs::read(image).unwrap();
        image::read_top_directory(&bytes, b"etc").unwrap()
    };
    let theirs = EtcTree::from_image_etc(read().as_ref(), object);
    watch.step("theirs");
    let (base, mine) = match mine {
        None => (None, EtcTree::empty()),
        Some(path) => {
            let base = EtcTree::from_image_etc(read().as_ref(), object);
            watch.step("base");
            let mine = EtcTree::scan(open(path)).unwrap();
            watch.step("mine");
            (Some(base), mine)
        }
    };
    let plan = etc_merge::plan(base.as_ref(), &mine, &theirs, Policy::Mine).unwrap();
    watch.step("plan");
    etc_merge::execute(&plan, &mine, &theirs, open(target)).unwrap();
    watch.step("execute");
    println!(" ms");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, target] = &*arguments else {
        println!("usage: etc_bench ROOT DIR");
        return;
    };
    let store = Path::new(root).join("composefs");
    let images = fs::read_dir(store.join("images")).unwrap();
    let image = (images.map(|entry| entry.unwrap().path()))
        .find(|path| path.file_name().is_some_and(|name| name.len() == 128))
        .unwrap();
    for run in 0..RUNS {
        let [old, new] = ["old", "new"].map(|name| Path::new(target).join(format!("{name}.{run}")));
        fs::create_dir_all(&old).unwrap();
        fs::create_dir_all(&new).unwrap();
        print!("first boot");
        merge(&store, &image, None, &old);
        print!("upgrade   ");
        merge(&store, &image, Some(&old.join("etc")), &new);
    }
}
