//! An image that is no operating system: labels and configuration of a Flatpak application, as another tool wrote them.

use std::fs;

use hull_sys::run::Program;
use serde_json::Value;

use crate::world::{World, json, succeed};

/// What Flatpak finds an application by (its source, `common/flatpak-oci-registry.c`), with lines, quotes and letters
/// beyond ASCII.
const LABELS: [(&str, &str); 8] = [
    ("org.flatpak.ref", "app/org.example.Notes/x86_64/stable"),
    (
        "org.flatpak.metadata",
        "[Application]\nname=org.example.Notes\nruntime=org.example.Platform/x86_64/24.08\n\n[Context]\nshared=ipc;\n",
    ),
    (
        "org.flatpak.commit",
        "1f0c2b6c9f2d4a7b8e6d5c4b3a291807f6e5d4c3b2a190887766554433221100",
    ),
    (
        "org.flatpak.subject",
        "Export \"Notes\" – mit Umlauten: äöü",
    ),
    ("org.flatpak.body", ""),
    ("org.flatpak.timestamp", "1700000000"),
    ("org.flatpak.installed-size", "123456"),
    (
        "org.freedesktop.appstream.appdata",
        "<component type=\"desktop\"><id>org.example.Notes</id></component>",
    ),
];

/// Makes an image of an application in `theirs:1`.
fn flatpak(world: &World) {
    let image = format!("{}:1", world.text("theirs"));
    let umoci = || Program::new("umoci").package("umoci");
    let run = |program: Program| program.run().expect("umoci makes an image");
    run(umoci().args(["init", "--layout", &world.text("theirs")]));
    run(umoci().args(["new", "--image", &image]));
    let bundle = world.text("bundle");
    run(umoci().args(["unpack", "--image", &image, &bundle]));
    for directory in ["files/bin", "export/share"] {
        fs::create_dir_all(world.at("bundle/rootfs").join(directory)).expect("there is room");
    }
    fs::write(world.at("bundle/rootfs/metadata"), LABELS[1].1).expect("there is room");
    fs::write(world.at("bundle/rootfs/files/bin/notes"), "#!/bin/sh\n").expect("there is room");
    run(umoci().args(["repack", "--image", &image, &bundle]));
    let mut config = umoci().args(["config", "--no-history", "--image", &image]);
    for (key, value) in LABELS {
        config = config.args(["--config.label", &format!("{key}={value}")]);
    }
    config = config.args(["--author", "An author"]);
    config = config.args(["--manifest.annotation", "org.flatpak.download-size=4321"]);
    config = config.args(["--config.env", "PATH=/app/bin:/usr/bin"]);
    config = config.args(["--config.cmd", "notes", "--config.workingdir", "/app"]);
    config = config.args(["--config.user", "1000:1000", "--config.volume", "/var/data"]);
    config = config.args([
        "--config.exposedports",
        "8080/tcp",
        "--config.stopsignal",
        "SIGINT",
    ]);
    run(config.args([
        "--created",
        "2023-11-14T22:13:20Z",
        "--architecture",
        "amd64",
    ]));
}

#[test]
fn what_another_tool_says_of_its_image_stays_when_the_image_is_split_again() {
    let world = World::new();
    flatpak(&world);
    let (theirs, ours) = (world.image("theirs:1"), world.image("ours:1"));
    succeed(&["chunk", "--from", &theirs, "--output", &ours]);
    let inspect = |words: &[&str], image: &str| -> Value {
        let skopeo = Program::new("skopeo").arg("inspect").args(words).arg(image);
        json(&skopeo.output().expect("skopeo reads it"))
    };
    let [before, after] = [&theirs, &ours].map(|image| inspect(&["--config"], image));
    assert_eq!(after["config"], before["config"]);
    for key in ["author", "created", "architecture", "os"] {
        assert!(before[key].is_string(), "{key}");
        assert_eq!(after[key], before[key], "{key}");
    }
    let labels = after["config"]["Labels"].as_object().expect("it has some");
    assert_eq!(labels.len(), LABELS.len());
    // Older versions of Flatpak look for the same in the manifest.
    let annotations = &inspect(&["--raw"], &ours)["annotations"];
    for (key, value) in LABELS {
        assert_eq!(labels[key], value);
        assert_eq!(annotations[key], value);
    }
    assert_eq!(annotations["org.flatpak.download-size"], "4321");
    assert!(
        succeed(&["chunk", "verify", &world.text("bundle/rootfs"), &ours])
            .starts_with("No difference ")
    );
}
