//! Makes the inputs to start from that are not text: images of the dumps that are kept, and archives.
//!
//! Usage: `seeds CORPUS OUT` writes `OUT/<target>/<name>`.

use std::path::Path;
use std::{env, fs};

use tar::{Builder, EntryType, Header};

fn main() {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [corpus, out] = &arguments[..] else {
        panic!("usage: seeds CORPUS OUT");
    };
    images(Path::new(corpus), Path::new(out));
    archives(Path::new(out));
    keep(Path::new(out), "rpm_header", "package", &rpm_header());
}

/// A package with a file and a directory.
fn rpm_header() -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> {
        let bytes = words.iter().flat_map(|word| word.to_be_bytes());
        bytes.collect()
    };
    let values: [(u32, u32, u32, Vec<u8>); 8] = [
        (1000, 6, 1, b"bash\0".to_vec()),
        (1006, 4, 1, words(&[1_700_000_000])),
        (1030, 3, 2, words(&[0o100_644 << 16 | 0o40_755])),
        (1037, 4, 2, words(&[0, 64])),
        (1044, 6, 1, b"bash-5-1.src.rpm\0".to_vec()),
        (1116, 4, 2, words(&[0, 1])),
        (1117, 8, 2, b"bash\0lib\0".to_vec()),
        (1118, 8, 2, b"/usr/bin/\0/\0".to_vec()),
    ];
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, count, bytes) in &values {
        let offset = u32::try_from(data.len()).expect("it is short");
        index.extend(words(&[*tag, *kind, offset, *count]));
        data.extend(bytes);
    }
    let length = u32::try_from(data.len()).expect("it is short");
    [words(&[8, length]), index, data].concat()
}

fn keep(out: &Path, target: &str, name: &str, content: &[u8]) {
    let dir = out.join(target);
    fs::create_dir_all(&dir).expect("the place for seeds can be made");
    fs::write(dir.join(name), content).expect("a seed can be written");
}

fn images(corpus: &Path, out: &Path) {
    for entry in fs::read_dir(corpus.join("dump")).expect("there are dumps") {
        let path = entry.expect("the directory can be read").path();
        let dump = fs::read(&path).expect("a dump can be read");
        // What the fuzzer found may be no dump, or no image.
        let Ok(tree) = hull_erofs::dump::parse(&dump) else {
            continue;
        };
        let Ok(image) = hull_erofs::image::write(&tree) else {
            continue;
        };
        let name = path.file_name().expect("it is in a directory");
        keep(out, "erofs", &name.to_string_lossy(), &image);
    }
}

/// One archive for each kind of member.
fn archives(out: &Path) {
    let kinds = [
        ("file", EntryType::Regular),
        ("directory", EntryType::Directory),
        ("symlink", EntryType::Symlink),
        ("hardlink", EntryType::Link),
        ("device", EntryType::Char),
        ("fifo", EntryType::Fifo),
        ("pax", EntryType::XHeader),
        ("global", EntryType::XGlobalHeader),
        ("longname", EntryType::GNULongName),
        ("longlink", EntryType::GNULongLink),
        ("sparse", EntryType::GNUSparse),
    ];
    for (name, kind) in kinds {
        for (format, header) in [("gnu", Header::new_gnu()), ("ustar", Header::new_ustar())] {
            let archive = archive(header, kind);
            let name = format!("{name}-{format}");
            keep(out, "tar", &name, &archive);
            let mut record = archive;
            // What `layer_record` takes from the end: that it is well-formed.
            record.push(1);
            keep(out, "layer_record", &name, &record);
        }
    }
}

fn archive(header: Header, kind: EntryType) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let data: &[u8] = match kind {
        EntryType::XHeader | EntryType::XGlobalHeader => {
            b"30 mtime=1700000000.123456789\n17 path=etc/name\n36 SCHILY.xattr.user.name=some value\n"
        }
        EntryType::GNULongName | EntryType::GNULongLink => b"usr/share/a-long-name\0",
        EntryType::Regular | EntryType::GNUSparse => &[7; 700],
        _ => b"",
    };
    append(&mut builder, header.clone(), kind, "usr/bin/name", data);
    append(
        &mut builder,
        header.clone(),
        EntryType::Regular,
        "usr/bin/next",
        b"next",
    );
    append(
        &mut builder,
        header,
        EntryType::Regular,
        "usr/.wh.gone",
        b"",
    );
    builder.into_inner().expect("it is in memory")
}

fn append(
    builder: &mut Builder<Vec<u8>>,
    mut header: Header,
    kind: EntryType,
    name: &str,
    data: &[u8],
) {
    header.set_entry_type(kind);
    header.set_path(name).expect("the name is short");
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(data.len() as u64);
    if kind == EntryType::Symlink || kind == EntryType::Link {
        header
            .set_link_name("usr/bin/target")
            .expect("the name is short");
    }
    if kind == EntryType::Char {
        header.set_device_major(1).expect("both formats have it");
        header.set_device_minor(3).expect("both formats have it");
    }
    header.set_cksum();
    builder.append(&header, data).expect("it is in memory");
}
