//! Images that go to a registry: Debian's docker-registry, on a free port of the loopback device.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use hull_sys::run::Program;
use serde_json::Value;

use crate::serving;
use crate::world::{World, json, run, succeed};

/// A registry process, which ends with this value. Its data are in the world.
pub(crate) struct Registry<'a> {
    world: &'a World,
    process: Child,
    port: u16,
}

impl<'a> Registry<'a> {
    pub(crate) fn start(world: &'a World) -> Self {
        if let Some((process, port)) = serving::start(|port| spawn(world, port)) {
            return Self {
                world,
                process,
                port,
            };
        }
        let log = fs::read_to_string(world.at("registry.log")).unwrap_or_default();
        panic!("docker-registry: {log}");
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://127.0.0.1:{}/{name}", self.port)
    }

    /// How many requests that begin so had this answer.
    pub(crate) fn count(&self, request: &str, status: &str) -> usize {
        let log = fs::read_to_string(self.world.at("requests")).expect("it writes one");
        let (request, status) = (format!("\"{request}"), format!("\" {status} "));
        let lines = log.lines();
        lines
            .filter(|line| line.contains(&request) && line.contains(&status))
            .count()
    }

    /// How many bytes were sent in answer to requests that begin so, with this status.
    pub(crate) fn bytes(&self, request: &str, status: &str) -> u64 {
        let log = fs::read_to_string(self.world.at("requests")).expect("it writes one");
        let request = format!("\"{request}");
        let lines = log.lines().filter(|line| line.contains(&request));
        let sent = lines.filter_map(|line| {
            let (_, answer) = line.split_once(&format!("\" {status} "))?;
            answer.split(' ').next()?.parse::<u64>().ok()
        });
        sent.sum()
    }

    /// The manifest of an image, as it is in the registry.
    pub(crate) fn manifest(&self, name: &str, tag: &str) -> Value {
        let (status, body) = self.request("GET", &format!("{name}/manifests/{tag}"), b"");
        assert_eq!(status, "200");
        json(&body)
    }

    /// Gives a tag to another manifest.
    pub(crate) fn put_manifest(&self, name: &str, tag: &str, manifest: &Value) {
        let manifest = manifest.to_string();
        let path = format!("{name}/manifests/{tag}");
        let (status, body) = self.request("PUT", &path, manifest.as_bytes());
        assert_eq!(status, "201", "{}", String::from_utf8_lossy(&body));
    }

    /// The status and the body of the answer to a request that is about a manifest.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it runs");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let head = format!(
            "{method} /v2/{path} HTTP/1.0\r\nAccept: {kind}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it listens");
        stream.write_all(body).expect("it listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = answer.split_off(end.expect("a head ends") + 4);
        let head = String::from_utf8(answer).expect("a head is text");
        let status = head.split(' ').nth(1).expect("it has a status");
        (status.to_owned(), body)
    }

    /// What skopeo says of an image.
    fn inspect(&self, name: &str) -> Value {
        let image = self.image(name);
        let skopeo = Program::new("skopeo").package("skopeo");
        let seen = skopeo.args(["inspect", "--tls-verify=false", &image]);
        json(&seen.output().expect("skopeo reads it"))
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn spawn(world: &World, port: u16) -> Child {
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n",
        world.text("registry")
    );
    fs::write(world.at("registry.yml"), config).expect("there is room");
    let log = |name| File::create(world.at(name)).expect("there is room");
    Command::new("docker-registry")
        .args(["serve", &world.text("registry.yml")])
        .stdout(Stdio::from(log("requests")))
        .stderr(Stdio::from(log("registry.log")))
        .spawn()
        .expect("docker-registry is needed: apt-get install docker-registry")
}

#[test]
fn layers_that_stayed_are_mounted_from_the_repository_of_the_previous_image() {
    let world = World::new();
    fs::write(world.at("root/usr/bin/large"), vec![7; 2 << 20]).expect("there is room");
    let registry = Registry::start(&world);
    let (one, two) = (registry.image("a:v1"), registry.image("b:v2"));
    let written = run(&mut world.chunk(&one));
    assert!(written.status.success(), "{written:?}");
    fs::write(world.at("root/etc/note"), "changed").expect("there is room");
    let written = run(world.chunk(&two).args(["--previous", &one]));
    assert!(written.status.success(), "{written:?}");

    let (before, after) = (registry.inspect("a:v1"), registry.inspect("b:v2"));
    let layers = |image: &Value| image["Layers"].as_array().expect("a list").clone();
    let (before, after) = (layers(&before), layers(&after));
    let kept = after.iter().filter(|layer| before.contains(layer)).count();
    assert_eq!(kept, after.len() - 1, "{after:?}");
    // A new layer and the configuration.
    let told = String::from_utf8_lossy(&written.stdout);
    let expected = format!("sent, {kept} there already");
    assert!(
        told.contains(": 2 blobs (") && told.contains(&expected),
        "{told}"
    );
    assert_eq!(registry.count("POST /v2/b/blobs/uploads/?", "201"), kept);
    assert_eq!(registry.count("PUT /v2/b/blobs/uploads/", "201"), 2);
    let root = world.text("root");
    assert!(succeed(&["chunk", "verify", &root, &two]).starts_with("No difference "));
}
