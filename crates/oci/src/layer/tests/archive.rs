//! Tar archives made by hand, right and wrong ones.

/// A member as it is to be written.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) name: Vec<u8>,
    pub(super) flag: u8,
    pub(super) link: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// What the size field says, if not the length of the data.
    pub(super) size: Option<u64>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) device: (u32, u32),
    /// Records of an extended header in front.
    pub(super) pax: Vec<(String, Vec<u8>)>,
    /// With the magic of GNU instead of that of POSIX.
    pub(super) gnu: bool,
    /// What to write over the block before its checksum is made.
    pub(super) patches: Vec<(usize, Vec<u8>)>,
}

pub(super) fn member(name: impl AsRef<[u8]>, flag: u8) -> Made {
    Made {
        name: name.as_ref().to_vec(),
        flag,
        link: Vec::new(),
        data: Vec::new(),
        size: None,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        device: (0, 0),
        pax: Vec::new(),
        gnu: false,
        patches: Vec::new(),
    }
}

pub(super) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Made {
    let mut made = member(name, b'0');
    made.data = data.as_ref().to_vec();
    made
}

pub(super) fn directory(name: impl AsRef<[u8]>) -> Made {
    let mut made = member(name, b'5');
    made.mode = 0o755;
    made
}

pub(super) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Made {
    let mut made = member(name, b'2');
    made.link = target.as_ref().to_vec();
    made.mode = 0o777;
    made
}

pub(super) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Made {
    let mut made = member(name, b'1');
    made.link = target.as_ref().to_vec();
    made
}

pub(super) fn device(name: impl AsRef<[u8]>, flag: u8, major: u32, minor: u32) -> Made {
    let mut made = member(name, flag);
    made.device = (major, minor);
    made
}

impl Made {
    pub(super) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub(super) fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    pub(super) fn gnu(mut self) -> Self {
        self.gnu = true;
        self
    }

    pub(super) fn patch(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.patches.push((at, bytes.as_ref().to_vec()));
        self
    }

    /// The blocks of the member, with its extended header and its data.
    pub(super) fn blocks(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.pax.is_empty() {
            let records: Vec<u8> = self
                .pax
                .iter()
                .flat_map(|(key, value)| pax_record(key, value))
                .collect();
            let mut header = member("PaxHeaders/x", b'x');
            header.data = records;
            bytes.extend(header.blocks());
        }
        bytes.extend(self.header());
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.uid).as_bytes());
        put(116, format!("{:07o}\0", self.gid).as_bytes());
        let size = self.size.unwrap_or(self.data.len() as u64);
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(
            257,
            if self.gnu {
                b"ustar  \0"
            } else {
                b"ustar\x0000"
            },
        );
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        for (at, bytes) in &self.patches {
            put(*at, bytes);
        }
        put_checksum(&mut block);
        block
    }
}

pub(super) fn put_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(super) fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..)
        .find(|digits| (rest + digits).to_string().len() == *digits)
        .unwrap()
        + rest;
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A header of GNU with a long name (`L`) or a long target (`K`).
pub(super) fn long(flag: u8, text: impl AsRef<[u8]>) -> Made {
    let mut made = member("././@LongLink", flag).gnu();
    made.data = [text.as_ref(), b"\0"].concat();
    made
}

/// A whole archive.
pub(super) fn tar(members: &[Made]) -> Vec<u8> {
    let mut bytes = open_end(members);
    bytes.extend([0; 1024]);
    bytes
}

/// An archive without the blocks that end it.
pub(super) fn open_end(members: &[Made]) -> Vec<u8> {
    members.iter().flat_map(Made::blocks).collect()
}
