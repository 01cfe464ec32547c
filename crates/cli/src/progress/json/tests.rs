//! The lines, and who does not read them.

use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use serde_json::Value;

use super::super::Shown;
use super::*;

fn pulling(layers: u64) -> Task {
    let amount = |total| Amount {
        total,
        ..Amount::default()
    };
    Task {
        name: "pulling",
        description: "Pulling registry.example/os".to_owned(),
        id: "registry.example/os".to_owned(),
        bytes: Some(amount(layers * 1000)),
        steps: amount(layers),
        parts: Vec::new(),
    }
}

fn layer(id: &str) -> Part {
    Part {
        name: "layer",
        description: format!("Layer {id}"),
        id: id.to_owned(),
        amount: Amount {
            total: 1000,
            ..Amount::default()
        },
        completed: false,
    }
}

/// Pulls so many layers of 1000 bytes, a byte at a time.
fn work(shown: &Shown, layers: u64) {
    let tracker = shown.tracker();
    tracker.begin(pulling(layers));
    for n in 0..layers {
        let id = format!("sha256:{n}");
        tracker.begin_part(layer(&id));
        for byte in 1..=1000 {
            tracker.reach(&id, byte);
        }
        tracker.end_part(&id);
    }
    tracker.begin(Task {
        name: "staging",
        description: "Staging".to_owned(),
        id: "staging".to_owned(),
        steps: Amount {
            total: 2,
            ..Amount::default()
        },
        ..Task::default()
    });
}

fn lines(reader: std::io::PipeReader) -> Vec<Value> {
    let lines = BufReader::new(reader).lines();
    lines
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect()
}

#[test]
fn the_lines_are_those_of_bootcs_schema() {
    let (reader, writer) = std::io::pipe().unwrap();
    let shown = Shown::to_fd(writer.into());
    work(&shown, 3);
    drop(shown);
    let lines = lines(reader);
    assert_eq!(
        lines[0],
        serde_json::json!({"type": "Start", "version": "0.1.0"})
    );
    for line in &lines[1..] {
        let mut keys: Vec<_> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        let expected: &[&str] = match line["type"].as_str().unwrap() {
            "ProgressBytes" => &[
                "bytes",
                "bytesCached",
                "bytesTotal",
                "description",
                "id",
                "steps",
                "stepsCached",
                "stepsTotal",
                "subtasks",
                "task",
                "type",
            ],
            "ProgressSteps" => &[
                "description",
                "id",
                "steps",
                "stepsCached",
                "stepsTotal",
                "subtasks",
                "task",
                "type",
            ],
            other => panic!("{other}"),
        };
        assert_eq!(keys, expected);
    }
    let bytes = lines
        .iter()
        .rfind(|line| line["type"] == "ProgressBytes")
        .unwrap();
    assert_eq!(
        (&bytes["bytes"], &bytes["bytesTotal"]),
        (&3000.into(), &3000.into())
    );
    assert_eq!(lines.last().unwrap()["task"], "staging");
}

#[test]
fn parts_have_the_fields_of_their_kind() {
    let mut task = pulling(1);
    task.parts.push(layer("sha256:1"));
    let value = serde_json::to_value(event(&task)).unwrap();
    let expected = serde_json::json!([{
        "subtask": "layer", "description": "Layer sha256:1", "id": "sha256:1",
        "bytesCached": 0, "bytes": 0, "bytesTotal": 1000,
    }]);
    assert_eq!(value["subtasks"], expected);
    task.bytes = None;
    let value = serde_json::to_value(event(&task)).unwrap();
    let expected = serde_json::json!([{
        "subtask": "layer", "description": "Layer sha256:1", "id": "sha256:1", "completed": false,
    }]);
    assert_eq!(value["subtasks"], expected);
}

#[test]
fn a_reader_that_is_stuck_holds_up_nothing() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // Leaves no room for a line, so that the very first write blocks.
    let capacity = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'x'; capacity]).unwrap();
    let start = Instant::now();
    let shown = Shown::to_fd(writer.into());
    work(&shown, 100);
    let worked = start.elapsed();
    drop(shown);
    let ended = start.elapsed();
    assert!(worked.as_secs() < 5, "the work took {worked:?}");
    assert!(
        ended - worked < Duration::from_secs(20),
        "the end took {:?}",
        ended - worked
    );
    drop(reader);
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let shown = Shown::to_fd(writer.into());
    work(&shown, 3);
}

#[test]
fn no_more_than_five_looks_a_second_are_written() {
    let (reader, writer) = std::io::pipe().unwrap();
    let shown = Shown::to_fd(writer.into());
    let start = Instant::now();
    shown.tracker().begin(pulling(1));
    shown.tracker().begin_part(layer("sha256:1"));
    let mut bytes = 0;
    while start.elapsed() < Duration::from_millis(1100) {
        bytes += 1;
        shown.tracker().reach("sha256:1", bytes);
    }
    drop(shown);
    let seconds = start.elapsed().as_secs_f64();
    let count = lines(reader).len();
    // The first line, and what is written at the end.
    assert!(
        (count as f64) <= seconds * 5.0 + 3.0,
        "{count} lines in {seconds} s"
    );
}
