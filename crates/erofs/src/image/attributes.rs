//! The extended attributes of one inode, all of them.

use crate::tree::MetadataView;

use super::format::{self, overlay};
use super::order::{Order, ROOT, Source};
use super::sharing::Sharing;
use super::xattr::{Value, Xattr};

/// The attributes of an inode; used for one after the other.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    /// Those that are behind the inode, in order.
    local: Vec<Xattr<'a>>,
    /// Places in the table of those that several inodes have alike.
    shared: Vec<usize>,
    filter: u32,
}

/// What the devices `00` to `ff` have of the attributes of the root: its label.
pub(super) fn of_stub<'a>(
    root: MetadataView<'a>,
) -> impl Iterator<Item = (&'a Box<[u8]>, &'a Box<[u8]>)> {
    let label = root.xattrs.get_key_value(&b"security.selinux"[..]);
    label.into_iter()
}

impl<'a> Attributes<'a> {
    /// Takes those of an inode in place of what was there, but for those that name its object.
    pub(super) fn take(&mut self, order: &Order<'a>, source: Source) -> &[Xattr<'a>] {
        self.local.clear();
        self.shared.clear();
        self.filter = 0;
        let metadata = order.metadata(source);
        if matches!(source, Source::Stub) {
            self.push_of_tree(of_stub(metadata));
        } else {
            self.push_of_tree(metadata.xattrs);
        }
        match source {
            Source::Directory(index) => {
                let placed = order.placed(index);
                if placed.has_whiteouts {
                    self.push_marks(&overlay::WHITEOUTS_MARKS);
                }
                if placed.place == ROOT {
                    self.push_marks(&[(overlay::OPAQUE, b"y")]);
                }
            }
            Source::Whiteout(_) => self.push_marks(&overlay::WHITEOUT_MARKS),
            Source::Leaf { .. } | Source::Stub => {}
        }
        &self.local
    }

    /// Takes all of an inode, as the image holds them.
    pub(super) fn take_all(&mut self, order: &Order<'a>, sharing: &Sharing<'a>, source: Source) {
        self.take(order, source);
        if let Some(id) = order.object(source) {
            // What overlayfs needs to find the content and to check it.
            self.push(Xattr::for_overlay(overlay::METACOPY, Value::Metacopy(id)));
            self.push(Xattr::for_overlay(overlay::REDIRECT, Value::Redirect(id)));
        }
        self.local.sort_by(Xattr::order);
        let shares_object = matches!(
            source,
            Source::Leaf {
                shares_object: true,
                ..
            }
        );
        let shared = &mut self.shared;
        self.local.retain(|xattr| {
            if xattr.names_object() && !shares_object {
                return true;
            }
            let place = sharing.place(xattr);
            shared.extend(place);
            place.is_none()
        });
    }

    fn push_of_tree(&mut self, xattrs: impl IntoIterator<Item = (&'a Box<[u8]>, &'a Box<[u8]>)>) {
        for (name, value) in xattrs {
            self.push(Xattr::of_tree(name, value));
        }
    }

    fn push_marks(&mut self, marks: &[(&'static [u8], &'static [u8])]) {
        for (name, value) in marks {
            self.push(Xattr::for_overlay(name, Value::Bytes(value)));
        }
    }

    fn push(&mut self, xattr: Xattr<'a>) {
        self.filter |= xattr.filter_bit();
        self.local.push(xattr);
    }

    /// Bytes that they take behind the inode: a multiple of [`format::XATTR_UNIT`].
    pub(super) fn encoded_len(&self) -> u64 {
        if self.filter == 0 {
            return 0;
        }
        let local: u64 = self.local.iter().map(Xattr::encoded_len).sum();
        format::XATTR_HEADER_LEN + self.shared.len() as u64 * format::XATTR_UNIT + local
    }

    /// What `i_xattr_icount` says, if the attributes fit an image.
    pub(super) fn count(&self) -> Option<u16> {
        if self.shared.len() > usize::from(u8::MAX) {
            return None;
        }
        match self.encoded_len() {
            0 => Some(0),
            length => {
                let units = (length - format::XATTR_HEADER_LEN) / format::XATTR_UNIT;
                u16::try_from(units + 1).ok()
            }
        }
    }

    /// Appends them; `shared_at` holds the places of the shared ones.
    pub(super) fn encode(&self, shared_at: &[u32], out: &mut Vec<u8>) {
        if self.filter == 0 {
            return;
        }
        let [shared_count, ..] = self.shared.len().to_le_bytes();
        out.extend((!self.filter).to_le_bytes());
        out.extend([shared_count, 0, 0, 0, 0, 0, 0, 0]);
        for index in &self.shared {
            out.extend(shared_at[*index].to_le_bytes());
        }
        for xattr in &self.local {
            xattr.encode(out);
            super::encode::pad(out, format::XATTR_UNIT);
        }
    }
}
