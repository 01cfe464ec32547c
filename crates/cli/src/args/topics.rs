//! `hull help`: the commands, grouped by who uses them.

use clap::Command;

/// A headline and the commands below it.
const TOPICS: &[(&str, &[&str])] = &[
    (
        "This machine",
        &[
            "status", "upgrade", "switch", "rollback", "history", "pin", "gc", "fsck",
        ],
    ),
    (
        "Install",
        &["install to-disk", "install print-configuration"],
    ),
    (
        "Build",
        &[
            "chunk",
            "chunk report",
            "chunk verify",
            "build-chunked-oci",
            "container lint",
        ],
    ),
    (
        "Images",
        &[
            "image list",
            "image pull",
            "image push",
            "image copy",
            "image rm",
        ],
    ),
    ("More", &["completion", "help"]),
];

/// Gives the top command a help text with its commands by topic.
pub(super) fn describe(command: Command) -> Command {
    let list = list(&command);
    let name = command.get_name().to_owned();
    command
        .override_usage(format!("{name} [OPTIONS] <COMMAND>"))
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}Options:\n{{options}}\n\n\
         `{name} help COMMAND` explains a command, with examples.\n"
        ))
}

fn list(command: &Command) -> String {
    let mut text = String::new();
    for (headline, names) in TOPICS {
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        text.push_str(&format!("{headline}:\n"));
        for name in *names {
            let about = find(command, name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {name:width$}  {about}\n"));
        }
        text.push('\n');
    }
    text
}

/// The command of that path, such as `install to-disk`.
pub(super) fn find<'a>(command: &'a Command, path: &str) -> Option<&'a Command> {
    path.split(' ')
        .try_fold(command, |command, name| command.find_subcommand(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            leaves(sub, &path, found);
            if !sub.is_subcommand_required_set() {
                found.push(path.trim_start().to_owned());
            }
        }
    }

    #[test]
    fn every_command_has_its_place_in_the_help() {
        let command = crate::args::command("hull");
        let mut there = Vec::new();
        leaves(&command, "", &mut there);
        let mut listed: Vec<String> = TOPICS
            .iter()
            .flat_map(|(_, names)| names.iter().map(ToString::to_string))
            .collect();
        there.sort();
        listed.sort();
        assert_eq!(there, listed);
    }
}
