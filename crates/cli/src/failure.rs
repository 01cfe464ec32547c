//! Everything that can end a command, with its cause.

use std::io;

/// Why a command could not be done. `hints` says what to do about each.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Standard output can't be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    /// A result can't be put into words.
    #[error("the result cannot be written in this format")]
    Serialize(#[source] serde_json::Error),
    /// A file that hull makes can't be written.
    #[error("{path} cannot be written")]
    Write {
        /// The file.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file that was named can't be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The command line asks for what is not there yet.
    #[error("{option} cannot be used: {reason}")]
    Refused {
        /// The option or argument.
        option: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// `help` was asked about a command that does not exist.
    #[error("there is no command {0:?}")]
    NoCommand(String),
}
