//! What the `composefs` crates make of a dump file, for tests that can't link them.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

const USAGE: &str = "\
usage: hull-oracle image-id DUMPFILE        the digest of the image, format V1
       hull-oracle boot-image-id DUMPFILE   the same, of the tree as transformed for boot
       hull-oracle image DUMPFILE OUT       the image itself
The dump file is that of a tree merged from layers; image-id takes it as it is,
boot-image-id transforms it as composefs-oci and composefs-boot do.";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["image-id", dump] => println!("{}", hull_oracle::digest(&image(dump)?)),
        ["boot-image-id", dump] => println!("{}", hull_oracle::boot_image_id(&read(dump)?)?),
        ["image", dump, out] => {
            std::fs::write(out, image(dump)?).with_context(|| format!("writing {out}"))?;
        }
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn image(dump: &str) -> Result<Box<[u8]>> {
    hull_oracle::write_image(hull_oracle::parse_dump(&read(dump)?)?)
}

fn read(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {path}"))
}
