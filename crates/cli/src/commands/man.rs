//! `internals man DIR`: the man pages, made from the arguments.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::args;
use crate::failure::Failure;

/// Writes a page for hull and one for each visible command.
pub(crate) fn write(dir: &Path) -> Result<(), Failure> {
    let mut command = args::command("hull").help_template("");
    command.build();
    write_pages(&command, "hull", dir)
}

fn write_pages(command: &Command, name: &str, dir: &Path) -> Result<(), Failure> {
    write_page(command, name, dir)?;
    for sub in command.get_subcommands() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            write_pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
        }
    }
    Ok(())
}

fn write_page(command: &Command, name: &str, dir: &Path) -> Result<(), Failure> {
    let path = dir.join(format!("{name}.8"));
    let failed = |source| Failure::Write {
        path: path.display().to_string(),
        source,
    };
    let page = Man::new(command.clone()).section("8");
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    page.render(&mut file).map_err(failed)
}
