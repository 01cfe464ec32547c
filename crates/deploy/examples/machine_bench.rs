//! Times what a machine does often: `machine_bench DIR LAYOUT`.
//!
//! DIR is an empty directory on the file system to measure; LAYOUT is an OCI
//! layout with the tags v1 and v2 of a bootable image.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement prints, ends at the first error, and times itself"
)]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hull_boot::esp::Esp;
use hull_deploy::install::{self, InstallRequest};
use hull_deploy::machine::Machine;
use hull_deploy::update::{self, Goal, Outcome, UpdateRequest};
use hull_oci::progress::Silent;
use hull_oci::{PullOptions, Reference};
use hull_store::Verity;
use rustix::fs::{Mode, OFlags};

const RUNS: usize = 5;

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let result = work();
    (begun.elapsed(), result)
}

fn report(what: &str, mut times: Vec<Duration>, reach: &str) {
    times.sort();
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what:<58} {:>8.1} ms ({:.1} to {:.1}, {} runs)  reach {reach}",
        milliseconds(&times[times.len() / 2]),
        milliseconds(&times[0]),
        milliseconds(&times[times.len() - 1]),
        times.len(),
    );
}

fn request(goal: Goal) -> UpdateRequest {
    UpdateRequest {
        goal,
        pull: PullOptions::default(),
        download_only: false,
        from_downloaded: false,
        setup_root: None,
    }
}

struct Bench {
    root: std::path::PathBuf,
    esp: std::path::PathBuf,
    v1: Reference,
    v2: Reference,
}

impl Bench {
    fn machine(&self) -> Machine {
        let now = "2026-01-01T00:00:00Z".to_owned();
        Machine::open(open(&self.root), open(&self.esp), now).unwrap()
    }

    fn install(&self) {
        let now = "2026-01-01T00:00:00Z".to_owned();
        let (root, esp) = (open(&self.root), open(&self.esp));
        let machine = Machine::create(root, esp, Verity::WhereSupported, now).unwrap();
        let options = PullOptions::default();
        let (time, fetched) =
            timed(|| install::fetch(&machine, &self.v1, &options, &Silent).unwrap());
        report(
            "pull and seal the image into an empty store",
            vec![time],
            "(no goal)",
        );
        let request = InstallRequest {
            enforce_policy: false,
            target: self.v1.clone(),
            kernel_arguments: vec!["quiet".into()],
            root_ssh_keys: None,
            esp_partuuid: "1".into(),
            setup_root: None,
        };
        install::install(&machine, &fetched, request).unwrap();
    }

    /// Stages v2 and v1 in turn, each time a new deployment.
    fn stage(&self, forget_boot_files: bool) -> Vec<Duration> {
        let mut times = Vec::new();
        for run in 0..=2 * RUNS {
            // The second time goes on where the first ended.
            let turn = run + usize::from(forget_boot_files);
            let goal = if turn % 2 == 0 { &self.v2 } else { &self.v1 };
            let machine = self.machine();
            // Into the store first: the pull is not what is measured.
            let mut wanted = request(Goal::Switch(goal.clone()));
            wanted.download_only = true;
            update::update(&machine, &wanted, &Silent).unwrap();
            if forget_boot_files {
                forget(&machine.esp);
            }
            wanted.download_only = false;
            wanted.from_downloaded = true;
            let (time, outcome) = timed(|| update::update(&machine, &wanted, &Silent).unwrap());
            assert!(matches!(outcome, Outcome::Staged(_)), "{outcome:?}");
            if run > 0 {
                times.push(time);
            }
        }
        times
    }

    fn again(&self) -> Vec<Duration> {
        let machine = self.machine();
        let pull = || hull_oci::pull(&machine.store, &self.v1, &PullOptions::default(), &Silent);
        pull().unwrap();
        (0..RUNS).map(|_| timed(|| pull().unwrap()).0).collect()
    }

    fn observe(&self) -> (usize, Vec<Duration>) {
        for run in 0..6 {
            let machine = self.machine();
            let newest = machine.observe().unwrap().deployments[0].name;
            machine.pin(&newest, true).unwrap();
            let goal = if run % 2 == 0 { &self.v2 } else { &self.v1 };
            update::update(&machine, &request(Goal::Switch(goal.clone())), &Silent).unwrap();
        }
        let count = self.machine().observe().unwrap().deployments.len();
        let times = (0..RUNS).map(|_| timed(|| self.machine().observe().unwrap()).0);
        (count, times.collect())
    }
}

/// Removes the directories of boot files, as if the kernel were new.
fn forget(esp: &Esp) {
    for directory in esp.boot_directories().unwrap() {
        esp.remove_boot_directory(&directory).unwrap();
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [dir, layout] = &arguments[..] else {
        println!("usage: machine_bench DIR LAYOUT");
        return;
    };
    let reference = |tag| Reference::parse(&format!("oci:{layout}:{tag}")).unwrap();
    let bench = Bench {
        root: Path::new(dir).join("root"),
        esp: Path::new(dir).join("esp"),
        v1: reference("v1"),
        v2: reference("v2"),
    };
    fs::create_dir(&bench.root).unwrap();
    fs::create_dir(&bench.esp).unwrap();
    bench.install();
    report("import again, nothing changed", bench.again(), "<= 50 ms");
    report(
        "seal and stage, kernel and initrd on the ESP",
        bench.stage(false),
        "<= 300 ms",
    );
    report(
        "seal and stage, kernel and initrd to be written",
        bench.stage(true),
        "<= 1000 ms",
    );
    let (count, times) = bench.observe();
    report(
        &format!("read the state of a machine with {count} deployments"),
        times,
        "<= 20 ms",
    );
}
