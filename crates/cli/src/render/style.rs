//! Colours, where they are wanted.

/// Whether text is coloured; plain by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// Colours where `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        Self { coloured: wanted }
    }

    /// What the eye should find first.
    pub(crate) fn strong(self, text: &str) -> String {
        self.sgr("1", text)
    }

    /// What is there for completeness.
    pub(crate) fn faint(self, text: &str) -> String {
        self.sgr("2", text)
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.sgr("32", text)
    }

    /// Somebody should look at it.
    pub(crate) fn warning(self, text: &str) -> String {
        self.sgr("33", text)
    }

    /// It is wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.sgr("1;31", text)
    }

    /// ECMA-48 "select graphic rendition".
    fn sgr(self, code: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
