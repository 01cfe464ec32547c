//! The part of an SELinux policy that says which label a path has.

use std::collections::HashMap;

use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::{LabelError, PolicyFiles};
use crate::fsverity::ObjectId;

/// Files with patterns, the later ones stronger. The first must be there.
const PATTERNS: [&str; 3] = [
    "file_contexts",
    "file_contexts.local",
    "file_contexts.homedirs",
];
/// Files with paths that are labelled as others are.
const SUBSTITUTIONS: [&str; 2] = ["file_contexts.subs", "file_contexts.subs_dist"];

/// The label of what is to have none.
const NO_LABEL: &[u8] = b"<<none>>";

/// Memory for states of the automaton, which is made as it is used.
const CACHE: usize = 10_000_000;
/// Memory for the automaton's program, which a pattern can ask for without bound.
const PROGRAM: usize = 256 << 20;

/// The name of the policy that `/etc/selinux/config` chooses.
pub(super) fn name(config: &[u8]) -> Option<String> {
    String::from_utf8_lossy(config).lines().find_map(|line| {
        // A comment has a '#' before the key, so that the key is another one.
        let (key, value) = line.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("SELINUXTYPE")
            .then(|| value.trim().to_owned())
    })
}

/// Labels by path and type.
pub(super) struct Policy {
    /// Matches a path with the code of a type behind it.
    automaton: DFA,
    cache: Cache,
    /// The labels of its patterns, the strongest first.
    labels: Vec<Box<[u8]>>,
    substitutions: HashMap<Vec<u8>, Vec<u8>>,
}

impl Policy {
    pub(super) fn read<E, R>(
        files: &mut PolicyFiles<'_, R>,
        name: &str,
    ) -> Result<Self, LabelError<E>>
    where
        E: std::error::Error + 'static,
        R: FnMut(&ObjectId, u64) -> Result<Vec<u8>, E>,
    {
        let path = |file: &str| format!("/etc/selinux/{name}/contexts/files/{file}");
        let mut rules = Vec::new();
        for (index, file) in PATTERNS.iter().enumerate() {
            let path = path(file);
            match files.find(&path)? {
                Some(text) => for_each_line(&path, &text, |fields| {
                    rules.push(parse_rule(fields)?);
                    Ok(())
                })?,
                None if index == 0 => return Err(LabelError::NoFile { path }),
                None => {}
            }
        }
        let mut substitutions = HashMap::new();
        for file in SUBSTITUTIONS {
            let path = path(file);
            let Some(text) = files.find(&path)? else {
                continue;
            };
            for_each_line(&path, &text, |fields| {
                let [path, like] = *fields else {
                    return Err("two paths are expected");
                };
                substitutions.insert(path.as_bytes().to_vec(), like.as_bytes().to_vec());
                Ok(())
            })?;
        }
        Self::compile(rules, substitutions)
    }

    fn compile<E: std::error::Error + 'static>(
        mut rules: Vec<Rule>,
        substitutions: HashMap<Vec<u8>, Vec<u8>>,
    ) -> Result<Self, LabelError<E>> {
        rules.reverse();
        let patterns: Vec<&str> = rules.iter().map(|rule| &rule.pattern[..]).collect();
        let automaton = DFA::builder()
            .syntax(
                syntax::Config::new()
                    .unicode(false)
                    .utf8(false)
                    .line_terminator(0),
            )
            .thompson(thompson::Config::new().nfa_size_limit(Some(PROGRAM)))
            .configure(
                Config::new()
                    .cache_capacity(CACHE)
                    .skip_cache_capacity_check(true),
            )
            .build_many(&patterns)
            .map_err(|error| LabelError::Pattern {
                problem: explain(&error),
            })?;
        let cache = automaton.create_cache();
        let labels = rules.into_iter().map(|rule| rule.label).collect();
        Ok(Self {
            automaton,
            cache,
            labels,
            substitutions,
        })
    }

    /// The path that this one is labelled as.
    pub(super) fn substitute(&self, path: Vec<u8>) -> Vec<u8> {
        self.substitutions.get(&path).cloned().unwrap_or(path)
    }

    /// The label of a path with this type, if it is to have one.
    pub(super) fn label(&mut self, path: &[u8], file_type: u8) -> Option<&[u8]> {
        let text = [path, &[file_type]].concat();
        let input = Input::new(&text).anchored(Anchored::Yes);
        // It could fail only if it were told to give up, or at which bytes to.
        let found = self
            .automaton
            .try_search_fwd(&mut self.cache, &input)
            .ok()??;
        let label = &self.labels[found.pattern().as_usize()];
        (**label != *NO_LABEL).then_some(label)
    }
}

/// A pattern over path and type, and the label of what it matches.
struct Rule {
    pattern: String,
    label: Box<[u8]>,
}

/// A regular expression, perhaps the type that it is for, and a label.
fn parse_rule(fields: &[&str]) -> Result<Rule, &'static str> {
    let (pattern, label) = match *fields {
        [path, label] if !label.starts_with('-') => (format!("^({path}).$"), label),
        [path, file_type, label] => {
            let code = file_type
                .strip_prefix('-')
                .ok_or("there is more after the label")?;
            if !matches!(code, "b" | "c" | "d" | "p" | "l" | "s" | "-") {
                return Err("the type must be one of -b -c -d -p -l -s --");
            }
            (format!("^({path}){code}$"), label)
        }
        _ => return Err("a pattern, perhaps a type, and a label are expected"),
    };
    Ok(Rule {
        pattern,
        label: label.as_bytes().into(),
    })
}

/// Gives the fields of each line that is no comment to `parse`.
fn for_each_line<E: std::error::Error + 'static>(
    path: &str,
    text: &[u8],
    mut parse: impl FnMut(&[&str]) -> Result<(), &'static str>,
) -> Result<(), LabelError<E>> {
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let invalid = |problem| LabelError::Line {
            path: path.to_owned(),
            line: number,
            problem,
        };
        let line = std::str::from_utf8(line).map_err(|_| invalid("it is no UTF-8"))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.first().is_some_and(|first| !first.starts_with('#')) {
            parse(&fields).map_err(invalid)?;
        }
    }
    Ok(())
}

/// An error with all that is behind it: the engine says there what the pattern is.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
