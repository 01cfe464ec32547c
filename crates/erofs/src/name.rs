//! Names in directories, in little memory: trees have millions of them, and most are short.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// The longest name that is kept without memory of its own.
const SHORT: usize = 14;

/// A name: bytes that are ordered and compared as such.
///
/// Takes 16 bytes, and more only for what is longer than 14.
#[derive(Clone)]
pub(crate) struct Name(Form);

#[derive(Clone)]
enum Form {
    Short {
        length: u8,
        bytes: [u8; SHORT],
    },
    /// Behind two boxes, of which the outer one is half as long as the inner.
    Long(Box<Box<[u8]>>),
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Short { length, bytes } => &bytes[..usize::from(*length)],
            Form::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(name);
                Self(Form::Short { length, bytes })
            }
            _ => Self(Form::Long(Box::new(name.into()))),
        }
    }
}

impl<const N: usize> From<&[u8; N]> for Name {
    fn from(name: &[u8; N]) -> Self {
        name[..].into()
    }
}

impl From<Vec<u8>> for Name {
    fn from(name: Vec<u8>) -> Self {
        name[..].into()
    }
}

impl From<Box<[u8]>> for Name {
    fn from(name: Box<[u8]>) -> Self {
        name[..].into()
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Debug for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_like_their_bytes(a: Vec<u8>, b: Vec<u8>) {
            let (name, other) = (Name::from(&a[..]), Name::from(&b[..]));
            prop_assert_eq!(&name[..], &a[..]);
            prop_assert_eq!(&name.clone()[..], &a[..]);
            prop_assert_eq!(name.cmp(&other), a.cmp(&b));
            prop_assert_eq!(name == other, a == b);
        }
    }

    #[test]
    fn a_name_takes_sixteen_bytes() {
        assert_eq!(size_of::<Name>(), 16);
        let longest = Name::from(&[b'a'; SHORT]);
        assert!(matches!(longest.0, Form::Short { .. }));
        assert_eq!(*longest, [b'a'; SHORT]);
        let long = Name::from(&[b'a'; SHORT + 1]);
        assert_eq!(*long, [b'a'; SHORT + 1]);
    }
}
