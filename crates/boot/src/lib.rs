//! What makes a machine boot a composefs image.
//!
//! Before the reboot: the record of a deployment, boot entries, the ESP,
//! kernel arguments, the dry `/etc` merge. At boot, in the initrd:
//! setup-root, which mounts the image and puts it in place of the physical root.

#![forbid(unsafe_code)]

pub mod accounts;
pub mod cmdline;
pub mod entry;
pub mod esp;
pub mod etc_merge;
pub mod initrd;
pub mod kargs;
pub mod kernel;
pub mod loader;
pub mod modes;
pub mod record;
pub mod setup_root;
