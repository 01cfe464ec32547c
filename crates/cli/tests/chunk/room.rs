//! The room on disk that an image takes while it is made: that of the output, and a little.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use crate::world::{World, hull, run, succeed};

/// Bytes that do not get smaller by compression.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

#[test]
fn an_archive_is_made_where_there_is_room_for_it_but_not_for_it_twice() {
    let world = World::new();
    for name in ["one", "two"] {
        let mut file = File::create(world.at("root/usr").join(name)).expect("there is room");
        file.write_all(&noise(20 << 20)).expect("there is room");
    }
    // Of 40 MB and some, on 56 MB.
    let script = "mount -t tmpfs -o size=56m tmpfs \"$1\" && cd \"$1\" && shift && \"$@\" && ls -A && mv out.tar ..";
    for (transport, compression) in [("oci-archive", "zstd"), ("docker-archive", "none")] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script, "sh"]);
        command.arg(world.at("build")).arg(hull().get_program());
        command.args(["chunk", "--rootfs", &world.text("root")]);
        command.args(["--compression", compression]);
        command.args(["--output", &format!("{transport}:out.tar")]);
        let output = run(&mut command);
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.ends_with("\nout.tar\n"), "{told}");
        let archive = format!("{transport}:{}", world.text("out.tar"));
        let verified = succeed(&["chunk", "verify", &world.text("root"), &archive]);
        assert!(verified.starts_with("No difference"), "{verified}");
    }
}

#[test]
fn what_a_killed_run_left_in_the_root_is_no_part_of_the_next_image() {
    let world = World::new();
    let archive = world.at("root/os.tar");
    let output = format!("oci-archive:{}", archive.display());
    let make = || {
        let output = run(&mut world.chunk(&output));
        assert!(output.status.success(), "{output:?}");
        std::fs::remove_file(&archive).expect("it was made");
        output.stdout
    };
    let first = make();
    let left = world.at("root/.os.tarabcdef.hull-tmp");
    std::fs::create_dir_all(left.join("image/blobs")).expect("there is room");
    File::create(left.join("image/blobs/half")).expect("there is room");
    assert_eq!(make(), first);
}
