//! Kernel arguments that an image asks for (`/usr/lib/bootc/kargs.d/*.toml`),
//! and how a machine's own arguments live through updates.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KargsFile {
    #[serde(default)]
    kargs: Vec<String>,
    match_architectures: Option<Vec<String>>,
}

/// A kargs.d file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KargsError {
    /// It is not TOML of the expected form.
    #[error("kernel arguments in {file}: {source}")]
    Syntax {
        /// The file's name.
        file: String,
        /// What the parser says.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An argument holds a line break or a NUL.
    #[error("kernel arguments in {file}: {argument:?} holds a control character")]
    ControlCharacter {
        /// The file's name.
        file: String,
        /// The argument.
        argument: String,
    },
}

/// Reads the files of a kargs.d directory, given as (name, text), in the order
/// of their names; those for other architectures are left out.
///
/// `architecture` is Rust's word for it (`x86_64`), as in bootc's files.
pub fn from_files(
    files: &[(String, String)],
    architecture: &str,
) -> Result<Vec<String>, KargsError> {
    let mut sorted: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.ends_with(".toml"))
        .collect();
    sorted.sort();
    let mut arguments = Vec::new();
    for (file, text) in sorted {
        let parsed: KargsFile = toml::from_str(text).map_err(|source| KargsError::Syntax {
            file: file.clone(),
            source: Box::new(source),
        })?;
        let applies = parsed
            .match_architectures
            .is_none_or(|list| list.iter().any(|name| name == architecture));
        if !applies {
            continue;
        }
        for argument in parsed.kargs {
            if argument.chars().any(char::is_control) {
                let file = file.clone();
                return Err(KargsError::ControlCharacter { file, argument });
            }
            arguments.extend(argument.split_whitespace().map(str::to_owned));
        }
    }
    Ok(arguments)
}

/// The arguments of a new deployment: those of the running one, less what its
/// image asked for and the new one does not, plus what only the new one asks for.
///
/// So what somebody added by hand stays, and what they removed of the old
/// image's arguments does not come back.
pub fn carry_over(current: &[String], old_image: &[String], new_image: &[String]) -> Vec<String> {
    let mut arguments: Vec<String> = current
        .iter()
        .filter(|argument| !old_image.contains(argument) || new_image.contains(argument))
        .cloned()
        .collect();
    for argument in new_image {
        if !old_image.contains(argument) && !arguments.contains(argument) {
            arguments.push(argument.clone());
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn files_apply_in_the_order_of_their_names_and_by_architecture() {
        let files = [
            ("20-b.toml".to_owned(), "kargs = [\"b\"]".to_owned()),
            (
                "10-a.toml".to_owned(),
                "kargs = [\"a=1\", \"c\"]".to_owned(),
            ),
            (
                "30-arm.toml".to_owned(),
                "kargs = [\"arm\"]\nmatch-architectures = [\"aarch64\"]".to_owned(),
            ),
            ("README".to_owned(), "not toml".to_owned()),
        ];
        assert_eq!(from_files(&files, "x86_64").unwrap(), words("a=1 c b"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_file_name() {
        let files = [("x.toml".to_owned(), "kargz = []".to_owned())];
        let error = from_files(&files, "x86_64").unwrap_err().to_string();
        assert!(
            error.contains("x.toml") && error.contains("kargz"),
            "{error}"
        );
    }

    #[test]
    fn local_changes_live_through_an_update() {
        let current = words("mine=1 kept");
        let old = words("dropped-by-me kept gone-in-new");
        let new = words("dropped-by-me kept added");
        assert_eq!(carry_over(&current, &old, &new), words("mine=1 kept added"));
    }
}
